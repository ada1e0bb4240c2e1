"""Blocks of a file that were never written: GDAL reads them as 0, but they hold no data."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window


@dataclass(frozen=True, eq=False)
class MissingBlocks:
    """Blocks of a raster that were never written."""

    flags: npt.NDArray[np.bool_]
    """(rows of blocks, columns of blocks): whether the block is missing."""
    height: float
    """Of a block, in pixels as they are read."""
    width: float
    """Of a block, in pixels as they are read."""

    def cover(self, window: Window) -> npt.NDArray[np.bool_]:
        """Return (h, w) bool: whether a pixel of a window lies in a missing block."""
        rows = self._rows(window.row_off + np.arange(window.height))
        return self.flags[np.ix_(rows, self._columns(window.col_off + np.arange(window.width)))]

    def fraction(self, height: int, width: int) -> float:
        """Return the fraction of a raster's pixels that lie in missing blocks."""
        down = np.bincount(self._rows(np.arange(height)), minlength=self.flags.shape[0])
        across = np.bincount(self._columns(np.arange(width)), minlength=self.flags.shape[1])
        return float(down @ self.flags @ across / (height * width))

    def scale(self, down: float, across: float) -> "MissingBlocks":
        """Return the same blocks of a raster that was resampled by factors of its sides."""
        return MissingBlocks(self.flags, self.height * down, self.width * across)

    def _rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the row of blocks of each row."""
        found = np.minimum((rows + 0.5) / self.height, self.flags.shape[0] - 1)
        return np.asarray(found, np.int64)

    def _columns(self, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the column of blocks of each column."""
        found = np.minimum((columns + 0.5) / self.width, self.flags.shape[1] - 1)
        return np.asarray(found, np.int64)
