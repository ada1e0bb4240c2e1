"""Self-training: what the network of one round is sure of is labelled for the next round's.

Each round is a fit from the first weights, with the same seed. In the end the last round's counts.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import ClassTable, Image, Mask, count_pixels
from pointcover.raster.raster_io import RasterReader, mirror, write_mask
from pointcover.runtime.atomic_files import publish_folder
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import Tile, raster_path
from pointcover.training.fit import EpochResult, Fitted, State
from pointcover.training.pseudo_labels import label_confident

logger = logging.getLogger(__name__)

Report = Callable[[EpochResult], None]
Save = Callable[[int, State], None]
View = tuple[Image, Mask, int, int]
"""What `TileDataset.read_around` gives."""


@dataclass(frozen=True)
class Labels:
    """What a round learns from."""

    tiles: Sequence[Tile]
    """Of the train split, with their labelled pixels counted."""
    masks: Path
    """The folder of their masks."""
    has_propagated: bool
    """Whether labels are among them that nobody clicked."""

    @property
    def labelled(self) -> list[Tile]:
        """Return the tiles that crops are drawn from: those with a label."""
        return [tile for tile in self.tiles if sum(tile.pixels)]


def fit_in_rounds(
    rounds: int,
    labels: Labels,
    fit_round: Callable[[Labels, Report, State | None, Save | None], Fitted],
    relabel: Callable[[dict[str, Tensor]], Labels],
    report: Report,
    saved: State | None = None,
    save: Save | None = None,
) -> tuple[Fitted, Labels]:
    """Fit, then label and fit again, so many times. Epochs are numbered on over the rounds.

    A state is that of the round's fit, with the number of the round, the weights that labelled for
    it and the epochs of the rounds before: the same weights give the same labels again, so a
    training that goes on ends as one that was not interrupted.

    Args:
        rounds: of labelling; 0 is a plain fit.
        labels: of the first fit.
        fit_round: fits a new network on labels; its arguments are those of `training.fit`.
        relabel: adds to the first labels what a network with these weights is sure of.
        report: is called after each epoch, and first for each that `saved` holds.
        saved: the state to go on from, which `save` was given.
        save: is called with each epoch's number and the state after it.

    Returns:
        What the last round came to, and the labels that it learned from.
    """
    first = 0
    labeller: dict[str, Tensor] | None = None
    state: State | None = None
    done: list[EpochResult] = []
    if saved is not None:
        first, labeller, state = saved["round"], saved["labeller"], saved["state"]
        done = [EpochResult(**values) for values in saved["done"]]
    for result in done:
        report(result)
    for number in range(first, rounds + 1):
        if labeller is not None:
            logger.info("round %d of %d: labelling", number, rounds)
            labels = relabel(labeller)
        before = {
            "round": number,
            "labeller": labeller,
            "done": [asdict(result) for result in done],
        }
        fitted, results = _fit_one(len(done), before, labels, fit_round, report, state, save)
        kept = replace(fitted.kept, epoch=len(done) + fitted.kept.epoch)
        done, labeller, state = [*done, *results], fitted.weights, None
    return replace(fitted, kept=kept), labels


def _fit_one(
    epochs: int,
    before: dict[str, Any],
    labels: Labels,
    fit_round: Callable[..., Fitted],
    report: Report,
    state: State | None,
    save: Save | None,
) -> tuple[Fitted, list[EpochResult]]:
    """Fit one round after so many epochs; give its end and its epochs, numbered on."""
    results = []

    def report_on(result: EpochResult) -> None:
        results.append(replace(result, epoch=epochs + result.epoch))
        report(results[-1])

    def save_on(epoch: int, state: State) -> None:
        assert save is not None
        save(epochs + epoch, {**before, "state": state})

    fitted = fit_round(labels, report_on, state, save_on if save else None)
    return fitted, results


@torch.inference_mode()
def label_tiles(
    network: Callable[[Tensor], Tensor],
    device: torch.device,
    tiles: Sequence[Tile],
    images: Path,
    masks: Path,
    out: Path,
    *,
    size_px: int,
    classes: ClassTable,
    threshold: float,
    top_fraction: float | None,
    batch_size: int,
) -> list[Tile]:
    """Write the masks of train tiles with what a network is sure of added to their labels.

    Labels that are there stay, and where the orthophoto has no data there is none.

    Args:
        network: (B, bands, size_px, size_px) uint8 on the device → logits, in evaluation mode.
        device: of the network.
        tiles: of the train split, those without labels too.
        images: the folder of their rasters.
        masks: the folder of their sparse masks.
        out: the folder that the new masks replace, whole.
        size_px: of a tile.
        classes: of the masks.
        threshold: of the probability, see `label_confident`.
        top_fraction: of each class's pixels, see there.
        batch_size: tiles at once.

    Returns:
        The tiles, with their labelled pixels counted anew.

    Raises:
        ValueError: a tile is not of the train split: what is scored on must not be learnt from.
    """
    strangers = sorted({tile.split for tile in tiles} - {"train"})
    if strangers:
        raise ValueError(
            f"got tiles of {', '.join(strangers)} to label, wanted tiles of train alone: leave out "
            f"the others, which are scored on"
        )
    labelled = []
    with publish_folder(out) as aside:
        for orthophoto, group in groupby(sorted(tiles, key=_orthophoto), key=_orthophoto):
            own = TileDataset(list(group), images, masks, size_px)
            with write_mask(
                raster_path(aside, "train", orthophoto),
                like=RasterReader(raster_path(images, "train", orthophoto)).info(),
                block_px=size_px,
                classes=classes,
            ) as raster:
                for begin in range(0, len(own), batch_size):
                    places = range(begin, min(begin + batch_size, len(own)))
                    for tile, view, scores in _score(network, device, own, places):
                        mask = _label(tile, *view, scores, threshold, top_fraction)
                        raster.write(mask[np.newaxis], tile.extent)
                        labelled.append(replace(tile, pixels=count_pixels(mask, len(classes))))
    _log_added(tiles, labelled)
    return labelled


def _score(
    network: Callable[[Tensor], Tensor], device: torch.device, tiles: TileDataset, places: range
) -> Iterator[tuple[Tile, View, npt.NDArray[np.float32]]]:
    """Return tiles as `read_around` does, each with its class probabilities, (C, size, size)."""
    size = (tiles.size_px, tiles.size_px)
    views = [tiles.read_around(place) for place in places]
    images = np.stack([mirror(image, *size) for image, _, _, _ in views])
    scores = network(torch.from_numpy(images).to(device)).float().softmax(dim=1).cpu().numpy()
    for place, view, score in zip(places, views, scores, strict=True):
        yield tiles.tiles[place], view, score


def _label(
    tile: Tile,
    image: Image,
    around: Mask,
    row: int,
    column: int,
    scores: npt.NDArray[np.float32],
    threshold: float,
    top_fraction: float | None,
) -> Mask:
    """Label a tile that begins at a row and column of what was read around it."""
    here = slice(row, row + tile.height), slice(column, column + tile.width)
    own = scores[:, *here].copy()
    # The tile stage writes 0 in every band where there is no data.
    own[:, ~image[:, *here].any(axis=0)] = np.nan
    return np.ascontiguousarray(label_confident(own, around[here], threshold, top_fraction))


def _orthophoto(tile: Tile) -> str:
    return tile.orthophoto


def _log_added(before: Sequence[Tile], after: Sequence[Tile]) -> None:
    area = sum(tile.height * tile.width for tile in after)
    old, new = (sum(sum(tile.pixels) for tile in tiles) for tiles in (before, after))
    logger.info("labelled %d pixels beside %d, of %d", new - old, old, area)
