"""Panels: what a network makes of single tiles, and figures of what it makes of all."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from pointcover.evaluation.accumulate import Tally
from pointcover.evaluation.summary import DENSE, HELD_OUT
from pointcover.figures import (
    Rgb,
    Shares,
    draw_classes,
    draw_confusion,
    draw_panel,
    draw_reliability,
    spread_evenly,
    view_clicks,
    view_errors,
    view_image,
    view_mask,
)
from pointcover.labels import ClassTable
from pointcover.metrics.calibration import expected_calibration_error, reliability
from pointcover.metrics.scores import split_scores
from pointcover.prediction.predict import Predicted
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import read_index

Caption = tuple[str, str]
"""Name of a panel's file, without its ending, and its title."""


def draw_figures(folder: Path, tally: Tally, names: Sequence[str], left_out: Sequence[str]) -> None:
    """Draw a split's confusion matrix, scores by class and reliability curve."""
    confusion = tally.confusions.sum(axis=0)
    draw_confusion(folder / "confusion.png", confusion, names)
    draw_classes(folder / "classes.png", split_scores(confusion, names, left_out)["by_class"])
    bins = reliability(tally.confidences)
    draw_reliability(
        folder / "reliability.png",
        [entry._asdict() for entry in bins],
        expected_calibration_error(bins),
    )


def draw_scored_tiles(
    folder: Path,
    kind: str,
    tally: Tally,
    places: Sequence[int],
    predicted: Iterable[Predicted],
    classes: ClassTable,
    left_out: Sequence[str],
    is_dense: bool,
) -> None:
    """Draw tiles that were scored, with their scores in the title.

    Args:
        folder: where to.
        kind: begins the files' names.
        tally: of all scored tiles.
        places: of those to draw, in it.
        predicted: batches of these tiles. They are predicted again, since the pass over the split
            keeps no pixel.
        classes: names and colours.
        left_out: names of classes that are not scored.
        is_dense: whether they were scored on dense masks.
    """
    captions = []
    names = name_panels(kind, [tally.tiles[place].id for place in places])
    for name, place in zip(names, places, strict=True):
        scores = split_scores(tally.confusions[place], classes.names, left_out)
        said = ", ".join(
            f"{label} {scores[key]:.2f}"
            for key, label in (("accuracy", "accuracy"), ("miou", "mIoU"))
            if scores[key] is not None
        )
        tile = tally.tiles[place]
        captions.append((name, f"{tile.id} ({tile.region}): {said or 'nothing to score'}"))
    truth = DENSE if is_dense else HELD_OUT
    draw_panels(folder, captions, predicted, classes, truth, is_dense=is_dense)


def draw_train_tiles(
    folder: Path,
    count: int,
    tile_folder: Path,
    sparse_folder: Path,
    size_px: int,
    classes: ClassTable,
    predict_tiles: Callable[[TileDataset], Iterable[Predicted]],
) -> None:
    """Draw tiles of the train split: what was learned from beside what became of it.

    Args:
        folder: where to.
        count: how many, evenly over the tiles with labels.
        tile_folder: of the tile set.
        sparse_folder: of the sparse masks.
        size_px: height and width of a tile.
        classes: names and colours.
        predict_tiles: gives batches of a dataset's tiles.
    """
    tiles = [tile for tile in read_index(sparse_folder / "index.csv") if tile.split == "train"]
    chosen = spread_evenly([tile for tile in tiles if sum(tile.pixels)], count)
    is_dense = any(sum(tile.pixels) for tile in read_index(tile_folder / "index.csv"))
    images = tile_folder / "images"
    sparse = TileDataset(chosen, images, sparse_folder / "masks", size_px)
    dense = TileDataset(chosen, images, tile_folder / "masks", size_px)
    titles = [f"{tile.id} ({tile.region}), of the train split" for tile in chosen]
    names = name_panels("train", [tile.id for tile in chosen])
    draw_panels(
        folder,
        list(zip(names, titles, strict=True)),
        predict_tiles(dense if is_dense else sparse),
        classes,
        DENSE,
        is_dense=is_dense,
        sparse=sparse,
    )


def name_panels(kind: str, ids: Sequence[str]) -> list[str]:
    """Name files by kind, number and tile: worst_1_Tile-3-0001_7; any id makes a name that works.

    Args:
        kind: such as `worst`.
        ids: of the tiles, in the order of the numbers, which tell apart what looks alike in names.
    """
    digits = len(str(len(ids)))
    return [
        f"{kind}_{number:0{digits}}_{re.sub(r'[^A-Za-z0-9._]+', '-', name)}"
        for number, name in enumerate(ids, start=1)
    ]


def draw_panels(
    folder: Path,
    captions: Sequence[Caption],
    predicted: Iterable[Predicted],
    classes: ClassTable,
    truth: str,
    *,
    is_dense: bool,
    sparse: TileDataset | None = None,
) -> None:
    """Write a PNG for each tile: image, masks, prediction, errors and confidence.

    Args:
        folder: where to.
        captions: one a tile.
        predicted: batches of the tiles in the order of the captions.
        classes: names and colours.
        truth: what the masks are called.
        is_dense: single pixels are drawn larger otherwise; masks without a label are left out.
        sparse: the same tiles with the labels that were learned from, where they are to be shown.
    """
    for number, ((name, title), (image, mask, prediction, confidence)) in enumerate(
        zip(captions, _single(predicted), strict=True)
    ):
        picture, labels, guessed = (part.cpu().numpy() for part in (image, mask, prediction))
        views: list[tuple[str, Rgb | Shares]] = [("image", view_image(picture))]
        if is_dense:
            views.append((truth, view_mask(labels, classes)))
        elif sparse is None:
            views.append((truth, view_clicks(labels, classes)))
        if sparse is not None:
            learned = sparse[number][1].numpy()
            views.append(("sparse masks (learned from)", view_clicks(learned, classes)))
        views.append(("prediction", view_mask(guessed, classes)))
        if is_dense or sparse is None:
            views.append(("errors (red)", view_errors(guessed, labels)))
        views.append(("confidence", confidence.float().cpu().numpy()))
        draw_panel(folder / f"{name}.png", title, views, classes)


def _single(predicted: Iterable[Predicted]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for batch in predicted:
        yield from zip(*batch, strict=True)
