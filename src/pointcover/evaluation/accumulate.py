"""Count the predictions of a split in one pass; every score is computed from these counts."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.boundaries import (
    DISTANCES_PX,
    BoundaryCounts,
    count_boundaries,
    erode_classes,
)
from pointcover.metrics.calibration import ConfidenceCounts, count_confidences, no_counts
from pointcover.metrics.confusion import Confusion, confusion_matrix
from pointcover.prediction.predict import Predicted
from pointcover.raster.raster_io import pad
from pointcover.runtime.progress import Progress
from pointcover.tileset.dataset import Batch, TileDataset
from pointcover.tileset.tiles import Tile, TileReader


@dataclass(frozen=True)
class Scoring:
    """Which pixels of a mask are scored."""

    erode_px: int = 0
    """Pixels within this distance of another class are not scored; see `erode_classes`."""
    left_out: Sequence[int] = ()
    """Ids of classes that are not scored."""


class ScoredTiles(TileDataset):
    """Tiles with masks in which pixels that are not scored are unlabelled.

    Masks are eroded by boundaries in neighbouring tiles, too, so the result does not depend on the
    tiling.
    """

    def __init__(
        self, tiles: Sequence[Tile], images: Path, masks: Path, size_px: int, scoring: Scoring
    ) -> None:
        """Set the tiles, and which pixels are scored.

        Args:
            tiles: in the order of reading.
            images: folder of the images' rasters.
            masks: folder of the masks' rasters.
            size_px: height and width of a tile.
            scoring: which pixels of the masks are scored.
        """
        super().__init__(tiles, images, masks, size_px)
        self._erode_px = scoring.erode_px
        self._scored_masks = TileReader(masks, size_px, fill=IGNORE_INDEX)
        self._ignored = np.arange(256, dtype=np.uint8)
        self._ignored[list(scoring.left_out)] = IGNORE_INDEX

    def __getitem__(self, place: int) -> Batch:
        """Return image and mask of one tile; see TileDataset."""
        image, mask = super().__getitem__(place)
        if self._erode_px:
            mask = self._erode(place, mask)
        return image, torch.from_numpy(self._ignored[mask.numpy()])

    def _erode(self, place: int, mask: Tensor) -> Tensor:
        tile = self.tiles[place]
        _, row, column = self._scored_masks.read_around(tile)
        around, wide_row, wide_column = self._scored_masks.read_around(
            tile, self.size_px + 2 * self._erode_px
        )
        eroded = erode_classes(around[0], self._erode_px)
        own = eroded[wide_row : wide_row + tile.height, wide_column : wide_column + tile.width]
        placed = np.full((row + tile.height, column + tile.width), IGNORE_INDEX, np.uint8)
        placed[row:, column:] = own
        height, width = mask.shape
        return torch.from_numpy(pad(placed, height, width, IGNORE_INDEX))


@dataclass(frozen=True)
class SplitCounts:
    """Counts of the tiles of a split, in their order."""

    tiles: Sequence[Tile]
    confusions: Confusion
    """(tiles, C, C) int64; rows true, columns predicted."""
    boundaries: BoundaryCounts
    """(tiles, distances, C, 4) int64; zeros if boundaries were not counted."""
    confidences: ConfidenceCounts
    """(2, levels) int64, of all tiles together."""

    def regions(self) -> dict[str, list[int]]:
        """Return the indices of each region's tiles, in the order in which regions occur."""
        places: dict[str, list[int]] = {}
        for place, tile in enumerate(self.tiles):
            places.setdefault(tile.region, []).append(place)
        return places

    def worst(self, count: int, without: Collection[int] = ()) -> list[int]:
        """Return the indices of the tiles with the lowest accuracy, the worst first.

        Accuracy is used since a few pixels of an otherwise absent class can halve the mIoU. Tiles
        with less than a tenth of the largest number of pixels, such as strips at an edge, and tiles
        without errors are left out.

        Args:
            count: number of tiles at most.
            without: indices of tiles that are left out, since they are drawn already.
        """
        pixels = self.confusions.sum(axis=(1, 2))
        errors = pixels - np.trace(self.confusions, axis1=1, axis2=2)
        fit = np.flatnonzero((pixels * 10 >= pixels.max(initial=0)) & (errors > 0))
        order = np.argsort(-errors[fit] / pixels[fit], kind="stable")
        return [int(place) for place in fit[order] if place not in without][:count]


def count_tiles(
    predicted: Iterable[Predicted],
    tiles: Sequence[Tile],
    classes: int,
    *,
    with_boundaries: bool = True,
) -> SplitCounts:
    """Count over the batches of `predict`, on their device; pixels are not stored.

    Args:
        predicted: batches of the tiles, in the same order.
        tiles: of the split.
        classes: number of classes.
        with_boundaries: whether boundaries are counted; otherwise their counts are 0.
    """
    confusions = np.zeros((len(tiles), classes, classes), np.int64)
    boundaries = np.zeros((len(tiles), len(DISTANCES_PX), classes, 4), np.int64)
    confidences = no_counts()
    done = 0
    with Progress("evaluating", len(tiles), "tile") as progress:
        for _, masks, predictions, confidence in predicted:
            own = slice(done, done + len(masks))
            matrices = [
                confusion_matrix(prediction, mask, classes)
                for prediction, mask in zip(predictions, masks, strict=True)
            ]
            confusions[own] = torch.stack(matrices).cpu().numpy()
            if with_boundaries:
                counts = count_boundaries(predictions, masks, classes)
                boundaries[own] = counts.cpu().numpy()
            confidences += count_confidences(confidence, predictions, masks).cpu().numpy()
            done = own.stop
            progress.update(len(masks))
    return SplitCounts(tiles, confusions, boundaries, confidences)
