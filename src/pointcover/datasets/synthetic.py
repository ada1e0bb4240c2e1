"""A landscape drawn by a program: orthophotos and their exact dense masks, without a download.

The pictures hold the five classes of LandCover.ai (https://landcover.ai.linuxpolska.com) at 0.25 m
and are hard in the way that real ones are: colours overlap between classes (dark water and shadow,
green water and meadow, gray roof and asphalt, tan track and bare soil), every picture has its own
season, sun and exposure, and what tells the classes apart is shape, texture and neighbourhood.

Read from `draw_orthophoto` at the end: each idea of the landscape is one function above it. Inside,
colours are float32 fractions of full brightness, positions and lengths are pixels unless a name
says metres, and heights are metres above the ground.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

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
Colour = tuple[float, float, float]


# ---------------------------------------------------------------------------------------- the sheet


@dataclass
class Sheet:
    """The picture while it is drawn; later strokes cover earlier ones.

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
        """Colour the pixels where (size, size) is true, and name them unless the ground stays.

        Args:
            where: (size, size) which pixels.
            colour: (3, pixels) in the order of ``where``, or (3, 1).
            class_id: what they are from now on; None keeps what they were.
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


def _patch(row: float, col: float, radius: float, size: int) -> Patch:
    """Cut the square of ``radius`` px around a point, clipped to the sheet (it may be empty)."""
    top, left = (min(max(math.floor(x - radius), 0), size) for x in (row, col))
    bottom, right = (min(max(math.ceil(x + radius) + 1, 0), size) for x in (row, col))
    return Patch(
        slice(top, bottom),
        slice(left, right),
        (np.arange(top, bottom, dtype=np.float32) - np.float32(row))[:, None],
        (np.arange(left, right, dtype=np.float32) - np.float32(col))[None, :],
    )


def _column(colour: Colour | Floats) -> Floats:
    return np.asarray(colour, np.float32).reshape(3, 1)


def _smooth_noise(size: int, wavelength_m: float, generator: Generator) -> Floats:
    """Draw smooth random hills, (size, size), about zero mean and unit deviation.

    A coarse grid of normal numbers under a cubic B-spline: the four weights of a position add to
    1, the mean of their squares' sum is 151/315, hence the scale in the last line.
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


# --------------------------------------------------------------------------------------- the fields


class Crop(NamedTuple):
    """What covers a field."""

    colour: Colour
    row_spacing_m: float
    row_contrast: float
    mottle: float
    tramlines: float  # contrast of the tractor's wheel marks


CROPS: Final = (
    Crop((0.38, 0.46, 0.26), 3.0, 0.010, 0.10, 0.00),  # meadow
    Crop((0.30, 0.40, 0.22), 2.5, 0.012, 0.12, 0.00),  # wet meadow
    Crop((0.46, 0.47, 0.32), 4.0, 0.035, 0.07, 0.00),  # mown hay
    Crop((0.66, 0.57, 0.40), 1.2, 0.025, 0.04, 0.16),  # ripe cereal
    Crop((0.60, 0.54, 0.42), 2.0, 0.050, 0.05, 0.05),  # stubble
    Crop((0.28, 0.38, 0.20), 1.5, 0.070, 0.06, 0.10),  # maize, potatoes
    Crop((0.44, 0.36, 0.28), 1.5, 0.060, 0.06, 0.00),  # ploughed soil
    Crop((0.56, 0.45, 0.34), 2.0, 0.035, 0.08, 0.00),  # dry bare soil
    Crop((0.55, 0.53, 0.50), 3.0, 0.010, 0.06, 0.00),  # gravel and fallow
)
FIELD_WIDTH_M: Final = (18.0, 48.0)
FIELD_LENGTH_M: Final = (45.0, 130.0)
DISTRICT_M: Final = 150.0
"""Fields of one district lie parallel; about this far apart the next district begins."""

TRAMLINE_SPACING_M: Final = 15.0
WHEEL_TRACK_M: Final = 2.0
MARGIN_M: Final = 1.2
"""Uncut grass between two fields."""


def _cut_axis(
    length: int, pieces_m: tuple[float, float], generator: Generator
) -> tuple[NDArray[np.int32], Floats]:
    """Cut an axis into pieces: for every pixel the piece's number and the px to its nearer end."""
    low, high = (piece * PX_PER_M for piece in pieces_m)
    ends = np.cumsum(generator.uniform(low, high, math.ceil(length / low) + 1))
    positions = np.arange(length)
    piece = np.searchsorted(ends, positions)
    starts = np.concatenate([[0.0], ends])
    to_end = np.minimum(positions - starts[piece], ends[piece] - positions)
    return piece.astype(np.int32), to_end.astype(np.float32)


def _assign_districts(size: int, generator: Generator) -> tuple[NDArray[np.int32], Floats, int]:
    """Share the sheet among random centres, borders bent: district numbers, px to a border."""
    count = max(3, round((size * GSD_M / DISTRICT_M) ** 2) + 2)
    centres = generator.uniform(-0.1 * size, 1.1 * size, (count, 2))
    bend_row, bend_col = (10 * PX_PER_M * _smooth_noise(size, 90, generator) for _ in range(2))
    rows = np.arange(size, dtype=np.float32)[:, None] + bend_row
    cols = np.arange(size, dtype=np.float32)[None, :] + bend_col
    nearest = np.full((size, size), np.inf, np.float32)
    second = nearest.copy()
    district = np.zeros((size, size), np.int32)
    for number, (row, col) in enumerate(centres.astype(np.float32)):
        distance = np.hypot(rows - row, cols - col)
        closer = distance < nearest
        np.minimum(second, np.maximum(distance, nearest), out=second)
        np.minimum(nearest, distance, out=nearest)
        district[closer] = number
    to_border = np.asarray((second - nearest) / 2, np.float32)
    return district, to_border, count


def _lay_fields(size: int, generator: Generator) -> Floats:
    """Cover the sheet with a patchwork of fields, (3, size, size): strips in bent districts."""
    district, to_border, districts = _assign_districts(size, generator)
    angle = generator.uniform(0, math.pi, districts).astype(np.float32)
    rows = np.arange(size, dtype=np.float32)[:, None]
    cols = np.arange(size, dtype=np.float32)[None, :]
    cos, sin = np.cos(angle)[district], np.sin(angle)[district]
    wobble = 1.2 * PX_PER_M * _smooth_noise(size, 60, generator)
    span = math.ceil(3.2 * size) + 200
    across = np.clip(rows * cos + cols * sin + wobble + 1.1 * size + 40, 0, span - 1)
    along = np.clip(cols * cos - rows * sin + wobble + 1.1 * size + 40, 0, span - 1)

    strip_at, strip_end = _cut_axis(span, FIELD_WIDTH_M, generator)
    block_at, block_end = _cut_axis(span, FIELD_LENGTH_M, generator)
    across_px = across.astype(np.int32)
    strip = strip_at[across_px]
    strips, blocks = int(strip_at[-1]) + 1, int(block_at[-1]) + 1
    shift = generator.integers(0, 30 * round(PX_PER_M), strips).astype(np.int32)
    along_px = np.minimum(along.astype(np.int32) + shift[strip], span - 1)
    field = (district * strips + strip) * blocks + block_at[along_px]
    to_edge = np.minimum(np.minimum(strip_end[across_px], block_end[along_px]), to_border)

    # Every number a field could have gets its crop; the season makes some crops common.
    numbers = districts * strips * blocks
    season = generator.dirichlet(np.full(len(CROPS), 1.6)) + 0.02
    season[:2] += 0.12
    season[-1] = 0.04
    crop = generator.choice(len(CROPS), numbers, p=season / season.sum())
    base = np.array([crop.colour for crop in CROPS], np.float32)[crop]
    base *= generator.normal(1, 0.07, (numbers, 1)).astype(np.float32)
    base *= generator.normal(1, 0.025, (numbers, 3)).astype(np.float32)
    facts = np.array([crop[1:] for crop in CROPS], np.float32)[crop]
    spacing, contrast, mottle, tramlines = facts.T[:, field]

    texture = contrast * np.sin(across * (np.float32(2 * math.pi * GSD_M) / spacing))
    texture += mottle * (
        0.5 * _smooth_noise(size, 22, generator) + 0.45 * _smooth_noise(size, 5, generator)
    )
    wheel = np.arange(span) % (TRAMLINE_SPACING_M * PX_PER_M)
    wheel_px = WHEEL_TRACK_M * PX_PER_M
    wheel_mark = ((wheel < 2) | (np.abs(wheel - wheel_px) < 1)).astype(np.float32)
    texture -= tramlines * wheel_mark[across_px]
    texture += 0.03 * generator.standard_normal((size, size), np.float32)
    colour = np.stack([base[:, band][field] for band in range(3)]) * (1 + texture)
    margin = np.clip(1.5 - to_edge / (MARGIN_M * PX_PER_M), 0, 1)
    grass = _column(CROPS[1].colour)[:, :, None]
    colour += 0.7 * margin * (grass * (1 + texture) - colour)
    return np.asarray(colour, np.float32)


# ---------------------------------------------------------------------------------------- the roads


@dataclass(frozen=True)
class Way:
    """A long thin thing (road, track, river): a straight axis with two waves on it.

    Positions on it are ``along`` the axis (px from the origin) and ``across`` it (px to the side).
    """

    row: float
    col: float
    angle: float  # radians from the column axis towards growing rows
    start: float
    end: float
    width: float
    waves: tuple[tuple[float, float], ...]  # amplitude px, wavelength px
    kind: str

    def sideways(self, along: Floats) -> tuple[Floats, Floats]:
        """Say how far the waves carry the way to the side, and how steeply (px, px per px)."""
        offset = np.zeros_like(along)
        slope = np.zeros_like(along)
        for amplitude, wavelength in self.waves:
            turn = along * np.float32(2 * math.pi / wavelength)
            offset += np.float32(amplitude) * np.sin(turn)
            slope += np.float32(amplitude * 2 * math.pi / wavelength) * np.cos(turn)
        return offset, slope

    def locate(self, size: int) -> tuple[Floats, Floats]:
        """Give every pixel of a sheet its ``along`` and signed ``across``, (size, size) px each."""
        rows = np.arange(size, dtype=np.float32)[:, None] - np.float32(self.row)
        cols = np.arange(size, dtype=np.float32)[None, :] - np.float32(self.col)
        cos, sin = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        along = cols * cos + rows * sin
        offset, slope = self.sideways(along)
        return along, (rows * cos - cols * sin - offset) / np.sqrt(1 + slope * slope)

    def point(self, along: float, across: float = 0.0) -> tuple[float, float, float]:
        """Give row, column and the way's angle there."""
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


def _plan_roads(size: int, generator: Generator) -> list[Way]:
    """Lay a main road across the sheet, streets off it, and tracks into the fields."""
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
    """Let ways of a kind leave a main road, about square to it, to one side or the other."""
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


def _measure_road_distance(ways: list[Way], size: int) -> Floats:
    """Say how far every pixel is from the nearest road's edge, (size, size) px."""
    distance = np.full((size, size), np.inf, np.float32)
    for way in ways:
        along, across = way.locate(size)
        beyond = np.maximum(np.maximum(way.start - along, along - way.end), 0)
        np.minimum(distance, np.hypot(across, beyond) - way.width / 2, out=distance)
    return distance


def _draw_roads(sheet: Sheet, ways: list[Way], generator: Generator) -> None:
    """Pave the ways, the humblest first; only a main road bridges water."""
    worn = 0.05 * _smooth_noise(sheet.size, 7, generator)
    worn += 0.035 * generator.standard_normal(worn.shape, np.float32)
    asphalt = ASPHALT[generator.integers(len(ASPHALT))]
    for way in sorted(ways, key=lambda way: way.width):
        along, across = way.locate(sheet.size)
        half = way.width / 2
        near = (along >= way.start) & (along <= way.end) & (np.abs(across) <= half + 1.5 * PX_PER_M)
        if way.kind != "main":  # only these have bridges
            near &= sheet.mask != WATER
        verge = near & (np.abs(across) > half) & (sheet.mask == BACKGROUND)
        sheet.paint(verge, sheet.colour[:, verge] * 0.8 + 0.2 * _column((0.52, 0.50, 0.40)))
        surface = near & (np.abs(across) <= half)
        if way.kind == "track" or (way.kind == "street" and generator.random() < 0.35):
            tone = EARTH[generator.integers(len(EARTH))]
        else:
            tone = asphalt
        aside, onward = np.abs(across[surface]), along[surface]
        paved = _column(tone) * np.float32(generator.normal(1, 0.07)) * (1 + worn[surface])
        if way.kind == "track":  # two wheel ruts and grass between them
            grassy = 0.45 * np.clip(1 - aside / (0.5 * PX_PER_M), 0, 1)
            paved += grassy * (_column(CROPS[0].colour) - paved)
        elif way.kind == "main":
            dash = (aside < 0.6) & (onward % (9 * PX_PER_M) < 4 * PX_PER_M)
            edge = np.abs(aside - (half - 0.5 * PX_PER_M)) < 0.5
            paved[:, dash | edge] += 0.22
        sheet.paint(surface, paved, ROAD)


# ---------------------------------------------------------------------------------------- the water

WATER_COLOURS: Final = (
    (0.17, 0.21, 0.20),  # deep and clear: like shadow
    (0.21, 0.25, 0.19),  # dark under trees: like woodland
    (0.33, 0.41, 0.24),  # algae: like meadow
    (0.36, 0.40, 0.36),  # shallow
    (0.40, 0.42, 0.43),  # sky in it: like asphalt
    (0.42, 0.38, 0.29),  # silt after rain: like soil
)
WATER_ODDS: Final = (0.26, 0.22, 0.16, 0.14, 0.12, 0.10)
LAKE_SHARE: Final = (0.055, 0.11)
"""Of the sheet; what a river covers already is taken off."""

POND_SHARE: Final = (0.006, 0.012)
RIVER_ODDS: Final = 0.45
RIVER_WIDTH_M: Final = (7.0, 13.0)
SHORTEST_STREET_M: Final = 25.0
LAKE_TO_ROAD_M: Final = 6.0


def _measure_distance(targets: Flags, points: NDArray[np.float64]) -> Floats:
    """Say how far (count, 2) points are from the nearest target pixel, roughly; (count,) px."""
    coarse = 8
    row, col = np.nonzero(targets[::coarse, ::coarse])
    distance = np.hypot(points[:, :1] - coarse * row, points[:, 1:] - coarse * col)
    return np.asarray(distance.min(axis=1, initial=np.inf), np.float32)


def _find_lake(sheet: Sheet, share: float, generator: Generator) -> Flags:
    """Choose a basin away from roads and water that covers ``share`` of the sheet, (size, size)."""
    size = sheet.size
    tries = generator.uniform(0.12, 0.88, (24, 2)) * size
    at = tuple(tries.astype(np.intp).T)
    room = np.minimum(sheet.road_distance[at], _measure_distance(sheet.mask == WATER, tries))
    row, col = tries[int(np.argmax(room))]
    patch = _patch(row, col, 2 * size, size)
    angle, stretch = generator.uniform(0, math.pi), generator.uniform(1, 1.9)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u = (patch.col_offset * cos + patch.row_offset * sin) / np.float32(stretch)
    v = (patch.row_offset * cos - patch.col_offset * sin) * np.float32(stretch)
    radius = math.sqrt(share / math.pi) * size
    level = np.hypot(u, v) / np.float32(radius)
    level += 0.25 * _smooth_noise(size, 2.2 * radius * GSD_M, generator)
    level += 0.06 * _smooth_noise(size, 0.6 * radius * GSD_M, generator)
    level[(sheet.road_distance < LAKE_TO_ROAD_M * PX_PER_M) | (sheet.mask == WATER)] = np.inf
    shore = np.quantile(level[::4, ::4], share, method="lower")
    return np.asarray((level <= shore) & np.isfinite(level))


def _find_river(main: Way, size: int, generator: Generator) -> Flags:
    """Lead a meandering river across the main road, (size, size)."""
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
    half = river.width / 2 * (1 + 0.18 * _smooth_noise(size, 30, generator))
    return np.asarray(np.abs(across) < half)


def _stop_at_river(ways: list[Way], river: Flags) -> list[Way]:
    """Let all but main roads end 4 m before a river (size, size); too short ones go."""
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


def _draw_water(sheet: Sheet, river: Flags, generator: Generator) -> None:
    """Fill the river, a pond and perhaps a lake; banks are dark grass, ripples are faint.

    Without a river there is a lake; with one (it may lie outside the sheet) a small one or none.
    """
    drift = _smooth_noise(sheet.size, 45, generator)
    ripple = 0.02 * _smooth_noise(sheet.size, 1.6, generator)
    _fill(sheet, river, drift, ripple, generator)
    wanted = generator.uniform(*LAKE_SHARE) - np.count_nonzero(river) / river.size
    for share in (wanted, generator.uniform(*POND_SHARE)):
        if share > POND_SHARE[0]:
            _fill(sheet, _find_lake(sheet, share, generator), drift, ripple, generator)


def _fill(sheet: Sheet, body: Flags, drift: Floats, ripple: Floats, generator: Generator) -> None:
    """Paint one body of water, (size, size), and the bank around it."""
    bank = ndimage.binary_dilation(body, iterations=round(1.5 * PX_PER_M)) & ~body
    bank &= sheet.mask == BACKGROUND
    sheet.paint(bank, sheet.colour[:, bank] * 0.45 + 0.55 * _column((0.27, 0.33, 0.19)))
    tone = _column(WATER_COLOURS[generator.choice(len(WATER_COLOURS), p=WATER_ODDS)])
    tone = tone * np.float32(generator.normal(1, 0.08))
    silt = np.clip(0.10 * drift[body], -0.15, 0.25)
    shade = 1 + 0.5 * silt + ripple[body]
    sheet.paint(body, tone * shade + 0.04 * _column((1, 0.9, 0.5)) * silt, WATER)


# ------------------------------------------------------------------------------------ the buildings


class Wing(NamedTuple):
    """A rectangle of a house under one gable: centre, half length and half width in px."""

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
BUILDING_SHARE: Final = (0.030, 0.052)
EAVES_M: Final = (3.0, 6.0)
ROOF_PITCH: Final = 0.65
"""Metres that a roof rises a metre towards its ridge."""

PLOT_M: Final = 19.0
"""Distance between neighbours along a street."""


def _design_house(row: float, col: float, angle: float, side: int, generator: Generator) -> House:
    """Draw a house's size and shape: a plain rectangle, an L, or now and then a long barn."""
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
    village = _smooth_noise(size, 160, generator)
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


def _plan_houses(sheet: Sheet, ways: list[Way], generator: Generator) -> list[House]:
    """Settle plot after plot until the buildings' share of the sheet is reached.

    A house keeps off roads, water and other houses by about 2 m.
    """
    wanted = generator.uniform(*BUILDING_SHARE) * sheet.size**2
    taken = (sheet.mask == WATER) | (sheet.road_distance < 1.5 * PX_PER_M)
    houses: list[House] = []
    built = 0
    for house in _find_plots(ways, sheet.size, generator):
        patch = _patch(house.row, house.col, house.radius + 3 * PX_PER_M, sheet.size)
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
    """Say which pixels of a house's patch are in a wing, or at most ``spare`` px outside."""
    u, v = wing.local(patch, house.row, house.col)
    return (np.abs(u) <= wing.half_length + spare) & (np.abs(v) <= wing.half_width + spare)


def _draw_yards(sheet: Sheet, houses: list[House], generator: Generator) -> Flags:
    """Lay a yard around each house and a drive to its road; return what trees must keep off."""
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
        patch = _patch(house.row, house.col, 1.5 * yard.half_width + yard.half_length, sheet.size)
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
            here[:, part] = _column(tone) * bright
        clear[patch.rows, patch.cols] |= inside
    return clear


def _draw_houses(sheet: Sheet, houses: list[House], sun: Sun, generator: Generator) -> None:
    """Roof the houses: two facets a wing, the one that faces the sun brighter."""
    grain = 0.02 * generator.standard_normal((sheet.size, sheet.size), np.float32)
    for house in houses:
        roof = ROOF_COLOURS[generator.integers(len(ROOF_COLOURS))]
        tone = _column(roof) * generator.normal(1, 0.06, (3, 1)).clip(0.85, 1.15)
        tone = (tone * generator.normal(1, 0.06)).astype(np.float32)
        flat = generator.random() < 0.18
        eaves_m = generator.uniform(*EAVES_M)
        patch = _patch(house.row, house.col, house.radius + 2, sheet.size)
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


# ------------------------------------------------------------------------------------- the woodland

WOOD_SHARE: Final = (0.12, 0.27)
"""Of the sheet in closed stands; edges, groves and avenues come on top."""

CROWN_SPACING_M: Final = 4.0
LEAFY: Final = ((0.26, 0.34, 0.18), (0.30, 0.38, 0.20), (0.23, 0.31, 0.18), (0.36, 0.40, 0.22))
NEEDLED: Final = ((0.17, 0.25, 0.17), (0.15, 0.22, 0.16))
FOREST_FLOOR: Final = (0.20, 0.23, 0.15)


class Crowns(NamedTuple):
    """Trees: (count,) positions and radii in px, tops in metres, and whether they are conifers."""

    row: Floats
    col: Floats
    radius: Floats
    top_m: Floats
    conifer: Flags


def _grow_crowns(row: Floats, col: Floats, conifer: Flags, generator: Generator) -> Crowns:
    """Give trees at (count,) positions a size: conifers are narrow, leafy trees broad."""
    radius_m = np.where(conifer, 2.3, 2.7) * generator.uniform(0.75, 1.3, row.shape)
    top_m = 2.6 * radius_m + generator.uniform(1, 4, row.shape)
    radius = (radius_m * PX_PER_M).astype(np.float32)
    return Crowns(row, col, radius, top_m.astype(np.float32), conifer)


def _plant_stands(
    sheet: Sheet, clear: Flags, conifer_score: Floats, generator: Generator
) -> Crowns:
    """Fill irregular patches with trees on a shaken grid, and lay the dark floor under them."""
    size = sheet.size
    wood = _smooth_noise(size, 110, generator) + 0.35 * _smooth_noise(size, 30, generator)
    wood += 0.12 * _smooth_noise(size, 9, generator)
    off_limits = clear | (sheet.mask != BACKGROUND) | (sheet.road_distance < 2 * PX_PER_M)
    wood[off_limits] = -np.inf
    edge = np.quantile(wood[::4, ::4], 1 - generator.uniform(*WOOD_SHARE), method="lower")
    floor = wood > edge + 0.12
    closed = ndimage.uniform_filter(floor.astype(np.float32), round(5 * PX_PER_M) + 1)
    floor &= closed > 0.6  # no tree stands in a sliver
    spots = CROWN_SPACING_M * PX_PER_M
    count = math.ceil(size / spots) + 1
    grid = (np.mgrid[:count, :count] + generator.uniform(-0.4, 0.4, (2, count, count))) * spots
    row, col = grid.reshape(2, -1).clip(0, size - 1).astype(np.float32)
    at = (row.astype(np.intp), col.astype(np.intp))
    inside = wood[at] > edge
    dapple = 1 + 0.15 * generator.standard_normal(np.count_nonzero(floor), np.float32)
    sheet.paint(floor, _column(FOREST_FLOOR) * dapple, WOODLAND)
    conifer = (conifer_score[at] > 0.35)[inside]
    return _grow_crowns(row[inside], col[inside], conifer, generator)


def _plant_lines(
    sheet: Sheet, ways: list[Way], houses: list[House], clear: Flags, generator: Generator
) -> Crowns:
    """Plant avenues along some ways, small groves in the fields and trees behind houses."""
    size = sheet.size
    spots: list[tuple[float, float]] = []
    for way in ways:
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
    for house in houses:
        away = house.radius * generator.uniform(1.1, 1.5)
        turn = generator.uniform(0, 2 * math.pi)
        spots.append((house.row + away * math.sin(turn), house.col + away * math.cos(turn)))
    places = np.array(spots, np.float32)
    places = places[((places >= 0) & (places <= size - 1)).all(axis=1)]
    at = (places[:, 0].astype(np.intp), places[:, 1].astype(np.intp))
    free = (sheet.mask[at] == BACKGROUND) & (sheet.road_distance[at] > 1.8 * PX_PER_M)
    places = places[free]
    conifer = generator.random(len(places)) < 0.25
    return _grow_crowns(places[:, 0], places[:, 1], conifer, generator)


def _draw_crowns(sheet: Sheet, crowns: Crowns, sun: Sun, generator: Generator) -> None:
    """Raise every crown as a lumpy dome or cone, colour it, and light its sunny side."""
    size = sheet.size
    lumps = 0.22 * _smooth_noise(size, 1.8, generator)
    canopy_m = np.zeros((size, size), np.float32)
    tree = np.full((size, size), -1, np.int32)
    for number, (row, col, radius, top_m, conifer) in enumerate(
        zip(*(values.tolist() for values in crowns), strict=True)
    ):
        patch = _patch(row, col, 1.25 * radius, size)
        here = (patch.rows, patch.cols)
        out = (patch.row_offset**2 + patch.col_offset**2) * np.float32(1 / radius**2) + lumps[here]
        dome = 1 - np.clip(out, 0, 1)
        dome = dome if conifer else np.sqrt(dome)
        rise_m = np.float32(top_m) * (np.float32(0.45) + np.float32(0.55) * dome)
        higher = (out < 1) & (rise_m > canopy_m[here])
        canopy_m[here][higher] = rise_m[higher]
        tree[here][higher] = number
    # A roof stays free of leaves; everything else may lie under them.
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


def _draw_woodland(
    sheet: Sheet, ways: list[Way], houses: list[House], clear: Flags, sun: Sun, generator: Generator
) -> None:
    """Plant woods, groves, avenues and garden trees."""
    conifer_score = _smooth_noise(sheet.size, 90, generator)
    stands = _plant_stands(sheet, clear, conifer_score, generator)
    lines = _plant_lines(sheet, ways, houses, clear, generator)
    crowns = Crowns(*(np.concatenate(parts) for parts in zip(stands, lines, strict=True)))
    _draw_crowns(sheet, crowns, sun, generator)


# --------------------------------------------------------------------------------- light and camera

SHADOW_TINT: Final = (0.40, 0.45, 0.55)
"""What is left of red, green and blue in full shadow: the blue sky still shines."""

SHADOW_REACH_PX: Final = 64


def _place_sun(generator: Generator) -> Sun:
    """Put the sun somewhere between east and west by way of south: shadows fall upwards."""
    turn = generator.uniform(-1.1, 1.1)
    elevation = math.radians(generator.uniform(38, 56))
    return Sun(-math.cos(turn), math.sin(turn), math.tan(elevation))


def _moved(values: Floats, rows: int, cols: int) -> Floats:
    """Move (size, size) values by whole pixels; what comes in from outside is 0."""
    moved = np.zeros_like(values)
    size = values.shape[0]
    if max(abs(rows), abs(cols)) < size:
        moved[max(rows, 0) : size + min(rows, 0), max(cols, 0) : size + min(cols, 0)] = values[
            max(-rows, 0) : size - max(rows, 0), max(-cols, 0) : size - max(cols, 0)
        ]
    return moved


def _cast_shadows(sheet: Sheet, sun: Sun) -> None:
    """Darken what lies in the shadow of houses and trees; labels stay.

    The shadow's ceiling over a pixel is the greatest height up-sun, less the ray's fall on the way.
    Moves of 1, 2, 4 … px, each upon the last, try every distance below twice the last.
    """
    ceiling_m = sheet.height_m
    reach = 1
    while reach < SHADOW_REACH_PX:
        fall_m = np.float32(reach * GSD_M * sun.tan_elevation)
        moved = _moved(ceiling_m, round(reach * sun.row), round(reach * sun.col))
        ceiling_m = np.maximum(ceiling_m, moved - fall_m)
        reach *= 2
    depth = np.clip((ceiling_m - sheet.height_m - 0.3) / 1.2, 0, 1)
    sheet.colour *= 1 - depth * (1 - _column(SHADOW_TINT)[:, :, None])


def _expose(colour: Floats, generator: Generator) -> NDArray[np.uint8]:
    """Photograph (3, size, size) colours: light, white balance, haze, blur and noise → uint8."""
    size = colour.shape[-1]
    light = 1 + 0.05 * _smooth_noise(size, 220, generator)
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


def draw_orthophoto(
    size_px: int, generator: Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a square orthophoto of a made-up landscape and its dense mask.

    From 512 px on every class occurs. Nothing but the arguments decides what is drawn.

    Args:
        size_px: height and width; one pixel is GSD_M on the ground.
        generator: where all chance comes from; drawing moves it on.

    Returns:
        image: (3, size_px, size_px) uint8, red, green, blue.
        mask: (size_px, size_px) uint8, 0 background, 1 building, 2 woodland, 3 water, 4 road;
            exact for what was drawn, before the camera's blur.

    Raises:
        ValueError: ``size_px`` is below 64, where no road or house fits.
    """
    if size_px < 64:
        raise ValueError(f"size_px is {size_px}, but a landscape needs 64 or more: use 512")
    sun = _place_sun(generator)
    ways = _plan_roads(size_px, generator)
    river = np.zeros((size_px, size_px), bool)
    if generator.random() < RIVER_ODDS:
        river = _find_river(ways[0], size_px, generator)
        ways = _stop_at_river(ways, river)
    sheet = Sheet(
        colour=_lay_fields(size_px, generator),
        mask=np.full((size_px, size_px), BACKGROUND, np.uint8),
        height_m=np.zeros((size_px, size_px), np.float32),
        road_distance=_measure_road_distance(ways, size_px),
    )
    _draw_water(sheet, river, generator)
    _draw_roads(sheet, ways, generator)
    houses = _plan_houses(sheet, ways, generator)
    clear = _draw_yards(sheet, houses, generator)
    _draw_houses(sheet, houses, sun, generator)
    _draw_woodland(sheet, ways, houses, clear, sun, generator)
    _cast_shadows(sheet, sun)
    return _expose(sheet.colour, generator), sheet.mask
