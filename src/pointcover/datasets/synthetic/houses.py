"""Houses along the roads, with their yards and roofs."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

from pointcover.datasets.synthetic.roads import Way
from pointcover.datasets.synthetic.sheet import (
    BACKGROUND,
    BUILDING,
    GSD_M,
    PX_PER_M,
    WATER,
    Flags,
    Floats,
    Patch,
    Sheet,
    Sun,
    column,
    patch_around,
    smooth_noise,
)


class Wing(NamedTuple):
    """A rectangle of a house with one gable roof: centre, half length and half width in px."""

    row: float
    col: float
    angle: float
    half_length: float
    half_width: float

    def local(self, patch: Patch, row: float, col: float) -> tuple[Floats, Floats]:
        """Turn a patch around (row, col) into positions along and across the ridge, px."""
        rows = patch.row_offset + np.float32(row - self.row)
        cols = patch.col_offset + np.float32(col - self.col)
        cos, sin = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        return cols * cos + rows * sin, rows * cos - cols * sin


class House(NamedTuple):
    """A building: one wing or two (an L), and where it turns to the road."""

    row: float
    col: float
    angle: float  # of the road there
    side: int  # the road's side it stands on: +1 or -1
    wings: tuple[Wing, ...]
    radius: float


ROOF_COLOURS: Final = (
    (0.60, 0.38, 0.29),  # new tiles
    (0.55, 0.42, 0.34),  # old tiles: like bare soil
    (0.43, 0.33, 0.28),  # brown
    (0.47, 0.47, 0.47),  # fibre cement: like asphalt
    (0.54, 0.53, 0.52),  # gray sheet metal: like gravel
    (0.33, 0.34, 0.36),  # slate
    (0.80, 0.80, 0.79),  # white sheet metal
    (0.35, 0.41, 0.33),  # green sheet metal
)
YARD_COLOURS: Final = (
    (0.38, 0.46, 0.27),  # lawn
    (0.34, 0.42, 0.24),
    (0.53, 0.52, 0.50),  # gravel, paving
    (0.60, 0.53, 0.44),  # beaten earth
)
BUILDING_FRACTION: Final = (0.030, 0.052)
EAVES_M: Final = (3.0, 6.0)
ROOF_PITCH: Final = 0.65
"""Metres that a roof rises a metre towards its ridge."""

PLOT_M: Final = 19.0
"""Distance between neighbours along a street."""


def _design_house(row: float, col: float, angle: float, side: int, generator: Generator) -> House:
    """Draw a house's size and shape: a rectangle, an L, or rarely a long barn."""
    barn = generator.random() < 0.12
    length = generator.uniform(18, 26) if barn else generator.uniform(9.5, 15)
    width = generator.uniform(9, 12) if barn else generator.uniform(7.5, 10)
    half_length, half_width = length * PX_PER_M / 2, width * PX_PER_M / 2
    turned = angle + (math.pi / 2 if generator.random() < 0.3 and not barn else 0)
    turned += generator.normal(0, 0.05)
    wings = [Wing(row, col, turned, half_length, half_width)]
    if not barn and generator.random() < 0.45:
        reach, end = half_width * generator.uniform(1.1, 1.6), generator.choice([-1, 1])
        u = end * (half_length - 0.75 * half_width)
        v = generator.choice([-1, 1]) * 0.5 * reach
        wings.append(
            Wing(
                row + u * math.sin(turned) + v * math.cos(turned),
                col + u * math.cos(turned) - v * math.sin(turned),
                turned + math.pi / 2,
                reach,
                0.75 * half_width,
            )
        )
    radius = math.hypot(half_length, half_width) + (half_width if len(wings) > 1 else 0)
    return House(row, col, angle, side, tuple(wings), radius)


def _find_plots(ways: list[Way], size: int, generator: Generator) -> list[House]:
    """Design a house for every plot along main roads and streets, the villages' plots first."""
    village = smooth_noise(size, 160, generator)
    plots: list[tuple[float, House]] = []
    for way in ways:
        if way.kind == "track":
            continue
        for side in (-1, 1):
            along = max(way.start, -0.7 * size) + generator.uniform(0.4, 1) * PLOT_M * PX_PER_M
            while along < min(way.end, 0.7 * size):
                setback_m = generator.uniform(3, 7) + 6.5
                row, col, angle = way.point(along, side * (way.width / 2 + setback_m * PX_PER_M))
                house = _design_house(row, col, angle, side, generator)
                along += PLOT_M * PX_PER_M * generator.uniform(0.9, 1.4)
                if 0 <= row < size and 0 <= col < size:
                    score = village[int(row), int(col)] + generator.normal(0, 0.35)
                    plots.append((float(score), house))
    return [house for _, house in sorted(plots, key=lambda plot: -plot[0])]


def plan_houses(sheet: Sheet, ways: list[Way], generator: Generator) -> list[House]:
    """Place houses on plots until buildings cover the wanted fraction of the sheet.

    A house keeps off roads, water and other houses by about 2 m.
    """
    wanted = generator.uniform(*BUILDING_FRACTION) * sheet.size**2
    taken = (sheet.mask == WATER) | (sheet.road_distance < 1.5 * PX_PER_M)
    houses: list[House] = []
    built = 0
    for house in _find_plots(ways, sheet.size, generator):
        patch = patch_around(house.row, house.col, house.radius + 3 * PX_PER_M, sheet.size)
        footprint, around = (
            np.any([_inside(wing, patch, house, spare) for wing in house.wings], axis=0)
            for spare in (0, 2 * PX_PER_M)
        )
        if (taken[patch.rows, patch.cols] & around).any():
            continue
        taken[patch.rows, patch.cols] |= around
        houses.append(house)
        built += int(np.count_nonzero(footprint))
        if built >= wanted:
            break
    return houses


def _inside(wing: Wing, patch: Patch, house: House, spare: float) -> Flags:
    """Return which pixels of a house's patch are in a wing, or at most ``spare`` px outside."""
    u, v = wing.local(patch, house.row, house.col)
    return (np.abs(u) <= wing.half_length + spare) & (np.abs(v) <= wing.half_width + spare)


def draw_yards(sheet: Sheet, houses: list[House], generator: Generator) -> Flags:
    """Draw a yard around each house and a drive to its road; return where no trees may be."""
    clear = np.zeros((sheet.size, sheet.size), bool)
    grain = 0.04 * generator.standard_normal((sheet.size, sheet.size), np.float32)
    for house in houses:
        yard = Wing(
            house.row,
            house.col,
            house.angle,
            PLOT_M * PX_PER_M * generator.uniform(0.48, 0.62),
            generator.uniform(10, 14) * PX_PER_M,
        )
        patch = patch_around(
            house.row, house.col, 1.5 * yard.half_width + yard.half_length, sheet.size
        )
        u, v = yard.local(patch, house.row, house.col)
        ground = sheet.mask[patch.rows, patch.cols] == BACKGROUND
        inside = ground & (np.abs(u) < yard.half_length) & (np.abs(v) < yard.half_width)
        drive_at = generator.uniform(-0.7, 0.7) * yard.half_length
        drive = inside & (np.abs(u - drive_at) < 1.5 * PX_PER_M) & (v * house.side < 0)
        lawn = YARD_COLOURS[generator.choice(len(YARD_COLOURS), p=[0.35, 0.30, 0.2, 0.15])]
        paving = YARD_COLOURS[generator.integers(2, len(YARD_COLOURS))]
        here = sheet.colour[:, patch.rows, patch.cols]
        for part, tone in ((inside, lawn), (drive, paving)):
            bright = np.float32(generator.normal(1, 0.06)) + grain[patch.rows, patch.cols][part]
            here[:, part] = column(tone) * bright
        clear[patch.rows, patch.cols] |= inside
    return clear


def draw_houses(sheet: Sheet, houses: list[House], sun: Sun, generator: Generator) -> None:
    """Draw the roofs: two sides per wing, the one that faces the sun brighter."""
    grain = 0.02 * generator.standard_normal((sheet.size, sheet.size), np.float32)
    for house in houses:
        roof = ROOF_COLOURS[generator.integers(len(ROOF_COLOURS))]
        tone = column(roof) * generator.normal(1, 0.06, (3, 1)).clip(0.85, 1.15)
        tone = (tone * generator.normal(1, 0.06)).astype(np.float32)
        flat = generator.random() < 0.18
        eaves_m = generator.uniform(*EAVES_M)
        patch = patch_around(house.row, house.col, house.radius + 2, sheet.size)
        here = (patch.rows, patch.cols)
        for wing in house.wings:
            _, v = wing.local(patch, house.row, house.col)
            rise_m = (wing.half_width - np.abs(v)) * np.float32(GSD_M * ROOF_PITCH)
            top_m = eaves_m + (0 * rise_m if flat else rise_m)
            visible = _inside(wing, patch, house, 0) & (top_m > sheet.height_m[here])
            towards_sun = math.sin(wing.angle) * sun.col - math.cos(wing.angle) * sun.row
            light = np.sign(v) * np.float32(0 if flat else 0.30 * towards_sun)
            courses = 0.035 * np.sin(np.abs(v) * np.float32(2 * math.pi / 4.5))
            ridge = -0.12 * (np.abs(v) < 0.8) * (not flat)
            rim = 0.12 * ~_inside(wing, patch, house, spare=-1)
            bright = 1 + light + courses + ridge + rim + grain[here]
            sheet.height_m[here][visible] = top_m[visible]
            sheet.colour[:, *here][:, visible] = tone * bright[visible]
            sheet.mask[here][visible] = BUILDING
