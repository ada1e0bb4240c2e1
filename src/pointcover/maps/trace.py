"""Outlines: shapes become pixels, and areas of pixels become shapes."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rasterio.features import shapes, sieve
from rasterio.transform import Affine

from pointcover.labels import IGNORE_INDEX
from pointcover.raster.raster_io import RasterReader, Window

ROWS: Final = 512
"""How many are read at a time."""

TRACED_PX: Final = 2_000_000
"""How many are traced at a time."""

LEAST_ROWS: Final = 64
"""Of what is traced at a time: at its edges outlines keep corners."""

BEYOND: Final = 256
"""What the values around a block are raised by."""

ZEROS: Final = 1 << 20
"""How many are written at a time where a file's bytes cannot be reserved."""

SIEVE_STEP: Final = 4
"""By what factor the least size of an area grows from pass to pass."""


@dataclass(frozen=True)
class TracedRows:
    """The outlines of a mask's areas in a block of whole rows."""

    top: int
    bottom: int
    """Where the next block begins."""
    outlines: Iterator[tuple[dict[str, Any], int]]
    """Polygons (GeoJSON-like) and their values, to be run through once; together they cover the
    block and one pixel around it, so that those in the block have a corner wherever three meet at
    its edge, too. Those of IGNORE_INDEX and more are no areas: no data, and what lies around,
    BEYOND more than it is."""


def trace_areas(
    path: Path, least_px: int, folder: Path, block_px: int = TRACED_PX
) -> Iterator[TracedRows]:
    """Return the outlines of areas of one value, after small ones went to their largest neighbour.

    Areas are connected by pixels' sides; one that reaches over the edge of a block has a part in
    each. Three bytes a pixel are kept in files in `folder`, so that the system can take the memory
    back.

    Args:
        path: a mask with one band of uint8; IGNORE_INDEX is no area, and none's neighbour.
        least_px: how many pixels an area must have to stay, where it has a neighbour that has.
        folder: where the files may lie; they are removed.
        block_px: how many pixels are traced at a time.

    Yields:
        blocks of rows from top to bottom. Coordinates are pixels: x is the column, y the row,
        whole numbers are the pixels' edges.

    Raises:
        OSError: the disk is full.
    """
    reader = RasterReader(path)
    info = reader.info()
    height, width = info.height, info.width
    with closing(reader), _scratch(folder, (height, width)) as (values, spare, valid):
        for top in range(0, height, ROWS):
            rows = slice(top, min(top + ROWS, height))
            values[rows] = reader.read(Window(0, top, width, rows.stop - top), [1])[0]
            valid[rows] = values[rows] != IGNORE_INDEX
        # GDAL leaves a small area whose neighbours are small, too: so the smallest go first.
        least_px = min(least_px, values.size - 1)
        size_px = 1
        while size_px < least_px:
            size_px = min(size_px * SIEVE_STEP, least_px)
            sieve(values, size_px, out=spare, mask=valid, connectivity=4)
            values, spare = spare, values
        step = max(LEAST_ROWS, block_px // width)
        for top in range(0, height, step):
            yield _trace_rows(values, top, min(top + step, height))


def _trace_rows(values: npt.NDArray[np.uint8], top: int, bottom: int) -> TracedRows:
    """Trace rows of (H, W) values, and what lies around them."""
    height, width = values.shape
    block = np.full((bottom - top + 2, width + 2), BEYOND + IGNORE_INDEX, np.int16)
    block[1:-1, 1:-1] = values[top:bottom]
    for row, place in ((top - 1, 0), (bottom, -1)):
        if 0 <= row < height:
            block[place, 1:-1] = BEYOND + values[row].astype(np.int16)
    place = Affine.translation(-1, top - 1)
    found = shapes(block, connectivity=4, transform=place)
    return TracedRows(top, bottom, ((polygon, int(value)) for polygon, value in found))


@contextmanager
def _scratch(folder: Path, shape: tuple[int, int]) -> Iterator[tuple[npt.NDArray[np.uint8], ...]]:
    """Return three arrays of a byte a pixel that lie in files.

    Raises:
        OSError: the disk is full.
    """
    paths = [folder / f"trace{number}.partial" for number in range(3)]
    try:
        for path in paths:
            _reserve(path, shape[0] * shape[1])
        yield tuple(np.memmap(path, np.uint8, "r+", shape=shape) for path in paths)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _reserve(path: Path, size: int) -> None:
    """Make a file whose bytes are the disk's already.

    A mapped file without them ends the process (SIGBUS) where the disk is full, without a word.

    Raises:
        OSError: the disk is full; it names the file.
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
                return
            for at in range(0, size, ZEROS):
                file.write(bytes(min(ZEROS, size - at)))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
