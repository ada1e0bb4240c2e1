"""Rasters: read a window, write a GeoTIFF of blocks, lay a grid. The one place that opens them.

Row before column everywhere; x and y are CRS coordinates only.
"""

import logging
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import rasterize, shapes, sieve
from rasterio.transform import Affine, from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as project
from rasterio.windows import Window as Window  # the rest of the project gets it here

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.publishing import publish_file

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
"""Formats that are opened, by a file's first bytes. A VRT is none: it may read other files, or the
network. (rasterio 1.4 documents a list of drivers, but refuses it.)"""

# Photographs without a place are welcome here: no reason to warn at each of them.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
# What GDAL says of an error goes into the one message here, not beside it.
logging.getLogger("rasterio").setLevel(logging.CRITICAL)

# GDAL would keep decoded blocks in up to a twentieth of the memory, in each process. Tiling reads
# and writes each block once and needs none of them again; fresh memory for them cost a quarter of
# its time. This much still holds a row of tiles of a striped orthophoto 40 000 px wide.
os.environ.setdefault("GDAL_CACHEMAX", "64")  # MB; GDAL reads it when it first keeps a block

EIGHT_BIT: Final = (0.0, 255.0)
"""The value range of images that need no scaling."""

COG_BLOCK_PX: Final = 512

SIEVE_STEP: Final = 4
"""By what factor the least size of an area grows from pass to pass."""

ZSTD_LEVEL: Final = 1
GRID_TOLERANCE_PX: Final = 0.01

Place = tuple[float, float]
"""x and y in a CRS."""


@dataclass(frozen=True)
class RasterInfo:
    """What a raster file says of itself, without its pixels."""

    path: Path
    height: int
    width: int
    bands: int
    dtype: str
    crs: CRS | None
    transform: Affine
    has_palette: bool

    @property
    def gsd_m(self) -> float | None:
        """Ground sample distance in metres, or None where the CRS does not tell it."""
        if self.crs is None or not self.crs.is_projected:
            return None
        _, metres_per_unit = self.crs.linear_units_factor
        return float(abs(self.transform.e) * metres_per_unit)

    @property
    def pixel_m2(self) -> float | None:
        """Area of a pixel in the plane of the CRS, or None where the CRS has no plane."""
        if self.crs is None or not self.crs.is_projected:
            return None
        _, metres_per_unit = self.crs.linear_units_factor
        return float(abs(self.transform.determinant) * metres_per_unit**2)

    @property
    def is_georeferenced(self) -> bool:
        """Say whether the transform is more than "one unit a pixel"."""
        return bool(self.transform != Affine.identity())


class RasterReader:
    """Reads windows of one raster file; opened at first use, once in every process.

    A handle that is carried into a forked process gives wrong pixels without an error, so a
    reader keeps its handle per process and pickles as its path alone.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is opened yet."""
        self.path = path
        self._dataset: Any = None
        self._opened_by = -1

    def __getstate__(self) -> dict[str, Any]:
        """Leave the handle behind."""
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
            ValueError: it is empty, or none of the formats in SIGNATURES.
        """
        if self._dataset is None or self._opened_by != os.getpid():
            self._dataset = self._open()
            self._opened_by = os.getpid()
        return self._dataset

    def _open(self) -> Any:
        return _open(self.path)

    def info(self) -> RasterInfo:
        """Describe the raster."""
        dataset = self.dataset
        return RasterInfo(
            path=self.path,
            height=dataset.height,
            width=dataset.width,
            bands=dataset.count,
            dtype=str(dataset.dtypes[0]),
            crs=dataset.crs or None,
            transform=dataset.transform,
            has_palette=dataset.colorinterp[0] == ColorInterp.palette,
        )

    def alpha_bands(self) -> tuple[int, ...]:
        """Give the numbers of the bands that the file calls alpha."""
        kinds = zip(self.dataset.indexes, self.dataset.colorinterp, strict=True)
        return tuple(band for band, kind in kinds if kind == ColorInterp.alpha)

    def read(
        self, window: Window, bands: Sequence[int] | None = None, fill: int = 0
    ) -> npt.NDArray[Any]:
        """Read a window.

        Args:
            window: may reach over the lower and right edge; what lies outside is `fill`.
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
        try:
            values = self.dataset.read(indexes, window=inside)
        except RasterioError as error:
            raise ValueError(_damaged(self.path, inside, error)) from None
        return pad(values, int(window.height), int(window.width), fill)

    def read_scaled(
        self, window: Window, bands: Sequence[int], value_range: tuple[float, float]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read a window as tiles hold it, and where it has data.

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
        valid = self.read_valid(window)
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

    def check_whole(self) -> None:
        """Check that a file was not cut short, before hours of work on it.

        A TIFF is asked where its blocks lie, which takes no time; other formats are read.

        Raises:
            ValueError: it is cut short, or cannot be read.
        """
        dataset = self.dataset
        if dataset.driver != "GTiff":
            for top in range(0, dataset.height, 512):
                self.read(Window(0, top, dataset.width, min(512, dataset.height - top)), [1])
            return
        size = self.path.stat().st_size
        height, width = dataset.block_shapes[0]
        for band in dataset.indexes:
            for row in range(math.ceil(dataset.height / height)):
                for col in range(math.ceil(dataset.width / width)):
                    end = sum(
                        int(dataset.get_tag_item(f"{what}_{col}_{row}", "TIFF", bidx=band) or 0)
                        for what in ("BLOCK_OFFSET", "BLOCK_SIZE")
                    )
                    if end > size:
                        raise ValueError(
                            f"{self.path} is cut short: it has {size} bytes, but its block at row "
                            f"{row * height}, column {col * width} ends at byte {end}. Copy it "
                            f"again"
                        )

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

    def read_valid(self, window: Window) -> npt.NDArray[np.bool_]:
        """Say which pixels hold data: (H, W) bool, from nodata, alpha or the file's own mask."""
        if all(MaskFlags.all_valid in flags for flags in self.dataset.mask_flag_enums):
            return np.ones((int(window.height), int(window.width)), bool)
        try:
            return np.asarray(self.dataset.dataset_mask(window=window)) > 0
        except RasterioError as error:
            raise ValueError(_damaged(self.path, window, error)) from None


class ResampledReader(RasterReader):
    """Reads a raster as if it had another size, over the same extent."""

    def __init__(self, path: Path, height: int, width: int, *, averaged: bool = True) -> None:
        """Say what size the raster is to have.

        Args:
            path: of the raster; nothing is opened yet.
            height: in pixels.
            width: in pixels.
            averaged: what becomes smaller is averaged and what becomes larger is interpolated;
                otherwise each pixel is the nearest one.
        """
        super().__init__(path)
        self._height, self._width, self._averaged = height, width, averaged
        self._crs: CRS | None = None

    def _open(self) -> Any:
        source = _open(self.path)
        self._crs = source.crs or None
        scale = Affine.scale(source.width / self._width, source.height / self._height)
        how = Resampling.nearest
        if self._averaged:
            shrinks = self._height * self._width < source.height * source.width
            how = Resampling.average if shrinks else Resampling.bilinear
        flags = source.mask_flag_enums[0]
        has_own_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        plane = source.crs or CRS.from_epsg(3857)  # GDAL wants one; nothing is reprojected
        return WarpedVRT(
            source, src_crs=plane, crs=plane, src_transform=source.transform,
            transform=source.transform * scale, height=self._height, width=self._width,
            resampling=how, add_alpha=has_own_mask,
        )  # fmt: skip

    def info(self) -> RasterInfo:
        """Describe the raster as it is read."""
        return replace(super().info(), crs=self._crs)


def _open(path: Path) -> Any:
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
            f"2000; leave it out of the card's globs"
        )
    if driver == "PNG":
        _check_png(path)
    try:
        return rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise ValueError(
            f"{path} cannot be read as {driver} ({_reason(error)}): it is damaged or cut short. "
            f"Copy it again"
        ) from None


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
                    f"{path} is damaged or cut short: its chunk at byte {place} has not the "
                    f"length or checksum it should have. Copy it again"
                )


def _damaged(path: Path, window: Window, error: Exception) -> str:
    rows = f"rows {int(window.row_off)} to {int(window.row_off + window.height)}"
    return (
        f"{path} is damaged or cut short: {rows} cannot be read ({_reason(error)}). Copy it again"
    )


def _reason(error: BaseException) -> str:
    """Give GDAL's own words, where rasterio says no more than "see previous exception"."""
    return " ".join(str(error.__cause__ or error).split())


def pad(values: npt.NDArray[Any], height: int, width: int, fill: int) -> npt.NDArray[Any]:
    """Extend (..., h, w) to (..., height, width) below and to the right with `fill`."""
    missing = (height - values.shape[-2], width - values.shape[-1])
    if missing == (0, 0):
        return values
    around = [(0, 0)] * (values.ndim - 2) + [(0, missing[0]), (0, missing[1])]
    return np.pad(values, around, constant_values=fill)


def north_up(x: float, y: float, gsd_m: float) -> Affine:
    """Give the transform of a raster whose upper left corner lies at x, y."""
    return from_origin(x, y, gsd_m, gsd_m)


def check_same_grid(image: RasterInfo, mask: RasterInfo) -> None:
    """Check that an image and its mask cover the same pixels.

    A CRS is judged by where it puts the raster's corners, not by its text: the masks of
    LandCover.ai carry PL-1992 written out as a "custom" projection, their images EPSG:2180.

    Raises:
        ValueError: size, CRS or transform differ; the message shows both.
    """
    pair = f"{image.path} and its mask {mask.path}"
    if (image.height, image.width) != (mask.height, mask.width):
        raise ValueError(
            f"{pair} differ in size: {image.height}×{image.width} against "
            f"{mask.height}×{mask.width} px. Pair the right files, or cut both to the same pixels"
        )
    corners = [(0, 0), (image.width, 0), (0, image.height), (image.width, image.height)]
    if image.crs and mask.crs and image.crs != mask.crs:
        places = [mask.transform * corner for corner in corners]
        if not _apart_px(image.transform, places, _project(places, mask.crs, image.crs)) <= (
            GRID_TOLERANCE_PX
        ):
            raise ValueError(
                f"{pair} differ in CRS: {image.crs.to_string()} against {mask.crs.to_string()}. "
                f"Reproject one of them"
            )
    if image.is_georeferenced and mask.is_georeferenced:
        apart = _apart_px(
            image.transform,
            [image.transform * corner for corner in corners],
            [mask.transform * corner for corner in corners],
        )
        if apart > GRID_TOLERANCE_PX:
            raise ValueError(
                f"{pair} lie {apart:.2f} px apart: transform {tuple(image.transform)[:6]} against "
                f"{tuple(mask.transform)[:6]}. Warp one onto the grid of the other"
            )


def _project(places: Sequence[Place], source: CRS, target: CRS) -> list[Place]:
    """Carry places from one CRS to another; NaN where that cannot be done."""
    try:
        xs, ys = project(source, target, *zip(*places, strict=True))
    except Exception:  # PROJ's refusals have no public class in rasterio
        return [(math.nan, math.nan)] * len(places)
    return list(zip(xs, ys, strict=True))


def _apart_px(grid: Affine, places: Sequence[Place], others: Sequence[Place]) -> float:
    """Say how far places lie apart at most, along one side of the grid's pixels."""
    pixels = [(~grid * place, ~grid * other) for place, other in zip(places, others, strict=True)]
    return float(np.max(np.abs(np.subtract(*np.moveaxis(np.asarray(pixels), 1, 0)))))


WGS84_M: Final = (6_378_137.0, 6_356_752.314245)
"""Half axes of the Earth's ellipsoid."""

PLANE_TOLERANCE: Final = 0.01
"""By what share the plane of a CRS may stretch areas and still stand for the ground: UTM stays
below 0.2 % in its zone, web maps (EPSG:3857) show fields at 52° north 2.6 times as large."""


def ground_m2(grid: RasterInfo, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Give the area on the ground of a pixel in each of some rows.

    In the plane of the CRS where that stands for the ground, else on the ellipsoid at the middle
    of each row (exact for geographic CRSs and web maps, whose scale hangs on the row alone).

    Args:
        grid: of the raster.
        rows: (n,) row numbers.

    Returns:
        (n,) m², or None where there is no CRS or it is not on the Earth.
    """
    if grid.crs is None:
        return None
    if grid.pixel_m2 is not None:
        middle = _on_ellipsoid_m2(grid, np.array([grid.height // 2]))
        if middle is None or abs(grid.pixel_m2 / middle[0] - 1) <= PLANE_TOLERANCE:
            return np.full(len(rows), grid.pixel_m2)
    return _on_ellipsoid_m2(grid, rows)


def _on_ellipsoid_m2(
    grid: RasterInfo, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Give the area of pixels in the middle of rows, by the ellipsoid's two radii of curvature."""
    col, row = np.full(len(rows), grid.width // 2) + 0.5, rows + 0.5
    corners = [(col - 0.5, row), (col + 0.5, row), (col, row - 0.5), (col, row + 0.5)]
    places = [place for corner in corners for place in zip(*(grid.transform * corner), strict=True)]
    degrees = np.radians(_project(places, grid.crs, CRS.from_epsg(4326))).reshape(4, len(rows), 2)
    if not np.isfinite(degrees).all():
        return None
    along_row, along_col = degrees[1] - degrees[0], degrees[3] - degrees[2]
    latitude = degrees[..., 1].mean(axis=0)
    a, b = WGS84_M
    squared = 1 - b**2 / a**2
    bent = 1 - squared * np.sin(latitude) ** 2
    north_m, east_m = a * (1 - squared) / bent**1.5, a * np.cos(latitude) / np.sqrt(bent)
    turned = along_row[:, 0] * along_col[:, 1] - along_row[:, 1] * along_col[:, 0]
    return np.asarray(np.abs(turned) * north_m * east_m, np.float64)


def shrink_image(image: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Average blocks of factor × factor px: (bands, H, W) uint8 → (bands, H // factor, …)."""
    if factor == 1:
        return image
    bands, height, width = image.shape
    blocks = image.reshape(bands, height // factor, factor, width // factor, factor)
    return np.asarray(np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)), np.uint8)


def shrink_mask(mask: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Take the commonest value of blocks of factor × factor px, the smallest of equals.

    (H, W) uint8 → (H // factor, W // factor). IGNORE_INDEX counts as a value like any other.
    """
    if factor == 1:
        return mask
    height, width = mask.shape
    blocks = mask.reshape(height // factor, factor, width // factor, factor)
    values = np.unique(mask)
    counts = np.stack([(blocks == value).sum(axis=(1, 3)) for value in values])
    return np.asarray(values[counts.argmax(axis=0)], np.uint8)


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
    """
    with _open(path) as dataset, _scratch(folder, dataset.shape) as (values, spare, valid):
        for top in range(0, dataset.height, COG_BLOCK_PX):
            window = Window(0, top, dataset.width, min(COG_BLOCK_PX, dataset.height - top))
            rows = slice(top, top + int(window.height))
            values[rows] = dataset.read(1, window=window)
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
    """Give three arrays of a byte a pixel that lie in files."""
    paths = [folder / f"trace{number}.partial" for number in range(3)]
    try:
        yield tuple(np.memmap(path, np.uint8, "w+", shape=shape) for path in paths)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


class BlockWriter:
    """Writes windows of a GeoTIFF and remembers a checksum of each, to be read back."""

    def __init__(self, dataset: Any) -> None:
        """Wrap an open rasterio dataset in writing mode."""
        self._dataset = dataset
        self.checksums: dict[tuple[int, int, int, int], int] = {}

    def write(self, values: npt.NDArray[Any], window: Window) -> None:
        """Write (bands, H, W) values, of the window's height and width."""
        self._dataset.write(values, window=window)
        key = (window.col_off, window.row_off, window.width, window.height)
        self.checksums[key] = zlib.crc32(np.ascontiguousarray(values).data)


@contextmanager
def write_geotiff(
    path: Path,
    *,
    height: int,
    width: int,
    bands: int,
    block_px: int,
    crs: CRS | str | None,
    transform: Affine,
    nodata: int | None = None,
    palette: Mapping[int, tuple[int, int, int]] | None = None,
    band_names: Sequence[str] = (),
) -> Iterator[BlockWriter]:
    """Write a uint8 GeoTIFF of ZSTD blocks of block_px × block_px; whole or not at all.

    Blocks that are never written take no space and read as nodata, or 0 where there is none.

    Band by band ZSTD takes half of the time that it takes pixel by pixel, for 5 % more bytes, and
    is read as fast. GDAL's own threads are left alone: they cost a sixth more of the processor,
    which other orthophotos use better.

    A full disk often raises nothing in GDAL and leaves zeros: every window is read back and
    compared before the file gets its name.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    options = {
        "driver": "GTiff", "dtype": "uint8", "height": height, "width": width, "count": bands,
        "crs": crs, "transform": transform, "nodata": nodata,
        "tiled": True, "blockxsize": block_px, "blockysize": block_px,
        "compress": "zstd", "zstd_level": ZSTD_LEVEL, "predictor": 1 if palette else 2,
        "interleave": "band", "bigtiff": "if_safer", "sparse_ok": True,
    }  # fmt: skip
    with publish_file(path) as aside:
        try:
            with rasterio.open(aside, "w", **options) as dataset:
                if palette:
                    dataset.write_colormap(1, dict(palette))
                for number, name in enumerate(band_names, start=1):
                    dataset.set_band_description(number, name)
                writer = BlockWriter(dataset)
                yield writer
            with rasterio.open(aside) as written:
                _compare(written, writer)
        except RasterioError as error:
            raise OSError(
                f"{path} could not be written ({_reason(error)}): is the disk full? Free some "
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
    return write_geotiff(
        path, height=like.height, width=like.width, bands=1, block_px=block_px, crs=like.crs,
        transform=like.transform, nodata=IGNORE_INDEX, palette=dict(enumerate(classes.colours)),
        band_names=("class",),
    )  # fmt: skip


def write_cog(
    path: Path, strips: Sequence[Path], grid: RasterInfo, *, bands: Sequence[int],
    band_names: Sequence[str], nodata: int, overviews: Literal["mode", "average"],
    palette: Mapping[int, tuple[int, int, int]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a cloud-optimised uint8 GeoTIFF from strips that lie below each other.

    GDAL makes such a file only from one that is whole: a virtual one, which stands beside the
    first strip meanwhile. Every strip is compared with what reads back.

    Args:
        path: where to; whole or not at all.
        strips: GeoTIFFs of uint8 as wide as the grid, from top to bottom, which together are as
            high.
        grid: whose CRS and transform the file gets.
        bands: which bands of the strips become bands 1, 2, … of the file.
        band_names: one each.
        nodata: value of pixels without data.
        overviews: how four pixels become one: their commonest value, or their mean.
        palette: colours by value, of one band.
        tags: what the file says of itself.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    heights = [RasterReader(strip).info().height for strip in strips]
    tops = [sum(heights[:number]) for number in range(len(strips))]
    virtual = strips[0].with_name(f"{path.name}.vrt.partial")
    virtual.write_text(
        _virtual(strips, tops, heights, grid, bands, band_names, nodata, palette, tags or {}),
        encoding="utf-8",
    )
    with publish_file(path) as aside:
        try:
            rasterio.shutil.copy(
                virtual, aside, driver="COG", compress="deflate", blocksize=COG_BLOCK_PX,
                overview_resampling=overviews, bigtiff="if_safer", num_threads="all_cpus",
            )  # fmt: skip
            with rasterio.open(aside) as written:
                for strip, top, height in zip(strips, tops, heights, strict=True):
                    window = Window(0, top, grid.width, height)
                    wanted = RasterReader(strip).read(Window(0, 0, grid.width, height), bands)
                    if not np.array_equal(written.read(window=window), wanted):
                        raise RasterioError(f"row {top} and those below read back changed")
        except RasterioError as error:
            raise OSError(
                f"{path} could not be written ({_reason(error)}): is the disk full? Free some "
                f"space and try again"
            ) from None
        finally:
            virtual.unlink()


def _virtual(
    strips: Sequence[Path], tops: Sequence[int], heights: Sequence[int], grid: RasterInfo,
    bands: Sequence[int], band_names: Sequence[str], nodata: int,
    palette: Mapping[int, tuple[int, int, int]] | None, tags: Mapping[str, str],
) -> str:  # fmt: skip
    """Give the XML of GDAL's virtual format for strips below each other."""
    width = str(grid.width)
    root = ElementTree.Element(
        "VRTDataset", rasterXSize=width, rasterYSize=str(tops[-1] + heights[-1])
    )
    if grid.crs is not None:
        ElementTree.SubElement(root, "SRS").text = grid.crs.to_wkt()
    if grid.is_georeferenced:
        numbers = (repr(float(number)) for number in grid.transform.to_gdal())
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(numbers)
    kept = ElementTree.SubElement(root, "Metadata")
    for name, text in tags.items():
        ElementTree.SubElement(kept, "MDI", key=name).text = text
    for number, (band, name) in enumerate(zip(bands, band_names, strict=True), start=1):
        element = ElementTree.SubElement(
            root, "VRTRasterBand", dataType="Byte", band=str(number), blockXSize=str(COG_BLOCK_PX),
            blockYSize=str(COG_BLOCK_PX),
        )  # fmt: skip
        ElementTree.SubElement(element, "Description").text = name
        ElementTree.SubElement(element, "NoDataValue").text = str(nodata)
        ElementTree.SubElement(element, "ColorInterp").text = "Palette" if palette else "Gray"
        if palette:
            table = ElementTree.SubElement(element, "ColorTable")
            for value in range(256):
                red, green, blue = palette.get(value, (0, 0, 0))
                ElementTree.SubElement(
                    table, "Entry", c1=str(red), c2=str(green), c3=str(blue),
                    c4="0" if value == nodata else "255",
                )  # fmt: skip
        for strip, top, height in zip(strips, tops, heights, strict=True):
            source = ElementTree.SubElement(element, "SimpleSource")
            ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = strip.name
            ElementTree.SubElement(source, "SourceBand").text = str(band)
            size = {"xOff": "0", "xSize": width, "ySize": str(height)}
            ElementTree.SubElement(source, "SrcRect", size, yOff="0")
            ElementTree.SubElement(source, "DstRect", size, yOff=str(top))
    return ElementTree.tostring(root, encoding="unicode")
