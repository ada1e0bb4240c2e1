"""Lay windows over a raster of any size, and choose the part of each that is kept.

Rows and columns are treated alike, each as an `Axis`. Windows begin at multiples of ALIGNMENT_PX,
so a network that halves its image five times has the same grid of cells in all of them. Otherwise
predictions of two windows differ everywhere, not only at the edges (on Dubai in 0.6 % of the
pixels).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.networks.pixel_classifiers.settings import PixelClassifierSettings

ALIGNMENT_PX: Final = 32
"""Height, width and position of a window are multiples of this."""

LEAST_PX: Final = 64
"""Minimum side of a window."""

USUAL_PX: Final = 512
"""Default side of a window, if training tiles are not larger."""

MAX_OVERLAP: Final = 0.75
"""Maximum fraction of a window; above it each pixel would be predicted more than 16 times."""


LARGE_PX: Final = 896
"""Side of a window at most, where none is chosen: what a pixel classifier computes in 1 GB."""


@dataclass(frozen=True)
class WindowNeeds:
    """What models need of windows; by default what networks do."""

    margin_px: int = 0
    """At each side that another window overlaps, at least so much of a window is cut off."""
    alignment_px: int = ALIGNMENT_PX
    """Windows begin at multiples of this."""


def needs_of(classifiers: Iterable[PixelClassifierSettings | None]) -> WindowNeeds:
    """Return what several models need: their pixel classifiers, None for a network."""
    known = [one for one in classifiers if one is not None]
    return WindowNeeds(
        max((one.margin_px for one in known), default=0),
        max((one.alignment_px for one in known), default=0) or ALIGNMENT_PX,
    )


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


def usual_window_px(tile_px: int, needs: WindowNeeds | None = None) -> int:
    """Return the default side of a window: of a tile in training, but USUAL_PX at least.

    An eighth of a window is cut off at each side: in smaller ones that is less than the receptive
    field of a U-Net. Where models need a larger margin, windows are larger, up to LARGE_PX.
    """
    margin_px = needs.margin_px if needs else 0
    return max(USUAL_PX, round_up(tile_px), min(LARGE_PX, round_up(8 * margin_px)))


def round_up(size_px: int) -> int:
    """Return a size rounded up to a multiple of ALIGNMENT_PX."""
    return -(-size_px // ALIGNMENT_PX) * ALIGNMENT_PX


def lay_axis(length: int, window_px: int, overlap: float, needs: WindowNeeds | None = None) -> Axis:
    """Cover a raster's rows or columns with as few windows as `overlap` allows.

    Windows are spread evenly, so that the overlap increases instead of the last one extending far
    beyond the raster.

    Args:
        length: pixels of the raster.
        window_px: of a window, a multiple of ALIGNMENT_PX.
        overlap: fraction of a window that it has in common with the next, 0 to MAX_OVERLAP. More
            where models need it.
        needs: of the models.

    Raises:
        ValueError: `window_px` or `overlap` is invalid.
    """
    needs = needs or WindowNeeds()
    alignment_px = max(ALIGNMENT_PX, needs.alignment_px)
    if window_px < alignment_px or window_px % alignment_px:
        raise ValueError(
            f"window_px: got {window_px}, wanted a multiple of {alignment_px}, such as 512"
        )
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ValueError(f"overlap: got {overlap}, wanted a fraction from 0 to {MAX_OVERLAP}")
    common = round(overlap * window_px)
    if window_px < length and 2 * needs.margin_px > common:
        common = 2 * needs.margin_px
        if window_px - common < alignment_px:
            raise ValueError(
                f"window_px: got {window_px}, and the model needs {needs.margin_px} px around what "
                f"is kept of a window: wanted at least {common + alignment_px}"
            )
    step = (window_px - common) // alignment_px
    if not step:
        raise ValueError(
            f"overlap: got {overlap} with windows of {window_px} px, so they are less than "
            f"{alignment_px} px apart: choose larger windows, or less overlap"
        )
    reach = -(-length // alignment_px) * alignment_px
    size = min(window_px, reach)
    room = (reach - size) // alignment_px
    steps = -(-room // step)
    starts = (alignment_px * (room * n // steps) for n in range(1, steps + 1))
    return Axis(length, size, (0, *starts), common)
