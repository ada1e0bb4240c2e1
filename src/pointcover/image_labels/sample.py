"""The metadata of a tile set, from a sample of images that were not cut into tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcover.labels import ClassTable
from pointcover.raster.grids import gsd_of
from pointcover.raster.raster_io import RasterInfo
from pointcover.tileset.tiles import TileSet


@dataclass(frozen=True, eq=False)
class ImageSample:
    """Some pixels of images, and how the images are read."""

    grids: Sequence[RasterInfo]
    bands: tuple[int, ...]
    """Band numbers, from 1."""
    value_range: tuple[float, float]
    """Values that become 0 and 255."""
    pixels: npt.NDArray[Any]
    """(bands, N) values from 0 to 255, of pixels with data."""
    gsd_m: float | None = None
    """Of the grids without a CRS, where it is known."""

    def tile_set(self, classes: ClassTable, size_px: int) -> TileSet:
        """Return the metadata: every GSD that is known, mean and standard deviation by band.

        Args:
            classes: of the labels.
            size_px: side of the windows that models see.

        Raises:
            ValueError: no pixel has data.
        """
        if not self.pixels.size:
            raise ValueError(
                "no pixel of the images has data: check their nodata value and alpha band"
            )
        gsds_m = {gsd for grid in self.grids if (gsd := gsd_of(grid) or self.gsd_m) is not None}
        values = self.pixels.astype(np.float64)
        return TileSet(
            classes,
            size_px,
            tuple(sorted(gsds_m)),
            tuple(values.mean(axis=1).tolist()),
            tuple(np.maximum(values.std(axis=1), 1).tolist()),
            self.value_range,
            self.bands,
        )
