"""Woodland: stands, groves, hedges and avenues, crown by crown."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from pointcover.datasets.synthetic.houses import House
from pointcover.datasets.synthetic.roads import Way
from pointcover.datasets.synthetic.sheet import (
    BACKGROUND,
    BUILDING,
    GSD_M,
    PX_PER_M,
    WOODLAND,
    Flags,
    Floats,
    Sheet,
    Sun,
    column,
    patch_around,
    smooth_noise,
)

WOOD_FRACTION: Final = (0.12, 0.27)
"""Of the sheet that is closed stands; edges, groves and avenues are further woodland."""

CROWN_SPACING_M: Final = 4.0
LEAFY: Final = ((0.26, 0.34, 0.18), (0.30, 0.38, 0.20), (0.23, 0.31, 0.18), (0.36, 0.40, 0.22))
NEEDLED: Final = ((0.17, 0.25, 0.17), (0.15, 0.22, 0.16))
FOREST_FLOOR: Final = (0.20, 0.23, 0.15)


class Settlement(NamedTuple):
    """Roads and houses, and the yards around houses, (size, size), in which no wood stands."""

    ways: list[Way]
    houses: list[House]
    yards: Flags


class Crowns(NamedTuple):
    """Trees: (count,) positions and radii in px, tops in metres, and whether they are conifers."""

    row: Floats
    col: Floats
    radius: Floats
    top_m: Floats
    conifer: Flags


def _size_crowns(row: Floats, col: Floats, conifer: Flags, generator: Generator) -> Crowns:
    """Choose the sizes of trees at (count,) positions: conifers are narrow, leafy trees broad."""
    radius_m = np.where(conifer, 2.3, 2.7) * generator.uniform(0.75, 1.3, row.shape)
    top_m = 2.6 * radius_m + generator.uniform(1, 4, row.shape)
    radius = (radius_m * PX_PER_M).astype(np.float32)
    return Crowns(row, col, radius, top_m.astype(np.float32), conifer)


def _plant_stands(
    sheet: Sheet, yards: Flags, conifer_score: Floats, generator: Generator
) -> Crowns:
    """Fill irregular patches with trees on a jittered grid, with a dark floor under them."""
    size = sheet.size
    wood = smooth_noise(size, 110, generator) + 0.35 * smooth_noise(size, 30, generator)
    wood += 0.12 * smooth_noise(size, 9, generator)
    off_limits = yards | (sheet.mask != BACKGROUND) | (sheet.road_distance < 2 * PX_PER_M)
    wood[off_limits] = -np.inf
    edge = np.quantile(wood[::4, ::4], 1 - generator.uniform(*WOOD_FRACTION), method="lower")
    floor = wood > edge + 0.12
    closed = ndimage.uniform_filter(floor.astype(np.float32), round(5 * PX_PER_M) + 1)
    floor &= closed > 0.6  # no trees in slivers
    spots = CROWN_SPACING_M * PX_PER_M
    count = math.ceil(size / spots) + 1
    grid = (np.mgrid[:count, :count] + generator.uniform(-0.4, 0.4, (2, count, count))) * spots
    row, col = grid.reshape(2, -1).clip(0, size - 1).astype(np.float32)
    at = (row.astype(np.intp), col.astype(np.intp))
    inside = wood[at] > edge
    dapple = 1 + 0.15 * generator.standard_normal(np.count_nonzero(floor), np.float32)
    sheet.paint(floor, column(FOREST_FLOOR) * dapple, WOODLAND)
    conifer = (conifer_score[at] > 0.35)[inside]
    return _size_crowns(row[inside], col[inside], conifer, generator)


def _plant_lines(sheet: Sheet, settlement: Settlement, generator: Generator) -> Crowns:
    """Plant avenues along some roads, small groves in the fields and trees behind houses."""
    size = sheet.size
    spots: list[tuple[float, float]] = []
    for way in settlement.ways:
        if generator.random() < 0.35:
            side = generator.choice([-1, 1])
            for along in np.arange(max(way.start, -size), min(way.end, size), 6 * PX_PER_M):
                if generator.random() < 0.7:
                    aside = side * (way.width / 2 + generator.uniform(2.6, 4) * PX_PER_M)
                    spots.append(way.point(float(along), aside)[:2])
    for _ in range(max(2, round((size * GSD_M / 70) ** 2))):
        centre = generator.uniform(0, size, 2)
        spread = generator.uniform(2, 6) * PX_PER_M * np.array([1, generator.uniform(0.3, 1)])
        spots += [tuple(spot) for spot in generator.normal(centre, spread, (9, 2)).tolist()]
    for house in settlement.houses:
        away = house.radius * generator.uniform(1.1, 1.5)
        turn = generator.uniform(0, 2 * math.pi)
        spots.append((house.row + away * math.sin(turn), house.col + away * math.cos(turn)))
    places = np.array(spots, np.float32)
    places = places[((places >= 0) & (places <= size - 1)).all(axis=1)]
    at = (places[:, 0].astype(np.intp), places[:, 1].astype(np.intp))
    free = (sheet.mask[at] == BACKGROUND) & (sheet.road_distance[at] > 1.8 * PX_PER_M)
    places = places[free]
    conifer = generator.random(len(places)) < 0.25
    return _size_crowns(places[:, 0], places[:, 1], conifer, generator)


def _draw_crowns(sheet: Sheet, crowns: Crowns, sun: Sun, generator: Generator) -> None:
    """Draw every crown as an uneven dome or cone, lit from the sun's side."""
    size = sheet.size
    lumps = 0.22 * smooth_noise(size, 1.8, generator)
    canopy_m = np.zeros((size, size), np.float32)
    tree = np.full((size, size), -1, np.int32)
    for number, (row, col, radius, top_m, conifer) in enumerate(
        zip(*(values.tolist() for values in crowns), strict=True)
    ):
        patch = patch_around(row, col, 1.25 * radius, size)
        here = (patch.rows, patch.cols)
        out = (patch.row_offset**2 + patch.col_offset**2) * np.float32(1 / radius**2) + lumps[here]
        dome = 1 - np.clip(out, 0, 1)
        dome = dome if conifer else np.sqrt(dome)
        rise_m = np.float32(top_m) * (np.float32(0.45) + np.float32(0.55) * dome)
        higher = (out < 1) & (rise_m > canopy_m[here])
        canopy_m[here][higher] = rise_m[higher]
        tree[here][higher] = number
    # Crowns may cover anything but roofs.
    seen = (tree >= 0) & (sheet.mask != BUILDING)
    count = len(crowns.row)
    leafy = np.array(LEAFY, np.float32)[generator.integers(len(LEAFY), size=count)]
    needled = np.array(NEEDLED, np.float32)[generator.integers(len(NEEDLED), size=count)]
    tint = np.where(crowns.conifer[:, None], needled, leafy)
    tint *= generator.normal(1, 0.09, (count, 1)).astype(np.float32)
    relief = canopy_m + 0.35 * generator.standard_normal((size, size), np.float32)
    relief = ndimage.gaussian_filter(relief, 0.9)
    slope_row, slope_col = np.gradient(relief, GSD_M)
    lit = 1 + 0.17 * np.clip(slope_row * sun.row + slope_col * sun.col, -3.2, 3.2)
    sheet.paint(seen, tint[tree[seen]].T * lit[seen], WOODLAND)
    sheet.height_m[seen] = canopy_m[seen]


def draw_woodland(sheet: Sheet, settlement: Settlement, sun: Sun, generator: Generator) -> None:
    """Plant woods, groves, avenues and garden trees."""
    conifer_score = smooth_noise(sheet.size, 90, generator)
    stands = _plant_stands(sheet, settlement.yards, conifer_score, generator)
    lines = _plant_lines(sheet, settlement, generator)
    crowns = Crowns(*(np.concatenate(parts) for parts in zip(stands, lines, strict=True)))
    _draw_crowns(sheet, crowns, sun, generator)
