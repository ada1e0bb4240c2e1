"""Light and camera: the sun, shadows and exposure."""

import math
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from pointcover.datasets.synthetic.sheet import GSD_M, Floats, Sheet, Sun, column, smooth_noise

SHADOW_TINT: Final = (0.40, 0.45, 0.55)
"""The factors of red, green and blue in full shadow, which is lit by the blue sky."""

SHADOW_REACH_PX: Final = 64


def place_sun(generator: Generator) -> Sun:
    """Draw the sun's direction, between east and west through south: shadows fall upwards."""
    turn = generator.uniform(-1.1, 1.1)
    elevation = math.radians(generator.uniform(38, 56))
    return Sun(-math.cos(turn), math.sin(turn), math.tan(elevation))


def _moved(values: Floats, rows: int, cols: int) -> Floats:
    """Shift (size, size) values by whole pixels, filled with 0."""
    moved = np.zeros_like(values)
    size = values.shape[0]
    if max(abs(rows), abs(cols)) < size:
        moved[max(rows, 0) : size + min(rows, 0), max(cols, 0) : size + min(cols, 0)] = values[
            max(-rows, 0) : size - max(rows, 0), max(-cols, 0) : size - max(cols, 0)
        ]
    return moved


def cast_shadows(sheet: Sheet, sun: Sun) -> None:
    """Darken the shadows of houses and trees; labels do not change.

    The shadow's height over a pixel is the greatest height towards the sun, less the descent of
    the ray on the way. Successive shifts by 1, 2, 4 … px cover every distance below twice the last.
    """
    ceiling_m = sheet.height_m
    reach = 1
    while reach < SHADOW_REACH_PX:
        fall_m = np.float32(reach * GSD_M * sun.tan_elevation)
        moved = _moved(ceiling_m, round(reach * sun.row), round(reach * sun.col))
        ceiling_m = np.maximum(ceiling_m, moved - fall_m)
        reach *= 2
    depth = np.clip((ceiling_m - sheet.height_m - 0.3) / 1.2, 0, 1)
    sheet.colour *= 1 - depth * (1 - column(SHADOW_TINT)[:, :, None])


def expose(colour: Floats, generator: Generator) -> NDArray[np.uint8]:
    """Expose (3, size, size) colours: light, white balance, haze, blur and noise → uint8."""
    size = colour.shape[-1]
    light = 1 + 0.05 * smooth_noise(size, 220, generator)
    balance = generator.normal(1, 0.028, (3, 1, 1)) * generator.uniform(0.9, 1.13)
    haze = np.array([0.9, 1.0, 1.15]).reshape(3, 1, 1) * generator.uniform(0, 0.05)
    gamma = generator.uniform(0.93, 1.08)
    blur_px = generator.uniform(0.5, 0.75)
    seen = np.clip(colour * light * balance.astype(np.float32) + haze.astype(np.float32), 0.01, 1.2)
    seen **= np.float32(gamma)
    for band in seen:
        ndimage.gaussian_filter(band, blur_px, output=band, truncate=3)
    seen *= 255
    seen += generator.uniform(1.5, 3) * generator.standard_normal(seen.shape, np.float32)
    return np.asarray(np.clip(np.rint(seen), 0, 255), np.uint8)
