"""Windows over a raster of any size: where they lie, and which part of each is kept.

Rows and columns are treated alike, each as an `Axis`. Windows begin at multiples of ALIGNMENT_PX:
a network that halves its image five times then sees the same pixels as the same cells in each of
them. Windows that begin elsewhere differ from each other everywhere, not at their edges alone (on
Dubai in 0.6 % of the pixels).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

ALIGNMENT_PX: Final = 32
"""Height, width and place of a window are multiples of this."""

LEAST_PX: Final = 64
"""Side of a window at least."""

USUAL_PX: Final = 512
"""Side of a window, where tiles in training are not larger."""

MAX_OVERLAP: Final = 0.75
"""Fraction of a window: beyond it each pixel would be predicted sixteen times and more."""


@dataclass(frozen=True)
class Axis:
    """Windows of one size along the rows or the columns of a raster."""

    length: int
    """Pixels of the raster."""
    size: int
    """Pixels of a window; more than the raster has where that is smaller than a window."""
    starts: tuple[int, ...]
    """Where windows begin; the last may end up to 31 px beyond the raster, unless that is smaller
    than a window."""
    overlap: int
    """Least number of pixels that neighbours have in common."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """Where one window's centre ends and the next one's begins, from 0 to `length`."""
        pairs = zip(self.starts, self.starts[1:], strict=False)
        between = ((start + self.size + after) // 2 for start, after in pairs)
        return (0, *between, self.length)

    @property
    def reach(self) -> int:
        """Where the last window ends, in the raster or beyond."""
        return self.starts[-1] + self.size

    @property
    def ends(self) -> tuple[int, ...]:
        """Where each window ends in the raster."""
        return tuple(min(start + self.size, self.length) for start in self.starts)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """Weight of a window's pixels for blending, (size,): it falls off over the overlap."""
        steps = np.arange(self.size) + 0.5
        ramp = np.minimum(steps, steps[::-1]) / max(self.overlap, 1)
        return np.asarray(np.minimum(ramp, 1), np.float32)

    def total_weights(self) -> npt.NDArray[np.float32]:
        """Add up the weights of all windows at each pixel of the raster, (length,)."""
        total = np.zeros(self.length, np.float32)
        for start, end in zip(self.starts, self.ends, strict=True):
            total[start:end] += self.weights[: end - start]
        return total


def usual_window_px(tile_px: int) -> int:
    """Return the default side of a window: of a tile in training, but USUAL_PX at least.

    An eighth of a window is cut off at each side: in smaller ones that is less than the receptive
    field of a U-Net.
    """
    return max(USUAL_PX, round_up(tile_px))


def round_up(size_px: int) -> int:
    """Return the next size that a window may have."""
    return -(-size_px // ALIGNMENT_PX) * ALIGNMENT_PX


def lay_axis(length: int, window_px: int, overlap: float) -> Axis:
    """Cover a raster's rows or columns with as few windows as `overlap` allows.

    They are spread evenly: what the last would extend beyond the raster becomes overlap of all.

    Args:
        length: pixels of the raster.
        window_px: of a window, a multiple of ALIGNMENT_PX.
        overlap: fraction of a window that it has in common with the next, 0 to MAX_OVERLAP.

    Raises:
        ValueError: a value is none of those.
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
            f"overlap: got {overlap} of windows of {window_px} px, which leaves less than "
            f"{ALIGNMENT_PX} px to the next one: choose larger windows, or less overlap"
        )
    size = min(window_px, round_up(length))
    room = (round_up(length) - size) // ALIGNMENT_PX
    steps = -(-room // step)
    starts = (ALIGNMENT_PX * (room * n // steps) for n in range(1, steps + 1))
    return Axis(length, size, (0, *starts), common)
