"""The image and mask that a landscape is drawn on, and tools to draw with."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

BACKGROUND: Final = 0
BUILDING: Final = 1
WOODLAND: Final = 2
WATER: Final = 3
ROAD: Final = 4

GSD_M: Final = 0.25
"""Ground sample distance, metres per pixel."""

PX_PER_M: Final = 1 / GSD_M

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Paint = tuple[float, float, float]
"""Red, green and blue, each 0 to 1."""


@dataclass
class Sheet:
    """The image while it is drawn; what is drawn later covers what is below.

    Attributes:
        colour: (3, size, size) red, green, blue, each 0 to 1.
        mask: (size, size) class ids.
        height_m: (size, size) of what stands on the ground.
        road_distance: (size, size) px to the nearest edge of a road, negative on it.
    """

    colour: Floats
    mask: NDArray[np.uint8]
    height_m: Floats
    road_distance: Floats

    @property
    def size(self) -> int:
        """Height and width, px."""
        return int(self.mask.shape[0])

    def paint(self, where: Flags, colour: Floats, class_id: int | None = None) -> None:
        """Colour the pixels where (size, size) is true, and set their class.

        Args:
            where: (size, size) which pixels.
            colour: (3, pixels) in the order of ``where``, or (3, 1).
            class_id: of the pixels; None leaves their class as it is.
        """
        self.colour[:, where] = colour
        if class_id is not None:
            self.mask[where] = class_id


class Sun(NamedTuple):
    """Where shadows fall: a unit vector away from the sun, and the sun's height."""

    row: float
    col: float
    tan_elevation: float


class Patch(NamedTuple):
    """The part of the sheet around a point, and pixel positions relative to that point."""

    rows: slice
    cols: slice
    row_offset: Floats  # (h, 1)
    col_offset: Floats  # (1, w)


def patch_around(row: float, col: float, radius: float, size: int) -> Patch:
    """Cut the square of ``radius`` px around a point, clipped to the sheet (it may be empty)."""
    top, left = (min(max(math.floor(x - radius), 0), size) for x in (row, col))
    bottom, right = (min(max(math.ceil(x + radius) + 1, 0), size) for x in (row, col))
    return Patch(
        slice(top, bottom),
        slice(left, right),
        (np.arange(top, bottom, dtype=np.float32) - np.float32(row))[:, None],
        (np.arange(left, right, dtype=np.float32) - np.float32(col))[None, :],
    )


def column(colour: Paint | Floats) -> Floats:
    """Return a colour as (3, 1), to be painted over (3, count) pixels."""
    return np.asarray(colour, np.float32).reshape(3, 1)


def smooth_noise(size: int, wavelength_m: float, generator: Generator) -> Floats:
    """Draw smooth random hills, (size, size), about zero mean and unit deviation.

    A coarse grid of normal numbers, interpolated by a cubic B-spline: the four weights of a
    position add to 1, and the mean of the sum of their squares is 151/315, hence the scale in the
    last line.
    """
    step = wavelength_m * PX_PER_M / 2
    position = np.arange(size, dtype=np.float32) / np.float32(step)
    first = position.astype(np.intp)
    t = position - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    )
    weights /= 6
    count = int(first[-1]) + 4
    hills = generator.standard_normal((count, count), np.float32)
    for _ in range(2):  # interpolate down the rows, turn, and again: both axes
        down = weights[0][:, None] * hills[first]
        for k in (1, 2, 3):
            down += weights[k][:, None] * hills[first + k]
        hills = np.ascontiguousarray(down.T)
    return hills * np.float32(315 / 151)
