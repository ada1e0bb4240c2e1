"""Self-training: rounds of fitting, each on pseudo-labels of the network of the round before.

Each round is a fit from the first weights, with the same seed. The result is that of the last one.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import Image, Mask, count_pixels
from pointcover.raster.raster_io import RasterReader, mirror, write_mask
from pointcover.runtime.atomic_files import publish_folder
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import Tile, TileSet, raster_path
from pointcover.training.data import SparseLabels
from pointcover.training.results import Callbacks, EpochResult, Fitted, State
from pointcover.training.semi_supervised.pseudo_labels import label_confident
from pointcover.training.semi_supervised.settings import SelfTrainingSettings

logger = logging.getLogger(__name__)

View = tuple[Image, Mask, int, int]
"""Result of `TileDataset.read_around`."""


class RoundFitter(Protocol):
    """What rounds need: a fit, and pseudo-labels of fitted weights."""

    def fit_round(self, labels: SparseLabels, callbacks: Callbacks, saved: State | None) -> Fitted:
        """Fit a new model on labels, or resume that."""

    def pseudo_label(self, weights: dict[str, Tensor]) -> SparseLabels:
        """Add the pseudo-labels of a model with these weights to the first labels."""


def fit_in_rounds(
    fitter: RoundFitter,
    rounds: int,
    labels: SparseLabels,
    callbacks: Callbacks,
    saved: State | None = None,
) -> tuple[Fitted, SparseLabels]:
    """Fit, then make pseudo-labels and fit again, so many times. Epochs are numbered through.

    A state is that of the round's fit, with the number of the round, the weights that made its
    pseudo-labels and the epochs of the rounds before. The same weights make the same pseudo-labels
    again, so a training that is resumed ends with the same bits as an uninterrupted one.

    Args:
        fitter: fits a round and makes pseudo-labels.
        rounds: with pseudo-labels; 0 is a plain fit.
        labels: of the first fit.
        callbacks: are called as by `fit`, with epochs numbered over all rounds.
        saved: the state to resume from, which `save` was given.

    Returns:
        The result of the last round, and the labels that it was fitted on.
    """
    first = 0
    labeller: dict[str, Tensor] | None = None
    state: State | None = None
    done: list[EpochResult] = []
    if saved is not None:
        first, labeller, state = saved["round"], saved["labeller"], saved["state"]
        done = [EpochResult(**values) for values in saved["done"]]
    for result in done:
        callbacks.report(result)
    for number in range(first, rounds + 1):
        if labeller is not None:
            logger.info("round %d of %d: making pseudo-labels", number, rounds)
            labels = fitter.pseudo_label(labeller)
        numbered = _Numbered(
            callbacks,
            len(done),
            {"round": number, "labeller": labeller, "done": [asdict(result) for result in done]},
        )
        fitted = fitter.fit_round(labels, numbered.callbacks(), state)
        kept = replace(fitted.kept, epoch=len(done) + fitted.kept.epoch)
        done, labeller, state = [*done, *numbered.results], fitted.weights, None
    return replace(fitted, kept=kept), labels


class _Numbered:
    """Callbacks of one round, which number its epochs after those of the rounds before."""

    def __init__(self, callbacks: Callbacks, epochs: int, before: dict[str, Any]) -> None:
        """Take the callbacks of the training, and number and state of the epochs before."""
        self.results: list[EpochResult] = []
        self._callbacks, self._epochs, self._before = callbacks, epochs, before

    def callbacks(self) -> Callbacks:
        """Return the callbacks for the round."""
        save = self._save if self._callbacks.save is not None else None
        return replace(self._callbacks, report=self._report, save=save)

    def _report(self, result: EpochResult) -> None:
        self.results.append(replace(result, epoch=self._epochs + result.epoch))
        self._callbacks.report(self.results[-1])

    def _save(self, epoch: int, state: State) -> None:
        assert self._callbacks.save is not None
        self._callbacks.save(self._epochs + epoch, {**self._before, "state": state})


@dataclass(frozen=True)
class PseudoLabeller:
    """Adds pseudo-labels to the sparse masks of train tiles.

    Existing labels stay, and pixels where the orthophoto has no data get none.
    """

    images: Path
    """The folder of the tiles' rasters."""
    masks: Path
    """The folder of their sparse masks."""
    out: Path
    """The folder that the new masks replace."""
    tile_set: TileSet
    settings: SelfTrainingSettings
    batch_size: int
    """Tiles in a batch."""

    @torch.inference_mode()
    def label(
        self,
        network: Callable[[Tensor], Tensor],
        device: torch.device,
        tiles: Sequence[Tile],
    ) -> list[Tile]:
        """Write the masks of train tiles with the pseudo-labels of a network.

        Args:
            network: (B, bands, size_px, size_px) uint8 on the device → logits, in evaluation mode.
            device: of the network.
            tiles: of the train split, those without labels too.

        Returns:
            The tiles, with their labelled pixels counted again.

        Raises:
            ValueError: a tile is not of the train split.
        """
        others = sorted({tile.split for tile in tiles} - {"train"})
        if others:
            raise ValueError(
                f"got tiles of {', '.join(others)} to label, wanted tiles of train alone: leave "
                f"out the others, which are scored on"
            )
        size_px, classes = self.tile_set.size_px, self.tile_set.classes
        labelled = []
        with publish_folder(self.out) as aside:
            for orthophoto, group in groupby(sorted(tiles, key=_orthophoto), key=_orthophoto):
                own = TileDataset(list(group), self.images, self.masks, size_px)
                with write_mask(
                    raster_path(aside, "train", orthophoto),
                    like=RasterReader(raster_path(self.images, "train", orthophoto)).info(),
                    block_px=size_px,
                    classes=classes,
                ) as raster:
                    for begin in range(0, len(own), self.batch_size):
                        places = range(begin, min(begin + self.batch_size, len(own)))
                        for tile, view, scores in _score(network, device, own, places):
                            mask = self._label(tile, view, scores)
                            raster.write(mask[np.newaxis], tile.extent)
                            labelled.append(replace(tile, pixels=count_pixels(mask, len(classes))))
        _log_added(tiles, labelled)
        return labelled

    def _label(self, tile: Tile, view: View, scores: npt.NDArray[np.float32]) -> Mask:
        """Label a tile, given what was read around it."""
        image, around, row, column = view
        here = slice(row, row + tile.height), slice(column, column + tile.width)
        own = scores[:, *here].copy()
        # The tile stage writes 0 in every band where there is no data.
        own[:, ~image[:, *here].any(axis=0)] = np.nan
        threshold, top_fraction = self.settings.threshold, self.settings.top_fraction
        return np.ascontiguousarray(label_confident(own, around[here], threshold, top_fraction))


def _score(
    network: Callable[[Tensor], Tensor], device: torch.device, tiles: TileDataset, places: range
) -> Iterator[tuple[Tile, View, npt.NDArray[np.float32]]]:
    """Yield tiles as `read_around` returns them, each with class probabilities, (C, size, size)."""
    size = (tiles.size_px, tiles.size_px)
    views = [tiles.read_around(place) for place in places]
    images = np.stack([mirror(image, *size) for image, _, _, _ in views])
    scores = network(torch.from_numpy(images).to(device)).float().softmax(dim=1).cpu().numpy()
    for place, view, score in zip(places, views, scores, strict=True):
        yield tiles.tiles[place], view, score


def _orthophoto(tile: Tile) -> str:
    return tile.orthophoto


def _log_added(before: Sequence[Tile], after: Sequence[Tile]) -> None:
    area = sum(tile.height * tile.width for tile in after)
    old, new = (sum(sum(tile.pixels) for tile in tiles) for tiles in (before, after))
    logger.info("made %d pseudo-labels beside %d labels, of %d pixels", new - old, old, area)
