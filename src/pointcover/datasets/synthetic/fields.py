"""Fields: districts of parallel strips, each with its crop, rows and wheel marks."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pointcover.datasets.synthetic.sheet import (
    GSD_M,
    PX_PER_M,
    Floats,
    Paint,
    column,
    smooth_noise,
)


class Crop(NamedTuple):
    """What covers a field."""

    colour: Paint
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
    """Divide the sheet among random centres: district numbers, and px to a border."""
    count = max(3, round((size * GSD_M / DISTRICT_M) ** 2) + 2)
    centres = generator.uniform(-0.1 * size, 1.1 * size, (count, 2))
    bend_row, bend_col = (10 * PX_PER_M * smooth_noise(size, 90, generator) for _ in range(2))
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


def lay_fields(size: int, generator: Generator) -> Floats:
    """Cover the sheet with a patchwork of fields, (3, size, size): strips in bent districts."""
    district, to_border, districts = _assign_districts(size, generator)
    angle = generator.uniform(0, math.pi, districts).astype(np.float32)
    rows = np.arange(size, dtype=np.float32)[:, None]
    cols = np.arange(size, dtype=np.float32)[None, :]
    cos, sin = np.cos(angle)[district], np.sin(angle)[district]
    wobble = 1.2 * PX_PER_M * smooth_noise(size, 60, generator)
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

    # A crop for every possible number of a field; some crops are common in the season.
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
        0.5 * smooth_noise(size, 22, generator) + 0.45 * smooth_noise(size, 5, generator)
    )
    wheel = np.arange(span) % (TRAMLINE_SPACING_M * PX_PER_M)
    wheel_px = WHEEL_TRACK_M * PX_PER_M
    wheel_mark = ((wheel < 2) | (np.abs(wheel - wheel_px) < 1)).astype(np.float32)
    texture -= tramlines * wheel_mark[across_px]
    texture += 0.03 * generator.standard_normal((size, size), np.float32)
    colour = np.stack([base[:, band][field] for band in range(3)]) * (1 + texture)
    margin = np.clip(1.5 - to_edge / (MARGIN_M * PX_PER_M), 0, 1)
    grass = column(CROPS[1].colour)[:, :, None]
    colour += 0.7 * margin * (grass * (1 + texture) - colour)
    return np.asarray(colour, np.float32)
