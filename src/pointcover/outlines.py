"""Outlines: shapes become pixels, and areas of pixels become shapes."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rasterio.features import rasterize, shapes, sieve
from rasterio.transform import Affine

from pointcover.labels import IGNORE_INDEX
from pointcover.raster import RasterReader, Window

ROWS: Final = 512
"""How many are read at a time."""

ZEROS: Final = 1 << 20
"""How many are written at a time where a file's bytes cannot be reserved."""

SIEVE_STEP: Final = 4
"""By what factor the least size of an area grows from pass to pass."""


def burn(
    shapes: Iterable[tuple[Any, int]],
    window: Window,
    *,
    all_touched: bool,
    onto: npt.NDArray[np.int32] | None = None,
) -> npt.NDArray[np.int32]:
    """Rasterise shapes in a window; where shapes overlap, the last one stays.

    Args:
        shapes: lines and polygons (GeoJSON-like, or shapely's) with their values from 1. Their
            coordinates are pixels of the whole raster: x is the column, y the row, whole numbers
            are the pixels' edges.
        window: what to rasterise.
        all_touched: give a polygon every pixel that it touches; otherwise those whose centre lies
            in it.
        onto: what to draw over, (window height, window width); nothing by default.

    Returns:
        (window height, window width) int32, 0 where there is no shape.
    """
    if onto is None:
        onto = np.zeros((int(window.height), int(window.width)), np.int32)
    pairs = list(shapes)
    if pairs:
        place = Affine.translation(window.col_off, window.row_off)
        rasterize(pairs, out=onto, transform=place, all_touched=all_touched)
    return onto


def trace_areas(path: Path, least_px: int, folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Give the outlines of areas of one value, after small ones went to their largest neighbour.

    Areas are connected by pixels' sides. Three bytes a pixel are kept in files in `folder`, so
    that the system can take the memory back; the rest grows with the outlines.

    Args:
        path: a mask with one band of uint8; IGNORE_INDEX is no area, and none's neighbour.
        least_px: how many pixels an area must have to stay, where it has a neighbour that has.
        folder: where the files may lie; they are removed.

    Yields:
        a polygon (GeoJSON-like) and its value. Coordinates are pixels: x is the column, y the row,
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
        for polygon, value in shapes(values, mask=valid, connectivity=4):
            yield polygon, int(value)


@contextmanager
def _scratch(folder: Path, shape: tuple[int, int]) -> Iterator[tuple[npt.NDArray[np.uint8], ...]]:
    """Give three arrays of a byte a pixel that lie in files.

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
