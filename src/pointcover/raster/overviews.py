"""Read windows of a raster at coarser resolutions, with overviews in a folder of their own.

Level 0 has the raster's pixels, and a pixel of level n covers 2ⁿ × 2ⁿ of them. Nothing is written
beside the raster.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock, RLock
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine

from pointcover.labels import IGNORE_INDEX, Image, Mask
from pointcover.raster.addresses import Address
from pointcover.raster.raster_io import (
    EIGHT_BIT,
    GeoTiffProfile,
    OverviewReader,
    RasterInfo,
    RasterReader,
    Window,
    write_geotiff,
)

LEAST_PX: Final = 1024
"""The coarsest level has at most so many rows and columns."""

DIRECT_PX: Final = 4096
"""Rasters without more rows or columns are read without overviews."""

STEP: Final = 2
"""Levels from one overview to the next."""

BLOCK_PX: Final = 256
STRIP_PX: Final = 512
"""Rows that are read at once while an overview is written."""

BY_BLOCKS: Final = ("GTiff", "JP2OpenJPEG")
"""Formats whose windows are read without what lies above them. Others are copied first."""

Valid = npt.NDArray[np.bool_]
"""(H, W): whether a pixel has data."""


class LevelReader:
    """Reads windows of a raster at any level, as 8 bits. Threads may share it."""

    def __init__(
        self,
        path: Path,
        bands: Sequence[int],
        cache: Path,
        value_range: tuple[float, float] = EIGHT_BIT,
    ) -> None:
        """Open a raster.

        Args:
            path: of the raster.
            bands: band numbers from 1, in the order wanted.
            cache: folder of the overviews, made when they are.
            value_range: values that become 0 and 255.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no raster, has a palette, or lacks a band.
        """
        self._source = RasterReader(path)
        self.info: RasterInfo = self._source.info()
        if max(bands) > self.info.bands:
            raise ValueError(
                f"{path} has {self.info.bands} band(s), wanted band {max(bands)}: leave it out, or "
                f"choose bands that all images have"
            )
        self.info.check_brightness()
        self.bands = tuple(bands)
        self.value_range = value_range
        self._lock = RLock()
        self._is_writing = Lock()
        longest = max(self.info.height, self.info.width)
        self.levels = max(0, math.ceil(math.log2(longest / LEAST_PX))) + 1
        """Number of levels; at least one."""
        self._is_by_blocks = str(self._source.dataset.driver) in BY_BLOCKS
        self._own = self._find_own()
        self._wanted = () if self._own else self._levels_to_write(longest)
        said = [*_identify(self._source), self.bands, value_range]
        self._stem = cache / hashlib.sha256(repr(said).encode()).hexdigest()[:24]
        self._overviews = {
            level: RasterReader(self._path(level))
            for level in self._wanted
            if self._path(level).is_file()
        }

    @property
    def key(self) -> str:
        """A name of the raster's content as it is read: its file, bands and value range."""
        return self._stem.name

    @property
    def is_ready(self) -> bool:
        """Whether all overviews are written."""
        return len(self._overviews) == len(self._wanted)

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width at a level."""
        return -(-self.info.height >> level), -(-self.info.width >> level)

    def write_overviews(self, progress: Callable[[float], None] = lambda fraction: None) -> None:
        """Write the overviews that are missing.

        Args:
            progress: called with the finished fraction of the raster.

        Raises:
            ValueError: the raster is damaged.
            OSError: the disk is full.
        """
        with self._is_writing:
            for level in self._wanted:
                if level not in self._overviews:
                    is_first = level == self._wanted[0]
                    self._write(level, progress if is_first else lambda fraction: None)
                    self._overviews[level] = RasterReader(self._path(level))

    def read(self, level: int, row: int, col: int, size: tuple[int, int]) -> tuple[Image, Valid]:
        """Read a window of a level; what lies outside the raster has no data.

        Args:
            level: from 0.
            row: of the window's first pixel, at this level; may be negative, like `col`.
            col: of the window's first pixel, at this level.
            size: height and width of the window.

        Returns:
            (bands, height, width) uint8, 0 where there is no data, and (height, width) bool.

        Raises:
            ValueError: the raster is damaged there.
        """
        image = np.zeros((len(self.bands), *size), np.uint8)
        valid = np.zeros(size, bool)
        height, width = self.size(level)
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + size[0], height), min(col + size[1], width)
        if top < bottom and left < right:
            inside = (slice(top - row, bottom - row), slice(left - col, right - col))
            part = self._read_inside(level, Window(left, top, right - left, bottom - top))
            image[(slice(None), *inside)], valid[inside] = part
        return image, valid

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for reader in (self._source, *self._overviews.values(), *self._own.values()):
                reader.close()

    def _find_own(self) -> dict[int, OverviewReader]:
        """Return the overviews that a file at an address has, by level, to fetch no more of it."""
        path = self._source.path
        if not isinstance(path, Address):
            return {}
        found: dict[int, OverviewReader] = {}
        for number, factor in enumerate(self._source.dataset.overviews(1)):
            level, reader = factor.bit_length() - 1, OverviewReader(path, number)
            if factor == 1 << level and reader.dataset.shape == self.size(level):
                found[level] = reader
        return found

    def _levels_to_write(self, longest: int) -> tuple[int, ...]:
        first = 0 if not self._is_by_blocks and longest > LEAST_PX else STEP
        if first and longest <= DIRECT_PX:
            return ()
        return tuple(range(first, self.levels, STEP))

    def _read_inside(self, level: int, window: Window) -> tuple[Image, Valid]:
        there = (*tuple(self._overviews), *self._own)
        base = max((done for done in there if done <= level), default=None)
        factor = 1 << (level - (base or 0))
        height, width = self.size(base or 0)
        top, left = window.row_off * factor, window.col_off * factor
        finer = Window(
            left,
            top,
            min(window.width * factor, width - left),
            min(window.height * factor, height - top),
        )
        with self._lock:
            image, valid = self._read_base(base, finer)
        return _average(image, valid, factor)

    def _read_base(self, base: int | None, window: Window) -> tuple[Image, Valid]:
        if base is None or base in self._own:
            reader = self._source if base is None else self._own[base]
            return reader.read_scaled(window, self.bands, self.value_range)
        *image, valid = self._overviews[base].read(window)
        return np.stack(image), valid > 0

    def _write(self, level: int, progress: Callable[[float], None]) -> None:
        height, width = self.size(level)
        profile = GeoTiffProfile(
            height=height,
            width=width,
            bands=len(self.bands) + 1,
            block_px=BLOCK_PX,
            crs=None,
            transform=Affine.identity(),
        )
        with write_geotiff(self._path(level), profile) as writer:
            for top in range(0, height, STRIP_PX >> min(level, STEP)):
                rows = min(STRIP_PX >> min(level, STEP), height - top)
                image, valid = self.read(level, top, 0, (rows, width))
                layers = np.concatenate([image, valid[None].astype(np.uint8) * 255])
                writer.write(layers, Window(0, top, width, rows))
                progress((top + rows) / height)

    def _path(self, level: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}_{level}.tif")


def _identify(source: RasterReader) -> list[object]:
    """Return what tells a raster from others, and from itself before it was changed."""
    if isinstance(source.path, Address):
        return [source.digest()]
    state = source.path.stat()
    return [str(source.path.resolve()), state.st_size, state.st_mtime_ns]


class ClassReader:
    """Reads windows of a raster of class ids at any level, by its own overviews; for threads."""

    def __init__(self, path: Path) -> None:
        """Open a raster.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no raster.
        """
        self._source = RasterReader(path)
        self.info: RasterInfo = self._source.info()
        self._lock = Lock()

    def read(self, level: int, row: int, col: int, size_px: int) -> Mask:
        """Read a square window: (size_px, size_px) ids, IGNORE_INDEX outside the raster.

        Args:
            level: from 0.
            row: of the window's first pixel, at this level, like `col`.
            col: of the window's first pixel, at this level.
            size_px: side of the window.

        Raises:
            ValueError: the raster is damaged there.
        """
        ids = np.full((size_px, size_px), IGNORE_INDEX, np.uint8)
        top, left = row << level, col << level
        height = min(size_px << level, self.info.height - top)
        width = min(size_px << level, self.info.width - left)
        if min(top, left) < 0 or min(height, width) <= 0:
            return ids
        shape = -(-height >> level), -(-width >> level)
        with self._lock:
            found = self._source.read_nearest(Window(left, top, width, height), shape)
        ids[: shape[0], : shape[1]] = found
        return ids

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._source.close()


def _average(image: Image, valid: Valid, factor: int) -> tuple[Image, Valid]:
    """Average squares of factor × factor pixels; at the edges, of what there is of them."""
    if factor == 1:
        return image, valid
    height, width = (-(-side // factor) for side in valid.shape)
    padding = [(0, height * factor - valid.shape[0]), (0, width * factor - valid.shape[1])]
    planes = np.pad(np.stack([*image, valid.astype(np.uint8) * 255]), [(0, 0), *padding])
    small = [
        cv2.resize(plane.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for plane in planes
    ]
    weight = small[-1] / 255
    averaged = np.stack(small[:-1]) / np.maximum(weight, 1 / factor**2)
    return np.rint(averaged).clip(0, 255).astype(np.uint8), weight > 0
