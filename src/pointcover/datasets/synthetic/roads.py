"""Roads: a main road, side streets and tracks, and their surfaces."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from pointcover.datasets.synthetic.fields import CROPS
from pointcover.datasets.synthetic.sheet import (
    BACKGROUND,
    GSD_M,
    PX_PER_M,
    ROAD,
    WATER,
    Floats,
    Sheet,
    column,
    smooth_noise,
)


@dataclass(frozen=True)
class Way:
    """A road, track or river: a straight axis with two waves on it.

    Positions on it are ``along`` the axis (px from the origin) and ``across`` it (px to the side).
    """

    row: float
    col: float
    angle: float  # radians from the column axis towards increasing rows
    start: float
    end: float
    width: float
    waves: tuple[tuple[float, float], ...]  # amplitude px, wavelength px
    kind: str

    def sideways(self, along: Floats) -> tuple[Floats, Floats]:
        """Return the sideways offset by the waves, and its slope (px, px per px)."""
        offset = np.zeros_like(along)
        slope = np.zeros_like(along)
        for amplitude, wavelength in self.waves:
            turn = along * np.float32(2 * math.pi / wavelength)
            offset += np.float32(amplitude) * np.sin(turn)
            slope += np.float32(amplitude * 2 * math.pi / wavelength) * np.cos(turn)
        return offset, slope

    def locate(self, size: int) -> tuple[Floats, Floats]:
        """Return ``along`` and signed ``across`` of each pixel of a sheet, (size, size) px."""
        rows = np.arange(size, dtype=np.float32)[:, None] - np.float32(self.row)
        cols = np.arange(size, dtype=np.float32)[None, :] - np.float32(self.col)
        cos, sin = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        along = cols * cos + rows * sin
        offset, slope = self.sideways(along)
        return along, (rows * cos - cols * sin - offset) / np.sqrt(1 + slope * slope)

    def point(self, along: float, across: float = 0.0) -> tuple[float, float, float]:
        """Return row, column and the way's angle there."""
        offset, slope = (float(x[0]) for x in self.sideways(np.array([along], np.float32)))
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        angle = self.angle + math.atan(slope)
        row = self.row + along * sin + offset * cos + across * math.cos(angle)
        col = self.col + along * cos - offset * sin - across * math.sin(angle)
        return row, col, angle


MAIN_ROAD_EVERY_M: Final = 300.0
SIDE_STREET_EVERY_M: Final = 95.0
TRACK_EVERY_M: Final = 130.0
ASPHALT: Final = ((0.47, 0.47, 0.47), (0.41, 0.41, 0.42), (0.56, 0.55, 0.54), (0.50, 0.48, 0.46))
EARTH: Final = ((0.64, 0.55, 0.44), (0.57, 0.48, 0.38), (0.62, 0.58, 0.51))


def plan_roads(size: int, generator: Generator) -> list[Way]:
    """Plan a main road across the sheet, side streets, and tracks into the fields."""
    ways = []
    for _ in range(max(1, round(size * GSD_M / MAIN_ROAD_EVERY_M))):
        angle = generator.uniform(0, math.pi)
        aside = generator.uniform(-0.3, 0.3) * size
        bend = min(size / 14, 22 * PX_PER_M)
        main = Way(
            row=size / 2 + aside * math.cos(angle),
            col=size / 2 - aside * math.sin(angle),
            angle=angle,
            start=-0.8 * size,
            end=0.8 * size,
            width=generator.uniform(6, 7.5) * PX_PER_M,
            waves=(
                (generator.uniform(-bend, bend), generator.uniform(150, 260) * PX_PER_M),
                (generator.uniform(-6, 6) * PX_PER_M, generator.uniform(70, 120) * PX_PER_M),
            ),
            kind="main",
        )
        ways.append(main)
        for kind, every_m in (("street", SIDE_STREET_EVERY_M), ("track", TRACK_EVERY_M)):
            ways += _branch_off(main, kind, every_m * PX_PER_M, size, generator)
    return ways


def _branch_off(main: Way, kind: str, every: float, size: int, generator: Generator) -> list[Way]:
    """Plan ways of a kind that leave a main road at about a right angle, to either side."""
    count = max(1, round(size / every))
    branches = []
    for place in range(count):
        along = (place + generator.uniform(0.15, 0.85)) / count * size - size / 2
        row, col, angle = main.point(along)
        towards_centre = (size / 2 - row) * math.cos(angle) - (size / 2 - col) * math.sin(angle)
        likely = 0.5 + 0.45 * np.sign(towards_centre)
        side = 1 if generator.random() < likely else -1
        track = kind == "track"
        length_m = generator.uniform(100, 350) if track else generator.uniform(50, 130)
        width_m = generator.uniform(2.5, 3.3) if track else generator.uniform(4, 5.5)
        bend_m = 9 if track else 4
        branches.append(
            Way(
                row=row,
                col=col,
                angle=angle + side * (math.pi / 2 + generator.normal(0, 0.18)),
                start=0,
                end=length_m * PX_PER_M,
                width=width_m * PX_PER_M,
                waves=(
                    (generator.uniform(-bend_m, bend_m) * PX_PER_M, 95 * PX_PER_M),
                    (generator.uniform(-2, 2) * PX_PER_M, 41 * PX_PER_M),
                ),
                kind=kind,
            )
        )
    return branches


def measure_road_distance(ways: list[Way], size: int) -> Floats:
    """Measure the distance of every pixel to the nearest road's edge, (size, size) px."""
    distance = np.full((size, size), np.inf, np.float32)
    for way in ways:
        along, across = way.locate(size)
        beyond = np.maximum(np.maximum(way.start - along, along - way.end), 0)
        np.minimum(distance, np.hypot(across, beyond) - way.width / 2, out=distance)
    return distance


def draw_roads(sheet: Sheet, ways: list[Way], generator: Generator) -> None:
    """Draw the ways, tracks first and main roads last; only main roads cross water."""
    worn = 0.05 * smooth_noise(sheet.size, 7, generator)
    worn += 0.035 * generator.standard_normal(worn.shape, np.float32)
    asphalt = ASPHALT[generator.integers(len(ASPHALT))]
    for way in sorted(ways, key=lambda way: way.width):
        along, across = way.locate(sheet.size)
        half = way.width / 2
        near = (along >= way.start) & (along <= way.end) & (np.abs(across) <= half + 1.5 * PX_PER_M)
        if way.kind != "main":  # only these have bridges
            near &= sheet.mask != WATER
        verge = near & (np.abs(across) > half) & (sheet.mask == BACKGROUND)
        sheet.paint(verge, sheet.colour[:, verge] * 0.8 + 0.2 * column((0.52, 0.50, 0.40)))
        surface = near & (np.abs(across) <= half)
        if way.kind == "track" or (way.kind == "street" and generator.random() < 0.35):
            tone = EARTH[generator.integers(len(EARTH))]
        else:
            tone = asphalt
        aside, onward = np.abs(across[surface]), along[surface]
        paved = column(tone) * np.float32(generator.normal(1, 0.07)) * (1 + worn[surface])
        if way.kind == "track":  # two wheel ruts and grass between them
            grassy = 0.45 * np.clip(1 - aside / (0.5 * PX_PER_M), 0, 1)
            paved += grassy * (column(CROPS[0].colour) - paved)
        elif way.kind == "main":
            dash = (aside < 0.6) & (onward % (9 * PX_PER_M) < 4 * PX_PER_M)
            edge = np.abs(aside - (half - 0.5 * PX_PER_M)) < 0.5
            paved[:, dash | edge] += 0.22
        sheet.paint(surface, paved, ROAD)
