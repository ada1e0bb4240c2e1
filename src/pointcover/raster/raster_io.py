"""Read windows of rasters and write tiled GeoTIFFs. Only this module opens images and masks.

Rows come before columns everywhere; x and y are CRS coordinates only.
"""

import logging
import math
import os
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS as CRS  # re-exported for the rest of the project
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, Resampling
from rasterio.errors import (
    CRSError,
    NodataShadowWarning,
    NotGeoreferencedWarning,
    RasterioError,
)
from rasterio.shutil import copy, delete
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as Window  # re-exported for the rest of the project

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.addresses import (
    Address,
    configure_gdal_for_addresses,
    explain_failure,
)
from pointcover.raster.environment import drop_options
from pointcover.raster.missing_blocks import MissingBlocks
from pointcover.raster.orientation import TURNS, UPRIGHT, read_orientation
from pointcover.raster.tiff_pages import count_pages
from pointcover.runtime.atomic_files import digest_values, publish_file, sha256

SIGNATURES: Final = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",  # BigTIFF
    b"MM\0+": "GTiff",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
"""Drivers by the first bytes of a file. VRT is not among them, since a VRT may read other files or
the network. (rasterio 1.4 documents a list of drivers, but does not accept one.)"""

EIGHT_BIT: Final = (0.0, 255.0)
"""The value range of images that need no scaling."""

PROJ_VARIABLES: Final = ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA")
"""Environment variables by which another installation replaces the data of PROJ and GDAL."""

MISSING_CODEC: Final = "due to missing codec"
"""Part of GDAL's message, before the name of the codec."""

ZSTD_LEVEL: Final = 1

VSI: Final = ("/vsicurl/", "/vsis3/")
"""How GDAL's names of addresses begin."""

MOST_BLOCKS: Final = 1 << 22
"""Blocks of a file at an address: a header of 64 MiB, which may be nothing but a claim."""

READ_ATTEMPTS: Final = 3
"""How often a window of an address is read before the connection counts as broken. GDAL repeats
requests that a server refuses for being busy, but not all that break off."""

READ_DELAY_S: Final = 1.0
"""Before the second attempt; twice as long before each further one."""

SAMPLES: Final = 4
"""Rows and columns of the grid of windows in which a raster's values are checked."""

SAMPLE_PX: Final = 128
"""Height and width of such a window."""

STRIP_PX: Final = 512
"""Rows that are read at once where a raster is read whole."""


def configure_gdal() -> None:
    """Configure GDAL and rasterio for this process. Call it before a raster is opened.

    By default GDAL caches decoded blocks in up to a twentieth of the memory, in each process.
    Tiling reads and writes each block once; allocating memory for the cache took a quarter of its
    time. 64 MB are enough for a row of tiles of a striped orthophoto 40 000 px wide.
    """
    os.environ.setdefault("GDAL_CACHEMAX", "64")  # MB; GDAL reads it with the first block
    drop_options()
    _ignore_warning(NotGeoreferencedWarning)
    _ignore_warning(NodataShadowWarning)  # rasterio says that it leaves out alpha
    # The error messages of this module include GDAL's, so those are not logged too.
    logger = logging.getLogger("rasterio")
    if logger.level != logging.CRITICAL:  # to set it takes long, as it empties all loggers' caches
        logger.setLevel(logging.CRITICAL)


def open_dataset(path: Path | str, mode: str = "r", **options: Any) -> Any:
    """Open a rasterio dataset; one without a georeference is accepted, without a warning."""
    configure_gdal()
    check_crs_database()
    # A relative path may look like a URL or the name of a driver.
    name: Path | str = path.absolute() if isinstance(path, Path) else path
    if isinstance(path, Address):
        name = path.gdal_name
    return rasterio.open(name, mode, **options)


def _ignore_warning(category: type[Warning]) -> None:
    """Ignore a warning in the whole process, unless that is done.

    `warnings.catch_warnings` is not thread-safe: a thread that leaves it restores the filters that
    it found, and with them the warnings of a thread that opens a raster at that time.
    """
    for action, message, known, module, _ in tuple(warnings.filters):
        if message is None and module is None and issubclass(category, known):
            if action == "ignore":
                return
            break
    warnings.simplefilter("ignore", category)


@cache
def check_crs_database() -> None:
    """Check that PROJ finds its database of CRSs; without it, GDAL makes a CRS a local one.

    Raises:
        ValueError: it does not; the message names the environment variables that may be the cause.
    """
    try:
        CRS.from_epsg(4326)
    except CRSError as error:
        found = [f"{name}={os.environ[name]}" for name in PROJ_VARIABLES if os.environ.get(name)]
        names = " ".join(one.partition("=")[0] for one in found)
        advice = (
            f"the environment has {' and '.join(found)}, which another installation of PROJ or "
            f"GDAL set: `unset {names}`, and try again"
            if found
            else "install rasterio again, which brings it"
        )
        raise ValueError(
            f"the database of CRSs cannot be read ({gdal_reason(error)}): {advice}"
        ) from None


@dataclass(frozen=True)
class RasterInfo:
    """The metadata of a raster file."""

    path: Path
    height: int
    width: int
    bands: int
    dtype: str
    crs: CRS | None
    transform: Affine
    has_palette: bool
    placed_by: str | None = None
    """What places the raster, where it has no transform: ground control points or RPCs."""

    @property
    def pixel_m2(self) -> float | None:
        """Area of a pixel in CRS coordinates, or None where the CRS is not projected."""
        if self.crs is None or not self.crs.is_projected:
            return None
        _, metres_per_unit = self.crs.linear_units_factor
        return float(abs(self.transform.determinant) * metres_per_unit**2)

    @property
    def is_georeferenced(self) -> bool:
        """Whether the transform is not the identity."""
        return bool(self.transform != Affine.identity())

    def check_brightness(self) -> None:
        """Check that the values of an image are brightness.

        Raises:
            ValueError: they are numbers of a palette.
        """
        if self.has_palette:
            raise ValueError(
                f"{self.path} is a palette image, whose numbers are no brightness: expand it with "
                f"`gdal_translate -expand rgb IN OUT`"
            )

    @property
    def warp_advice(self) -> str | None:
        """What to do where there is no transform, but a CRS, ground control points or RPCs."""
        if self.placed_by is None and (self.crs is None or self.is_georeferenced):
            return None
        if self.placed_by is None:
            return (
                f"{self.path} has a CRS, but no transform, so its place and pixel size are not "
                f"known: place it with `gdal_edit.py -a_ullr <left> <top> <right> <bottom> FILE`, "
                f"or copy the world file beside it"
            )
        option = "-rpc " if self.placed_by == "RPCs" else ""
        return (
            f"{self.path} is placed by {self.placed_by} alone, and has no transform: warp it with "
            f"`gdalwarp {option}-t_srs EPSG:<code> IN OUT`, and its mask likewise"
        )


class RasterReader:
    """Reads windows of one raster file; opened at first use, once in every process.

    A handle that is used in a forked process returns wrong pixels without an error, so a reader
    opens the file anew in every process, and only its path is pickled.
    """

    def __init__(self, path: Path) -> None:
        """Store the path; the file is opened at first use."""
        self.path = path
        self._dataset: Any = None
        self._opened_by = -1
        self._missing: MissingBlocks | None = None
        self._has_looked = False
        self._hiding: tuple[int, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the handle."""
        return self.__dict__ | {"_dataset": None, "_opened_by": -1}

    def close(self) -> None:
        """Close the file, if this process has it open."""
        if self._dataset is not None and self._opened_by == os.getpid():
            self._dataset.close()
        self._dataset = None

    @property
    def dataset(self) -> Any:
        """The open rasterio dataset of this process.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is a folder, empty, or none of the formats in SIGNATURES.
            OSError: an address cannot be read.
        """
        if self._dataset is None or self._opened_by != os.getpid():
            self._dataset = self._open()
            self._opened_by = os.getpid()
        return self._dataset

    def _open(self) -> Any:
        return _open(self.path)

    def info(self) -> RasterInfo:
        """Describe the raster.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no raster, or its metadata are damaged.
        """
        dataset = self.dataset
        transform = dataset.transform
        if not all(map(math.isfinite, transform)) or transform.determinant == 0:
            raise ValueError(
                f"{self.path} has the transform {tuple(transform)[:6]}, which gives its pixels no "
                f"area: place it anew with `gdal_edit.py -a_ullr <left> <top> <right> <bottom>`, "
                f"or remove the transform with `gdal_edit.py -unsetgt`"
            )
        try:
            return RasterInfo(
                path=self.path,
                height=dataset.height,
                width=dataset.width,
                bands=dataset.count,
                dtype=str(dataset.dtypes[0]),
                crs=dataset.crs or None,
                transform=dataset.transform,
                has_palette=dataset.colorinterp[0] == ColorInterp.palette,
                placed_by=_placed_by(dataset),
            )
        except Exception as error:  # GDAL's own, which have no public class in rasterio
            raise ValueError(
                f"{self.path} is damaged: its metadata cannot be read ({gdal_reason(error)}). Copy "
                f"it again"
            ) from None

    def digest_beside(self) -> str | None:
        """Return a digest of what files beside the raster add to it, such as a world file.

        These are its place, CRS, nodata, colours and mask, not the statistics that QGIS leaves.

        Returns:
            64 hexadecimal digits; None where no file beside it adds anything.

        Raises:
            ValueError: the file is no raster.
        """
        if isinstance(self.path, Address):
            return None  # nothing beside it is read
        beside = [Path(name) for name in self.dataset.files if Path(name) != self.path.absolute()]
        if not beside:
            return None
        whole: list[Any] = [_read_meaning(self.dataset)]
        whole += [sha256(path) for path in beside if path.suffix.lower() == ".msk"]
        # Read again as if the folder held no other file.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), _open(self.path) as alone:
            if whole == [_read_meaning(alone)]:
                return None
        return digest_values(whole)

    def digest(self) -> str:
        """Return a digest that tells the raster from others: of its file, 64 hexadecimal digits.

        A file at an address is not fetched for it. The digest is of its metadata, where its blocks
        lie, and windows spread over it. So it stays if a file without compression is changed in
        place, elsewhere.

        Raises:
            ValueError: the file is no raster, or damaged.
            OSError: it cannot be read.
        """
        if not isinstance(self.path, Address):
            return sha256(self.path)
        windows = spread_over(self.dataset.height, self.dataset.width)
        found: list[Any] = [str(self.path), _read_meaning(self.dataset), list(self.dataset.shape)]
        found += [list(self.dataset.dtypes), self.dataset.tags()]
        found += [self._block_places().tolist()]
        found += [zlib.crc32(np.ascontiguousarray(self.read(window)).data) for window in windows]
        return digest_values(found)

    def alpha_bands(self) -> tuple[int, ...]:
        """Return the numbers of the alpha bands."""
        kinds = zip(self.dataset.indexes, self.dataset.colorinterp, strict=True)
        return tuple(band for band, kind in kinds if kind == ColorInterp.alpha)

    def read(
        self, window: Window, bands: Sequence[int] | None = None, fill: int = 0
    ) -> npt.NDArray[Any]:
        """Read a window.

        Args:
            window: may extend beyond the lower and right edge, where pixels are `fill`.
            bands: band numbers from 1 in the order wanted, all by default.
            fill: value of pixels outside the raster.

        Returns:
            (bands, window height, window width), dtype of the file.

        Raises:
            ValueError: the file is damaged there.
        """
        inside = Window(
            window.col_off,
            window.row_off,
            min(window.width, self.dataset.width - window.col_off),
            min(window.height, self.dataset.height - window.row_off),
        )
        indexes = list(bands) if bands is not None else list(range(1, self.dataset.count + 1))
        values = self._try(inside, methodcaller("read", indexes, window=inside))
        return pad(values, int(window.height), int(window.width), fill)

    def _try(self, window: Window, read: Callable[[Any], Any]) -> Any:
        """Return what `read` returns of the dataset; try again where a connection breaks off."""
        reason = ""
        for attempt in range(READ_ATTEMPTS):
            try:
                if attempt:
                    time.sleep(READ_DELAY_S * 2 ** (attempt - 1))
                    self._reopen_uncached()
                return read(self.dataset)
            except RasterioError as error:
                if not isinstance(self.path, Address):
                    raise ValueError(_damaged(self.path, window, error)) from None
                reason = gdal_reason(error)
            except ConnectionError as error:
                reason = str(error)
        raise ConnectionError(
            f"{self.path}: the connection broke off while {_rows(window)} were read, "
            f"{READ_ATTEMPTS} times ({reason}): run the command again when the network is back, or "
            f"download the file"
        )

    def _reopen_uncached(self) -> None:
        """Open an address anew, without the parts that GDAL keeps: some may have broken off.

        GDAL forgets the parts of a file when it closes one that was opened with this option.
        """
        source = getattr(self._dataset, "src_dataset", None)
        self.close()
        if source is not None:
            source.close()
        with rasterio.Env(CPL_VSIL_CURL_NON_CACHED=":".join(VSI)):
            self.dataset  # noqa: B018

    def read_nearest(self, window: Window, shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Read the first band of a window with fewer pixels, the nearest of the file's overviews.

        Args:
            window: inside the raster.
            shape: height and width of the result.

        Raises:
            ValueError: the file is damaged there.
        """
        read = methodcaller(
            "read", 1, window=window, out_shape=shape, resampling=Resampling.nearest
        )
        found: npt.NDArray[Any] = self._try(window, read)
        return found

    def read_scaled(
        self, window: Window, bands: Sequence[int], value_range: tuple[float, float]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read a window scaled to 8 bits, and where it has data.

        Args:
            window: inside the raster.
            bands: band numbers from 1 in the order wanted.
            value_range: which values become 0 and 255.

        Returns:
            (bands, H, W) uint8, 0 where there is no data, and (H, W) bool.

        Raises:
            ValueError: the file is damaged there.
        """
        values = self.read(window, bands)
        valid = self.read_valid(window, bands)
        if np.issubdtype(values.dtype, np.floating):
            valid = valid & np.isfinite(values).all(axis=0)
        low, high = value_range
        if values.dtype != np.uint8 or (low, high) != EIGHT_BIT:
            image = np.empty(values.shape, np.uint8)
            for raw, band in zip(values, image, strict=True):  # one at a time: floats are large
                scaled = (np.nan_to_num(raw.astype(np.float32)) - low) * (255 / (high - low))
                band[:] = np.rint(np.clip(scaled, 0, 255))
        else:
            image = values
        if not valid.all():
            image[:, ~valid] = 0
        return image, valid

    def colours(self) -> tuple[str, ...]:
        """Return the colour interpretation of each band, such as red, nir or undefined."""
        return tuple(kind.name for kind in self.dataset.colorinterp)

    def check_whole(self) -> npt.NDArray[np.bool_]:
        """Check that a file is not truncated, before a long computation on it.

        Only the block offsets of a TIFF are read, which is fast; other formats are read whole.

        Returns:
            (rows of blocks, columns of blocks): whether a block was never written in any band. GDAL
            reads such blocks as 0, or as nodata.

        Raises:
            ValueError: it is truncated, or cannot be read.
        """
        dataset = self.dataset
        if dataset.driver != "GTiff":
            for strip in self._strips():
                self.read(strip, [1])
            return np.zeros((1, 1), bool)
        return self._find_unwritten()

    def missing_blocks(self, bands: Sequence[int] | None = None) -> MissingBlocks | None:
        """Return the blocks that were never written, and have no data.

        None where all were, or where the file has another way to say what has no data: then these
        blocks are read as its nodata value, or its alpha or mask says it.

        Raises:
            ValueError: the file is truncated.
        """
        if not self.is_all_valid(bands):
            return None
        if not self._has_looked:
            self._missing, self._has_looked = self._find_missing(), True
        return self._missing

    def _find_missing(self) -> MissingBlocks | None:
        if self.dataset.driver != "GTiff" or not (flags := self._find_unwritten()).any():
            return None
        return MissingBlocks(flags, *map(float, self.dataset.block_shapes[0]))

    def unwritten_window(self) -> Window | None:
        """Return the first block of a TIFF that was never written; None where all were.

        Raises:
            ValueError: the file is truncated.
        """
        if self.dataset.driver != "GTiff":
            return None
        places = np.argwhere(self._find_unwritten())
        if not len(places):
            return None
        (row, col), (height, width) = places[0], self.dataset.block_shapes[0]
        top, left = int(row) * height, int(col) * width
        sides = min(height, self.dataset.height - top), min(width, self.dataset.width - left)
        return Window(left, top, sides[1], sides[0])

    def _find_unwritten(self) -> npt.NDArray[np.bool_]:
        """Return which blocks of a TIFF were never written; see `check_whole`."""
        places = self._block_places()
        ends = places.sum(axis=-1)
        if not isinstance(self.path, Address):  # of which the size is not known
            size = self.path.stat().st_size
            late = np.argwhere(ends > size)
            if len(late):
                band, row, col = late[0]
                height, width = self.dataset.block_shapes[0]
                raise ValueError(
                    f"{self.path} is cut short: it has {size} bytes, but its block at row "
                    f"{row * height}, column {col * width} ends at byte {ends[band, row, col]}. "
                    f"Copy it again"
                )
        return np.asarray((ends == 0).all(axis=0))

    def _block_places(self) -> npt.NDArray[np.int64]:
        """Return offset and size in bytes of each block of a TIFF, (bands, rows, columns, 2)."""
        dataset = self.dataset
        height, width = dataset.block_shapes[0]
        blocks = math.ceil(dataset.height / height), math.ceil(dataset.width / width)
        if isinstance(self.path, Address) and math.prod(blocks) * dataset.count > MOST_BLOCKS:
            raise ValueError(
                f"{self.path} has {math.prod(blocks) * dataset.count} blocks of {height} × {width} "
                f"px, wanted at most {MOST_BLOCKS}: read it from a file, or make its blocks larger "
                f"(`gdal_translate -of COG IN OUT`)"
            )
        is_shared = dataset.interleaving == Interleaving.pixel  # then all bands are in each block
        bands = dataset.indexes[:1] if is_shared else dataset.indexes
        places = np.zeros((len(bands), *blocks, 2), np.int64)
        for number, band in enumerate(bands):
            for row in range(blocks[0]):
                for col in range(blocks[1]):
                    for which, what in enumerate(("BLOCK_OFFSET", "BLOCK_SIZE")):
                        key = f"{what}_{col}_{row}"
                        places[number, row, col, which] = int(
                            dataset.get_tag_item(key, "TIFF", bidx=band) or 0
                        )
        return places

    def read_rgb(self, window: Window) -> npt.NDArray[np.uint8]:
        """Read a window as red, green, blue: (3, H, W) uint8; palette images are converted.

        Raises:
            ValueError: the file has neither a palette nor three bands of 8 bits.
        """
        info = self.info()
        if info.has_palette:
            table = np.zeros((256, 3), np.uint8)
            for index, colour in self.dataset.colormap(1).items():
                table[index] = colour[:3]
            return np.ascontiguousarray(table[self.read(window, [1])[0]].transpose(2, 0, 1))
        if info.bands < 3 or info.dtype != "uint8":
            raise ValueError(
                f"{self.path} has {info.bands} band(s) of {info.dtype}, wanted a palette or three "
                f"bands of uint8, since its card says that masks are coded by colour "
                f"(`mask_values: colours`)"
            )
        return self.read(window, [1, 2, 3])

    def is_all_valid(self, bands: Sequence[int] | None = None) -> bool:
        """Return whether no nodata value, alpha band or mask concerns bands, all by default."""
        indexes = self._indexes(bands)
        return not self._alpha_beside(indexes) and all(
            flags in ([MaskFlags.all_valid], [MaskFlags.per_dataset, MaskFlags.alpha])
            for flags in self._flags(indexes)
        )

    def read_valid(
        self, window: Window, bands: Sequence[int] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which pixels have data: (H, W) bool, from nodata, alpha and the file's mask.

        A pixel has none where its nodata value is in all of the bands that are read. An alpha band
        among these is data: the fourth of four bands of 8 bits is often near infrared, which many
        programs declare as alpha.

        Args:
            window: inside the raster.
            bands: band numbers from 1 that are read, all by default.

        Raises:
            ValueError: the file is damaged there.
        """
        indexes = self._indexes(bands)
        valid = np.ones((int(window.height), int(window.width)), bool)
        flags = self._flags(indexes)
        for band in self._alpha_beside(indexes):
            read = methodcaller("read", band, window=window)
            valid &= self._try(window, read) > 0
        if flags[0] == [MaskFlags.per_dataset]:
            read = methodcaller("read_masks", indexes[0], window=window)
            valid &= self._try(window, read) > 0
        elif any(MaskFlags.nodata in of_band for of_band in flags):
            read = methodcaller("read_masks", indexes, window=window)
            masks = self._try(window, read)
            valid &= (masks > 0).any(axis=0)
        if (missing := self.missing_blocks(bands)) is not None:
            valid &= ~missing.cover(window)
        return valid

    def warn_of_alpha(self, bands: Sequence[int], how: str) -> list[str]:
        """Return warnings about a band that is declared alpha, from windows spread over the raster.

        Args:
            bands: that are read.
            how: how to name the bands to read, for the message.
        """
        found = []
        for band in self.alpha_bands():
            is_mask = self.is_mask(band)
            if band in bands and is_mask:
                found.append(
                    f"{self.path}: band {band} is declared alpha and holds 0 and 255 alone, but is "
                    f"read as data: leave it out of {how} if it says where the image has data"
                )
            elif band not in bands and not is_mask:
                found.append(
                    f"{self.path}: band {band} is declared alpha, so pixels where it is 0 have no "
                    f"data, but it has other values than 0 and 255: name it in {how} if it is a "
                    f"band of the image, such as near infrared"
                )
        return found

    def is_mask(self, band: int, windows: Iterable[Window] | None = None) -> bool:
        """Return whether a band has the values of a mask, by default in windows spread over it."""
        if windows is None:
            windows = spread_over(self.dataset.height, self.dataset.width)
        full = np.iinfo(self.dataset.dtypes[band - 1]).max if self._is_integer(band) else 1
        return all(np.isin(self.read(window, [band]), (0, 255, full)).all() for window in windows)

    def hiding_bands(self) -> tuple[int, ...]:
        """Return the alpha bands of a mask of numbers by which pixels are transparent.

        The fourth of four equal bands is a copy of the ids, which GDAL calls alpha, too. This is
        decided over the whole mask, as bands may differ in a few pixels alone.
        """
        if self._hiding is None:
            self._hiding = tuple(
                band
                for band in self.alpha_bands()
                if (self.dataset.count > 3 or self.is_mask(band, self._strips()))
                and self._differs(band)
            )
        return self._hiding

    def _differs(self, band: int) -> bool:
        """Return whether a band differs from the first one anywhere."""
        return any(np.ptp(self.read(strip, [1, band]), axis=0).any() for strip in self._strips())

    def _strips(self) -> Iterator[Window]:
        """Yield windows of whole rows, which cover the raster."""
        height, width = self.dataset.height, self.dataset.width
        for top in range(0, height, STRIP_PX):
            yield Window(0, top, width, min(STRIP_PX, height - top))

    def read_hidden(self, window: Window, *, has_colours: bool = False) -> npt.NDArray[np.bool_]:
        """Return which pixels of a mask are hidden by an alpha band or the file's mask.

        Args:
            window: inside the raster.
            has_colours: whether the mask is coded by colour: then every alpha band hides pixels.

        Returns:
            (H, W) bool. A nodata value hides none, as it may be a class.

        Raises:
            ValueError: the file is damaged there.
        """
        hidden = np.zeros((int(window.height), int(window.width)), bool)
        try:
            for band in self.alpha_bands() if has_colours else self.hiding_bands():
                hidden |= self.dataset.read(band, window=window) == 0
            if self._flags([1])[0] == [MaskFlags.per_dataset]:
                hidden |= self.dataset.read_masks(1, window=window) == 0
        except RasterioError as error:
            raise ValueError(_damaged(self.path, window, error)) from None
        return hidden

    def check_unscaled(self) -> None:
        """Check that ids are shown as they are stored.

        Raises:
            ValueError: the file has a scale or offset, which QGIS applies and GDAL does not.
        """
        dataset = self.dataset
        for scale, offset in zip(dataset.scales, dataset.offsets, strict=True):
            if (scale, offset) != (1, 0):
                raise ValueError(
                    f"{self.path} has the scale {scale:g} and the offset {offset:g}, by which QGIS "
                    f"shows other ids than the stored ones that are read: remove them "
                    f"(`gdal_edit.py -scale 1 -offset 0 FILE`), and name the stored ids"
                )

    def _is_integer(self, band: int) -> bool:
        return np.issubdtype(np.dtype(self.dataset.dtypes[band - 1]), np.integer)

    def _indexes(self, bands: Sequence[int] | None) -> list[int]:
        """Return band numbers; by default those of all bands but alpha, if there are others."""
        if bands is not None:
            return list(bands)
        alpha = self.alpha_bands()
        return [band for band in self.dataset.indexes if band not in alpha] or list(alpha)

    def _alpha_beside(self, indexes: Sequence[int]) -> list[int]:
        """Return the alpha bands that are not read, which say where there is data."""
        return [band for band in self.alpha_bands() if band not in indexes]

    def _flags(self, indexes: Sequence[int]) -> list[list[MaskFlags]]:
        return [self.dataset.mask_flag_enums[band - 1] for band in indexes]


class OverviewReader(RasterReader):
    """Reads an overview of a GeoTIFF at an address."""

    def __init__(self, path: Address, number: int) -> None:
        """Take the overview's number, 0 for the finest; it is opened at first use."""
        super().__init__(path)
        self._number = number

    def _open(self) -> Any:
        return _open_address(self.path, overview_level=self._number)


class ResampledReader(RasterReader):
    """Reads a raster resampled to another size, over the same extent."""

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        *,
        bands: Sequence[int] = (),
        averaged: bool = True,
    ) -> None:
        """Take the size to resample to.

        Args:
            path: of the raster, which is opened at first use.
            height: in pixels.
            width: in pixels.
            bands: that are read: one of them that is declared alpha is resampled as data.
            averaged: whether to average when downsampling, and to interpolate bilinearly when
                upsampling; otherwise each pixel is the nearest one.
        """
        super().__init__(path)
        self._height, self._width, self._averaged = height, width, averaged
        self._bands = tuple(bands)
        self._crs: CRS | None = None
        self._is_placed = True

    def _open(self) -> Any:
        source = _open(self.path)
        self._crs = source.crs or None
        self._is_placed = source.transform != Affine.identity()
        scale = Affine.scale(source.width / self._width, source.height / self._height)
        how = Resampling.nearest
        if self._averaged:
            shrinks = self._height * self._width < source.height * source.width
            how = Resampling.average if shrinks else Resampling.bilinear
        flags = source.mask_flag_enums[0]
        has_own_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        if self._bands:
            source = _without_others(source, self._bands)
        plane = source.crs or CRS.from_epsg(3857)  # GDAL needs one; nothing is reprojected
        return WarpedVRT(
            source,
            src_crs=plane,
            crs=plane,
            src_transform=source.transform,
            transform=source.transform @ scale,
            height=self._height,
            width=self._width,
            resampling=how,
            add_alpha=has_own_mask,
        )

    def info(self) -> RasterInfo:
        """Describe the raster after resampling."""
        found = super().info()
        place = found.transform if self._is_placed else Affine.identity()
        return replace(found, crs=self._crs, transform=place)

    def _find_missing(self) -> MissingBlocks | None:
        source = RasterReader(self.path)
        try:
            found = source.missing_blocks(self._bands or None)
            height, width = source.dataset.height, source.dataset.width
        finally:
            source.close()
        return found.scale(self._height / height, self._width / width) if found else None


def spread_over(height: int, width: int) -> list[Window]:
    """Return windows of SAMPLE_PX spread over a raster, SAMPLES down and across, or all of it."""
    sides = min(height, SAMPLE_PX), min(width, SAMPLE_PX)
    tops, lefts = (
        np.unique(np.linspace(0, size - part, SAMPLES).astype(int)).tolist()
        for size, part in zip((height, width), sides, strict=True)
    )
    return [Window(left, top, sides[1], sides[0]) for top in tops for left in lefts]


def _without_others(source: Any, bands: Sequence[int]) -> Any:
    """Return a dataset in which bands that are not read do not decide what has data.

    GDAL resamples all bands together: it leaves out pixels where alpha is 0, also if that band is
    read as data, and pixels where all bands are nodata, also those that are not read.
    """
    kinds = source.colorinterp
    alpha = {
        band for band, kind in zip(source.indexes, kinds, strict=True) if kind == ColorInterp.alpha
    }
    others = set(source.indexes) - alpha - set(bands)
    if not alpha & set(bands) and (not others or source.nodata is None):
        return source
    if source.name.startswith(VSI):
        source.close()
        raise ValueError(
            f"{source.name} has bands that are not read but decide where it has data, with which "
            f"an address is not resampled: download the file, and give its path"
        )
    path = Path(f"/vsimem/{uuid.uuid4()}.vrt")
    copy(source, path, driver="VRT")
    with open_dataset(path) as file:
        tree = ElementTree.fromstring(file.tags(ns="xml:VRT")["xml:VRT"])
    delete(path, driver="VRT")
    for element in tree.iter("VRTRasterBand"):
        band = int(element.attrib.get("band", 0))  # the band of a mask has no number
        if band in alpha & set(bands):
            for kind in element.findall("ColorInterp"):
                element.remove(kind)
        if band in others:  # unread, so it may be any; GDAL counts it with those that are read
            for number in element.iter("SourceBand"):
                number.text = str(bands[0])
    return open_dataset(ElementTree.tostring(tree, encoding="unicode"))


def check_raster_file(path: Path) -> str:
    """Return the GDAL driver of a raster file, told by its first bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, empty, or no raster.
        OSError: an address cannot be read.
    """
    if isinstance(path, Address):
        _open_address(path).close()
        return "GTiff"
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, wanted a raster file: give those in it, such as {path}/*.tif"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, wanted a raster file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes), wanted a raster: copy it again")
    with path.open("rb") as file:
        start = file.read(8)
    driver = next((name for sign, name in SIGNATURES.items() if start.startswith(sign)), None)
    if driver is None:
        raise ValueError(
            f"{path} is no raster (it begins with {start!r}): wanted GeoTIFF, PNG, JPEG or JPEG "
            f"2000. Leave it out of the images"
        )
    return driver


def _open_address(address: Any, **options: Any) -> Any:
    """Open a GeoTIFF at an address; nothing beside it is asked for."""
    configure_gdal_for_addresses()
    try:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            dataset = open_dataset(address, driver="GTiff", **options)
    except RasterioError as error:
        raise explain_failure(address, gdal_reason(error)) from None
    if dataset.transform == Affine.identity():
        dataset.close()
        raise ValueError(
            f"{address} has no transform, and its tag Orientation is not read from an address: "
            f"download the file, and give its path"
        )
    return dataset


def _open(path: Path) -> Any:
    if isinstance(path, Address):
        return _open_address(path)
    driver = check_raster_file(path)
    if driver == "PNG":
        _check_png(path)
    try:
        dataset = open_dataset(path, driver=driver)
    except RasterioError as error:
        reason = gdal_reason(error)
        if MISSING_CODEC in reason:
            codec = reason.partition(MISSING_CODEC)[2].strip(" .")
            raise ValueError(
                f"{path} is compressed with {codec}, which the GDAL {rasterio.__gdal_version__} of "
                f"rasterio lacks: where a GDAL has it (QGIS does), write it anew with "
                f"`gdal_translate -co COMPRESS=DEFLATE IN OUT`"
            ) from None
        raise ValueError(
            f"{path} cannot be read as {driver} ({reason}): it is damaged or cut short. Copy it "
            f"again"
        ) from None
    # Where a raster lies on the ground is said of the pixels as they are stored.
    turn = read_orientation(path)
    if turn != UPRIGHT and dataset.transform == Affine.identity():
        dataset.close()
        raise ValueError(
            f"{path} is {TURNS[turn]} by its tag Orientation ({turn}), which viewers and labelling "
            f"programs apply and GDAL does not, so masks and points may not fit: turn its pixels "
            f"(`exiftran -a -i FILE`, or `magick mogrify -auto-orient FILE`), or remove the tag "
            f"(`exiftool -Orientation= FILE`) if they fit the pixels as stored"
        )
    try:
        _check_numbers(path, dataset)
        _check_pages(path, dataset)
    except ValueError:
        dataset.close()
        raise
    return dataset


def _check_numbers(path: Path, dataset: Any) -> None:
    """Check that values are no complex numbers, of which numpy would take the real part."""
    if any(str(kind).startswith("complex") for kind in dataset.dtypes):
        raise ValueError(
            f"{path} holds complex numbers ({dataset.dtypes[0]}), wanted real ones: write their "
            f"amplitude with `gdal_calc.py -A IN --calc 'abs(A)' --type Float32 --outfile OUT`"
        )


def _check_pages(path: Path, dataset: Any) -> None:
    """Check that a TIFF has one image of its size, since GDAL reads the first one alone.

    Further ones of other sizes are previews.
    """
    pages, size = count_pages(path), (dataset.height, dataset.width)
    if pages > 1:
        raise ValueError(
            f"{path} holds {pages} images of {size[0]} × {size[1]} px (pages of a TIFF), of which "
            f"GDAL reads the first alone: write the one that is meant with `gdal_translate "
            f"GTIFF_DIR:1:IN OUT`, or the bands of one image with `gdal_merge.py -separate`"
        )


def _placed_by(dataset: Any) -> str | None:
    if dataset.transform != Affine.identity():
        return None
    if dataset.gcps[0]:
        return "ground control points"
    return "RPCs" if dataset.rpcs else None


def _read_meaning(dataset: Any) -> list[Any]:
    """Return what decides where the pixels of a dataset lie, and what their values mean."""
    points, points_crs = dataset.gcps
    palette = dataset.colorinterp[0] == ColorInterp.palette
    return [
        dataset.crs.to_wkt() if dataset.crs else None,
        list(dataset.transform)[:6],
        [[point.row, point.col, point.x, point.y] for point in points],
        points_crs.to_wkt() if points_crs else None,
        [repr(value) for value in dataset.nodatavals],
        [kind.name for kind in dataset.colorinterp],
        [sorted(flag.name for flag in flags) for flags in dataset.mask_flag_enums],
        sorted(dataset.colormap(1).items()) if palette else [],
    ]


def _check_png(path: Path) -> None:
    """Check every chunk of a PNG (W3C PNG, section 5.3): GDAL reads one cut short without an error.

    (Seen with GDAL 3.10, where the window is the whole image: all its pixels were wrong.)
    """
    with path.open("rb") as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND":
            place = file.tell()
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if zlib.crc32(kind + file.read(length)) != int.from_bytes(file.read(4), "big") or (
                len(kind) < 4
            ):
                raise ValueError(
                    f"{path} is damaged or cut short: its chunk at byte {place} has a "
                    f"wrong length or checksum. Copy it again"
                )


def unwritten_error(path: Path, window: Window, what: str) -> ValueError:
    """Return the error of ids in a block that was never written, which GDAL reads as 0."""
    return ValueError(
        f"{path}: the block at row {window.row_off}, column {window.col_off} was never written, "
        f"and would be read as {what}: copy the file again. If it is meant so, write all blocks "
        f"with `gdal_translate -co COMPRESS=DEFLATE IN OUT`"
    )


def _rows(window: Window) -> str:
    return f"rows {int(window.row_off)} to {int(window.row_off + window.height)}"


def _damaged(path: Path, window: Window, error: Exception) -> str:
    return (
        f"{path} is damaged or cut short: {_rows(window)} cannot be read ({gdal_reason(error)}). "
        f"Copy it again"
    )


def gdal_reason(error: BaseException) -> str:
    """Return GDAL's own message, where rasterio's is only "see previous exception"."""
    return " ".join(str(error.__cause__ or error).split())


def pad(values: npt.NDArray[Any], height: int, width: int, fill: int) -> npt.NDArray[Any]:
    """Extend (..., h, w) to (..., height, width) below and to the right with `fill`."""
    missing = (height - values.shape[-2], width - values.shape[-1])
    if missing == (0, 0):
        return values
    around = [(0, 0)] * (values.ndim - 2) + [(0, missing[0]), (0, missing[1])]
    return np.pad(values, around, constant_values=fill)


def mirror(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Extend (bands, h, w) to at least (bands, height, width) below and to the right by reflection.

    Zero padding makes predictions near it worse, since training images have few black areas.
    """
    missing = max(0, height - image.shape[1]), max(0, width - image.shape[2])
    if missing == (0, 0):
        return image
    return np.pad(image, [(0, 0), (0, missing[0]), (0, missing[1])], mode="symmetric")


class BlockWriter:
    """Writes windows of a GeoTIFF, and keeps a checksum of each to verify the file."""

    def __init__(self, dataset: Any) -> None:
        """Wrap an open rasterio dataset in writing mode."""
        self._dataset = dataset
        self.checksums: dict[tuple[int, int, int, int], int] = {}

    def write(self, values: npt.NDArray[Any], window: Window) -> None:
        """Write (bands, H, W) values, of the window's height and width."""
        self._dataset.write(values, window=window)
        key = (window.col_off, window.row_off, window.width, window.height)
        self.checksums[key] = zlib.crc32(np.ascontiguousarray(values).data)


@dataclass(frozen=True, kw_only=True)
class GeoTiffProfile:
    """Size, grid and format of a uint8 GeoTIFF to write, like rasterio's profile."""

    height: int
    width: int
    bands: int
    block_px: int
    """Height and width of a block."""
    crs: CRS | str | None
    transform: Affine
    nodata: int | None = None
    palette: Mapping[int, tuple[int, int, int]] | None = None
    band_names: Sequence[str] = ()


@contextmanager
def write_geotiff(path: Path, profile: GeoTiffProfile) -> Iterator[BlockWriter]:
    """Write a uint8 GeoTIFF of square ZSTD blocks, atomically.

    Blocks that are never written take no space and read as nodata, or 0 where there is none.

    Band interleaving halves the time of ZSTD against pixel interleaving, for 5 % more bytes;
    reading is as fast. GDAL's own threads are not used: they take a sixth more CPU time, and
    orthophotos are already written in parallel.

    When the disk is full, GDAL often raises no error and leaves zeros. So every window is read back
    and compared before the file gets its final name.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    options = {
        "driver": "GTiff",
        "dtype": "uint8",
        "height": profile.height,
        "width": profile.width,
        "count": profile.bands,
        "crs": profile.crs,
        "transform": profile.transform,
        "nodata": profile.nodata,
        "tiled": True,
        "blockxsize": profile.block_px,
        "blockysize": profile.block_px,
        "compress": "zstd",
        "zstd_level": ZSTD_LEVEL,
        "predictor": 1 if profile.palette else 2,
        "interleave": "band",
        "bigtiff": "if_safer",
        "sparse_ok": True,
    }
    with publish_file(path) as aside:
        try:
            with open_dataset(aside, "w", **options) as dataset:
                if profile.palette:
                    dataset.write_colormap(1, dict(profile.palette))
                for number, name in enumerate(profile.band_names, start=1):
                    dataset.set_band_description(number, name)
                writer = BlockWriter(dataset)
                yield writer
            with open_dataset(aside) as written:
                _compare(written, writer)
        except RasterioError as error:
            raise OSError(
                f"{path} could not be written ({gdal_reason(error)}): is the disk full? Free some "
                f"space and run the stage again"
            ) from None


def _compare(written: Any, writer: BlockWriter) -> None:
    for (col_off, row_off, width, height), checksum in writer.checksums.items():
        values = written.read(window=Window(col_off, row_off, width, height))
        if zlib.crc32(values.data) != checksum:
            raise RasterioError(f"the block at row {row_off}, column {col_off} reads back changed")


def write_mask(
    path: Path, *, like: RasterInfo, block_px: int, classes: ClassTable
) -> AbstractContextManager[BlockWriter]:
    """Write a mask on the grid of another raster: nodata IGNORE_INDEX, class colours for QGIS.

    Args:
        path: where to.
        like: whose height, width, CRS and transform the mask takes.
        block_px: height and width of a block.
        classes: whose colours the file carries.
    """
    profile = GeoTiffProfile(
        height=like.height,
        width=like.width,
        bands=1,
        block_px=block_px,
        crs=like.crs,
        transform=like.transform,
        nodata=IGNORE_INDEX,
        palette=dict(enumerate(classes.colours)),
        band_names=("class",),
    )
    return write_geotiff(path, profile)
