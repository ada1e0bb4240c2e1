"""Trace the areas of a mask as polygons."""

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
"""Rows that are read at a time."""

TRACED_PX: Final = 2_000_000
"""Pixels that are traced at a time."""

LEAST_ROWS: Final = 64
"""Minimum height of a traced block, since outlines are not simplified at its edges."""

BEYOND: Final = 256
"""Added to the values around a block, to tell them from those in it."""

ZEROS: Final = 1 << 20
"""Zero bytes that are written at a time where the system cannot reserve a file's bytes."""

SIEVE_STEP: Final = 4
"""Factor by which the minimum area increases from one pass of the sieve to the next."""


@dataclass(frozen=True)
class TracedRows:
    """The outlines of a mask's areas in a block of whole rows."""

    top: int
    bottom: int
    """End of the rows, exclusive."""
    outlines: Iterator[tuple[dict[str, Any], int]]
    """Polygons (GeoJSON-like) and their values. Together they cover the block and one pixel around
    it, so that polygons in the block have a corner wherever three meet at its edge, too. Polygons
    with values of IGNORE_INDEX or more are not areas: IGNORE_INDEX is no data, and pixels around
    the block have BEYOND added to their values."""


def trace_areas(
    path: Path, least_px: int, folder: Path, block_px: int = TRACED_PX
) -> Iterator[TracedRows]:
    """Trace the areas of one value in a mask, after merging small ones into their neighbours.

    Areas are 4-connected. An area that crosses the edge of a block has a part in each block. Three
    bytes a pixel are kept in memory-mapped files in `folder`, so that the system can free the
    memory.

    Args:
        path: of a mask with one uint8 band; IGNORE_INDEX is not an area, and nothing is merged
            into it.
        least_px: minimum area in pixels; smaller areas are merged into their largest neighbour.
        folder: of temporary files.
        block_px: number of pixels that are traced at a time.

    Yields:
        blocks of rows from top to bottom. Coordinates are in pixels: x is the column, y the row,
        and whole numbers are edges of pixels.

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
        # GDAL keeps a small area if its neighbours are small, too. So sieve the smallest first.
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
    """Trace rows of (H, W) values, with one pixel around them."""
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
    """Return three uint8 arrays of a shape, memory-mapped to temporary files.

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
    """Make a file, and reserve its bytes on the disk.

    Otherwise writing to a memory-mapped file on a full disk ends the process with SIGBUS, without
    a message.

    Raises:
        OSError: the disk is full; the error names the file.
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
