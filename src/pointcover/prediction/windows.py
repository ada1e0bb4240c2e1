"""Lay windows over a raster of any size, and choose the part of each that is kept.

Rows and columns are treated alike, each as an `Axis`. Windows begin at multiples of ALIGNMENT_PX,
so a network that halves its image five times has the same grid of cells in all of them. Otherwise
predictions of two windows differ everywhere, not only at the edges (on Dubai in 0.6 % of the
pixels).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

ALIGNMENT_PX: Final = 32
"""Height, width and position of a window are multiples of this."""

LEAST_PX: Final = 64
"""Minimum side of a window."""

USUAL_PX: Final = 512
"""Default side of a window, if training tiles are not larger."""

MAX_OVERLAP: Final = 0.75
"""Maximum fraction of a window; above it each pixel would be predicted more than 16 times."""


@dataclass(frozen=True)
class Axis:
    """Windows of one size along the rows or the columns of a raster."""

    length: int
    """Pixels of the raster."""
    size: int
    """Pixels of a window; more than those of the raster if that is smaller than a window."""
    starts: tuple[int, ...]
    """First pixel of each window. The last one may end up to 31 px beyond the raster."""
    overlap: int
    """Minimum number of pixels that neighbours have in common."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """Boundaries between the kept centres of windows, from 0 to `length`."""
        pairs = zip(self.starts, self.starts[1:], strict=False)
        between = ((start + self.size + after) // 2 for start, after in pairs)
        return (0, *between, self.length)

    @property
    def reach(self) -> int:
        """End of the last window, in the raster or beyond."""
        return self.starts[-1] + self.size

    @property
    def ends(self) -> tuple[int, ...]:
        """End of each window, within the raster."""
        return tuple(min(start + self.size, self.length) for start in self.starts)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """(size,) weights of a window's pixels for blending; they decrease over the overlap."""
        steps = np.arange(self.size) + 0.5
        ramp = np.minimum(steps, steps[::-1]) / max(self.overlap, 1)
        return np.asarray(np.minimum(ramp, 1), np.float32)

    def total_weights(self) -> npt.NDArray[np.float32]:
        """Return (length,) sums of the weights of all windows at each pixel of the raster."""
        total = np.zeros(self.length, np.float32)
        for start, end in zip(self.starts, self.ends, strict=True):
            total[start:end] += self.weights[: end - start]
        return total


def usual_window_px(tile_px: int) -> int:
    """Return the default side of a window: that of a training tile, but at least USUAL_PX.

    An eighth of a window is discarded at each side. In smaller windows this would be less than the
    receptive field of a U-Net.
    """
    return max(USUAL_PX, round_up(tile_px))


def round_up(size_px: int) -> int:
    """Return a size rounded up to a multiple of ALIGNMENT_PX."""
    return -(-size_px // ALIGNMENT_PX) * ALIGNMENT_PX


def lay_axis(length: int, window_px: int, overlap: float) -> Axis:
    """Cover a raster's rows or columns with as few windows as `overlap` allows.

    Windows are spread evenly, so that the overlap increases instead of the last one extending far
    beyond the raster.

    Args:
        length: pixels of the raster.
        window_px: side of a window, a multiple of ALIGNMENT_PX.
        overlap: minimum fraction of a window that overlaps with the next one, 0 to MAX_OVERLAP.

    Raises:
        ValueError: `window_px` or `overlap` is invalid.
    """
    if window_px < ALIGNMENT_PX or window_px % ALIGNMENT_PX:
        raise ValueError(
            f"window_px: got {window_px}, wanted a multiple of {ALIGNMENT_PX}, such as 512"
        )
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ValueError(f"overlap: got {overlap}, wanted a fraction from 0 to {MAX_OVERLAP}")
    common = round(overlap * window_px)
    step = (window_px - common) // ALIGNMENT_PX
    if not step:
        raise ValueError(
            f"overlap: got {overlap} with windows of {window_px} px, so they are less than "
            f"{ALIGNMENT_PX} px apart: choose larger windows, or less overlap"
        )
    size = min(window_px, round_up(length))
    room = (round_up(length) - size) // ALIGNMENT_PX
    steps = -(-room // step)
    starts = (ALIGNMENT_PX * (room * n // steps) for n in range(1, steps + 1))
    return Axis(length, size, (0, *starts), common)
