"""Draw panels of tiles with their predictions, and figures of a split's scores."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pointcover.evaluation.accumulate import SplitCounts
from pointcover.figures import (
    Fractions,
    Rgb,
    draw_classes,
    draw_confusion,
    draw_panel,
    draw_reliability,
    view_click_errors,
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

Caption = tuple[str, str]
"""Name of a panel's file, without ending, and title of the panel."""


@dataclass(frozen=True)
class PanelStyle:
    """How the masks of panels are titled and drawn."""

    classes: ClassTable
    truth: str
    """Title of the masks."""
    is_dense: bool
    """Whether masks are dense; otherwise single labels are drawn enlarged."""


def draw_figures(
    folder: Path, counts: SplitCounts, names: Sequence[str], left_out: Sequence[str]
) -> None:
    """Draw a split's confusion matrix, scores by class and reliability diagram."""
    confusion = counts.confusions.sum(axis=0)
    draw_confusion(folder / "confusion.png", confusion, names)
    draw_classes(folder / "classes.png", split_scores(confusion, names, left_out)["by_class"])
    bins = reliability(counts.confidences)
    draw_reliability(
        folder / "reliability.png",
        [entry._asdict() for entry in bins],
        expected_calibration_error(bins),
    )


def caption_scored(
    kind: str,
    counts: SplitCounts,
    places: Sequence[int],
    names: Sequence[str],
    left_out: Sequence[str],
) -> list[Caption]:
    """Return captions of scored tiles, with their scores.

    Args:
        kind: first part of the files' names.
        counts: of all scored tiles.
        places: indices of the tiles to draw.
        names: of all classes.
        left_out: names of classes that are not scored.
    """
    captions = []
    files = name_panels(kind, [counts.tiles[place].id for place in places])
    for name, place in zip(files, places, strict=True):
        scores = split_scores(counts.confusions[place], names, left_out)
        shown = ", ".join(
            f"{label} {scores[key]:.2f}"
            for key, label in (("accuracy", "accuracy"), ("miou", "mIoU"))
            if scores[key] is not None
        )
        tile = counts.tiles[place]
        captions.append((name, f"{tile.id} ({tile.region}): {shown or 'no labels'}"))
    return captions


def name_panels(kind: str, ids: Sequence[str]) -> list[str]:
    """Return file names of kind, number and tile, such as worst_1_Tile-3-0001_7.

    Characters that are not valid in file names are replaced; the numbers keep the names distinct.

    Args:
        kind: such as `worst`.
        ids: of the tiles, in the order of the numbers.
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
    style: PanelStyle,
    sparse: TileDataset | None = None,
) -> None:
    """Write a PNG for each tile: image, masks, prediction, errors and confidence.

    Args:
        folder: of the PNGs.
        captions: one for each tile.
        predicted: batches of the tiles, in the order of the captions.
        style: of the masks.
        sparse: the same tiles with the sparse labels of training, to draw these, too.
    """
    classes, is_dense = style.classes, style.is_dense
    for number, ((name, title), (image, mask, prediction, confidence)) in enumerate(
        zip(captions, _single(predicted), strict=True)
    ):
        picture, labels, guessed = (part.cpu().numpy() for part in (image, mask, prediction))
        views: list[tuple[str, Rgb | Fractions]] = [("image", view_image(picture))]
        if is_dense:
            views.append((style.truth, view_mask(labels, classes)))
        elif sparse is None:
            views.append((style.truth, view_clicks(labels, classes)))
        if sparse is not None:
            learned = sparse[number][1].numpy()
            views.append(("sparse masks (training labels)", view_clicks(learned, classes)))
        views.append(("prediction", view_mask(guessed, classes)))
        if is_dense:
            views.append(("errors (red)", view_errors(guessed, labels)))
        elif sparse is None:
            views.append(("wrong (red), correct (blue)", view_click_errors(guessed, labels)))
        views.append(("confidence", confidence.float().cpu().numpy()))
        draw_panel(folder / f"{name}.png", title, views, classes)


def _single(predicted: Iterable[Predicted]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for batch in predicted:
        yield from zip(*batch, strict=True)
