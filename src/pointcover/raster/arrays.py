"""Images in memory, and how they become files that the readers of rasters open."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine

from pointcover.raster.raster_io import CRS, Window, open_dataset

STRIP_PX = 512
"""Rows that are written at once."""


@dataclass(frozen=True, eq=False)
class ImageArray:
    """An image in memory: its values, and its place on the ground where it has one."""

    values: npt.NDArray[Any]
    """(bands, height, width)."""
    transform: Affine | None = None
    """From columns and rows to x and y of the CRS, as `rasterio`'s `dataset.transform`."""
    crs: CRS | str | None = None
    """Such as `EPSG:2180`."""

    def __post_init__(self) -> None:
        """Check the array.

        Raises:
            ValueError: it has not three dimensions, or holds no numbers.
        """
        shape, kind = np.shape(self.values), np.asarray(self.values).dtype
        if len(shape) != 3 or 0 in shape:
            raise ValueError(
                f"got an image of shape {shape}, wanted (bands, height, width): move the axis of "
                f"the bands to the front with np.moveaxis(image, -1, 0)"
            )
        if kind.kind not in "uif":
            raise ValueError(f"got an image of {kind}, wanted numbers: convert it with .astype")

    def write(self, path: Path) -> Path:
        """Write a GeoTIFF without compression.

        Raises:
            OSError: the disk is full.
        """
        values = np.asarray(self.values)
        if values.dtype.itemsize == 8 or values.dtype == np.float16:
            values = values.astype(np.float32)
        bands, height, width = values.shape
        profile = {
            "driver": "GTiff",
            "count": bands,
            "height": height,
            "width": width,
            "dtype": values.dtype,
            "crs": self.crs,
            "transform": self.transform or Affine.identity(),
            "interleave": "band",
            "photometric": "MINISBLACK",
            "alpha": "UNSPECIFIED",
        }
        with open_dataset(path, "w", **profile) as file:
            for top in range(0, height, STRIP_PX):
                strip = values[:, top : top + STRIP_PX]
                file.write(strip, window=Window(0, top, width, strip.shape[1]))
        return path
