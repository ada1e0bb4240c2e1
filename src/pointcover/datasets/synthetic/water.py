"""Water: lakes, ponds and a river, in colours that other classes have too."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from pointcover.datasets.synthetic.roads import Way
from pointcover.datasets.synthetic.sheet import (
    BACKGROUND,
    GSD_M,
    PX_PER_M,
    WATER,
    Flags,
    Floats,
    Sheet,
    column,
    patch_around,
    smooth_noise,
)

WATER_COLOURS: Final = (
    (0.17, 0.21, 0.20),  # deep and clear: like shadow
    (0.21, 0.25, 0.19),  # dark under trees: like woodland
    (0.33, 0.41, 0.24),  # algae: like meadow
    (0.36, 0.40, 0.36),  # shallow
    (0.40, 0.42, 0.43),  # sky in it: like asphalt
    (0.42, 0.38, 0.29),  # silt after rain: like soil
)
WATER_ODDS: Final = (0.26, 0.22, 0.16, 0.14, 0.12, 0.10)
LAKE_FRACTION: Final = (0.055, 0.11)
"""Of the sheet, less the fraction that a river covers."""

POND_FRACTION: Final = (0.006, 0.012)
RIVER_ODDS: Final = 0.45
RIVER_WIDTH_M: Final = (7.0, 13.0)
SHORTEST_STREET_M: Final = 25.0
LAKE_TO_ROAD_M: Final = 6.0


def _measure_distance(targets: Flags, points: NDArray[np.float64]) -> Floats:
    """Approximate the distance of (count, 2) points to the nearest target pixel, (count,) px."""
    coarse = 8
    row, col = np.nonzero(targets[::coarse, ::coarse])
    distance = np.hypot(points[:, :1] - coarse * row, points[:, 1:] - coarse * col)
    return np.asarray(distance.min(axis=1, initial=np.inf), np.float32)


def _find_lake(sheet: Sheet, fraction: float, generator: Generator) -> Flags:
    """Choose a basin of a ``fraction`` of the sheet, away from roads and water, (size, size)."""
    size = sheet.size
    tries = generator.uniform(0.12, 0.88, (24, 2)) * size
    at = tuple(tries.astype(np.intp).T)
    room = np.minimum(sheet.road_distance[at], _measure_distance(sheet.mask == WATER, tries))
    row, col = tries[int(np.argmax(room))]
    patch = patch_around(row, col, 2 * size, size)
    angle, stretch = generator.uniform(0, math.pi), generator.uniform(1, 1.9)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u = (patch.col_offset * cos + patch.row_offset * sin) / np.float32(stretch)
    v = (patch.row_offset * cos - patch.col_offset * sin) * np.float32(stretch)
    radius = math.sqrt(fraction / math.pi) * size
    level = np.hypot(u, v) / np.float32(radius)
    level += 0.25 * smooth_noise(size, 2.2 * radius * GSD_M, generator)
    level += 0.06 * smooth_noise(size, 0.6 * radius * GSD_M, generator)
    level[(sheet.road_distance < LAKE_TO_ROAD_M * PX_PER_M) | (sheet.mask == WATER)] = np.inf
    shore = np.quantile(level[::4, ::4], fraction, method="lower")
    return np.asarray((level <= shore) & np.isfinite(level))


def find_river(main: Way, size: int, generator: Generator) -> Flags:
    """Plan a meandering river across the main road, (size, size)."""
    row, col, angle = main.point(generator.uniform(-0.3, 0.3) * size)
    river = Way(
        row=row,
        col=col,
        angle=angle + math.pi / 2 + generator.uniform(-0.5, 0.5),
        start=-2 * size,
        end=2 * size,
        width=generator.uniform(*RIVER_WIDTH_M) * PX_PER_M,
        waves=(
            (generator.uniform(6, 16) * PX_PER_M, generator.uniform(90, 140) * PX_PER_M),
            (generator.uniform(2, 5) * PX_PER_M, generator.uniform(35, 55) * PX_PER_M),
        ),
        kind="river",
    )
    _, across = river.locate(size)
    half = river.width / 2 * (1 + 0.18 * smooth_noise(size, 30, generator))
    return np.asarray(np.abs(across) < half)


def stop_at_river(ways: list[Way], river: Flags) -> list[Way]:
    """End all but main roads 4 m before a river (size, size); short ones are removed."""
    size = river.shape[0]
    kept = []
    for way in ways:
        if way.kind == "main":
            kept.append(way)
            continue
        end = way.start
        while end < way.end:
            row, col, _ = way.point(end + 4 * PX_PER_M)
            if 0 <= row < size and 0 <= col < size and river[int(row), int(col)]:
                break
            end += PX_PER_M
        if end - way.start > SHORTEST_STREET_M * PX_PER_M:
            kept.append(replace(way, end=min(end, way.end)))
    return kept


def draw_water(sheet: Sheet, river: Flags, generator: Generator) -> None:
    """Fill the river, a pond and perhaps a lake; banks are dark grass, ripples are faint.

    Without a river there is a lake; with one (it may lie outside the sheet) a small one or none.
    """
    drift = smooth_noise(sheet.size, 45, generator)
    ripple = 0.02 * smooth_noise(sheet.size, 1.6, generator)
    _fill(sheet, river, drift, ripple, generator)
    wanted = generator.uniform(*LAKE_FRACTION) - np.count_nonzero(river) / river.size
    for fraction in (wanted, generator.uniform(*POND_FRACTION)):
        if fraction > POND_FRACTION[0]:
            _fill(sheet, _find_lake(sheet, fraction, generator), drift, ripple, generator)


def _fill(sheet: Sheet, body: Flags, drift: Floats, ripple: Floats, generator: Generator) -> None:
    """Paint one body of water, (size, size), and the bank around it."""
    bank = ndimage.binary_dilation(body, iterations=round(1.5 * PX_PER_M)) & ~body
    bank &= sheet.mask == BACKGROUND
    sheet.paint(bank, sheet.colour[:, bank] * 0.45 + 0.55 * column((0.27, 0.33, 0.19)))
    tone = column(WATER_COLOURS[generator.choice(len(WATER_COLOURS), p=WATER_ODDS)])
    tone = tone * np.float32(generator.normal(1, 0.08))
    silt = np.clip(0.10 * drift[body], -0.15, 0.25)
    shade = 1 + 0.5 * silt + ripple[body]
    sheet.paint(body, tone * shade + 0.04 * column((1, 0.9, 0.5)) * silt, WATER)
