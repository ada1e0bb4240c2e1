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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import rasterize
from rasterio.transform import Affine, from_origin
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
        return {"path": self.path, "_dataset": None, "_opened_by": -1}

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
            self._dataset = _open(self.path)
            self._opened_by = os.getpid()
        return self._dataset

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
