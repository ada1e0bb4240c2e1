"""Labels of tiles or images: where they lie, and the windows around them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pointcover.labels import IGNORE_INDEX, ClassTable, Mask
from pointcover.raster.raster_io import RasterInfo
from pointcover.training.classifiers.labelled_pixels import LabelledWindow, Thinning


@dataclass(frozen=True)
class LabelTile:
    """A tile with point labels."""

    id: str
    region: str
    image: str
    """Name of its orthophoto."""
    split: str
    """train, val or test; empty outside a workspace."""
    grid: RasterInfo
    """Of the orthophoto."""
    row_off: int
    col_off: int
    clicks: Mask
    """(H, W) the point labels alone."""


@dataclass(frozen=True)
class LabelSource:
    """Tiles with point labels, and how their images are read."""

    tiles: Sequence[LabelTile]
    classes: ClassTable
    bands: int
    windows: Callable[[int], Iterator[LabelledWindow]]
    """From the features' margin in pixels: the window of each tile, in their order."""

    def thinning(self, most: int, seed: int) -> Thinning:
        """Return what leaves at most so many labelled pixels of all tiles, drawn at random."""
        counts = [int(np.count_nonzero(tile.clicks != IGNORE_INDEX)) for tile in self.tiles]
        return Thinning(counts, most, np.random.default_rng((seed, 1)))

    def read(self, margin_px: int, thinning: Thinning) -> Iterator[LabelledWindow]:
        """Read the window of each tile, with the labels that are left.

        Args:
            margin_px: of the features.
            thinning: from `thinning`.
        """
        for place, window in enumerate(self.windows(margin_px)):
            yield replace(window, mask=thinning.thin(place, window.mask))
