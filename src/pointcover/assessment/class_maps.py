"""Class maps as populations of units: rasters of class ids, read by windows."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from pointcover.labels import IGNORE_INDEX, ClassTable, Mask, check_class_name
from pointcover.raster.grids import ground_m2
from pointcover.raster.raster_io import RasterInfo, RasterReader, Window, unwritten_error
from pointcover.text import shorten

CLASS_TAG: Final = "CLASS_"
"""Beginning of the tags in which a map names its classes: CLASS_0, CLASS_1, …"""

WINDOW_PX: Final = 2048
"""Height and width of what is read at a time."""

Areas = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a window: pixels, or blocks of pixels."""

    ids: Mask
    """(H, W) class of each unit, IGNORE_INDEX where it has no data."""
    areas_m2: Areas
    """(H, W) m² of the pixels with data of each unit."""


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A raster of class ids that says what they are called and where it lies."""

    reader: RasterReader
    info: RasterInfo
    classes: ClassTable
    block_px: int

    @property
    def path(self) -> Path:
        """Return its file."""
        return self.reader.path

    @property
    def crs(self) -> str:
        """Return its CRS as WKT."""
        assert self.info.crs is not None, "maps without a CRS are refused when they are opened"
        return str(self.info.crs.to_wkt())

    def windows(self) -> Iterator[Window]:
        """Return windows of whole units that cover the map, in a fixed order."""
        step = max(1, WINDOW_PX // self.block_px) * self.block_px
        height, width = self.info.height, self.info.width
        for row in range(0, height, step):
            for col in range(0, width, step):
                yield Window(col, row, min(step, width - col), min(step, height - row))

    def read_ids(self, window: Window) -> Mask:
        """Read the class ids of a window, IGNORE_INDEX where the map has no data.

        Raises:
            ValueError: the file is damaged there, or an id is of no class.
        """
        ids = np.asarray(self.reader.read(window, [1])[0], np.uint8)
        ids[~self.reader.read_valid(window, [1])] = IGNORE_INDEX
        return self._checked(ids)

    def read_onto(self, grid: RasterInfo, window: Window) -> Mask:
        """Read class ids on another grid, the nearest pixel each; see `read_ids`."""
        return self._checked(read_onto(self.reader, grid, window))

    def _checked(self, ids: Mask) -> Mask:
        strange = np.unique(ids[(ids >= len(self.classes)) & (ids != IGNORE_INDEX)])
        if strange.size:
            raise ValueError(
                f"{self.path} has pixels of id {shorten(strange.tolist())}, and names "
                f"{len(self.classes)} classes ({shorten(self.classes.names)}): name the others "
                f"too, or make them nodata ({IGNORE_INDEX})"
            )
        return ids

    def units_of(self, ids: Mask, window: Window) -> Units:
        """Make units of the pixels of a window.

        A block has the class of most of its pixels, of equals the first, and the area of its pixels
        that have data.
        """
        rows = slice(int(window.row_off), int(window.row_off) + ids.shape[0])
        areas = np.where(ids == IGNORE_INDEX, 0.0, self.row_m2[rows, np.newaxis])
        if self.block_px == 1:
            return Units(ids, areas)
        return Units(commonest(ids, self.block_px), sum_blocks(areas, self.block_px))

    @cached_property
    def row_m2(self) -> Areas:
        """(H,) area on the ground of a pixel in each row.

        Raises:
            ValueError: nobody knows it.
        """
        found = ground_m2(self.info, np.arange(self.info.height))
        if found is None or not (np.isfinite(found) & (found > 0)).all():
            raise ValueError(
                f"{self.path} has a CRS that is not on the Earth, so nobody knows the area of its "
                f"pixels: give it the CRS of its image"
            )
        return found

    def unit_pixel(self, row: int, col: int) -> tuple[int, int]:
        """Return the row and column of the pixel in the middle of a unit."""
        height, width = self.info.height, self.info.width
        ends = min((row + 1) * self.block_px, height), min((col + 1) * self.block_px, width)
        return (row * self.block_px + ends[0]) // 2, (col * self.block_px + ends[1]) // 2

    def unit_window(self, row: int, col: int) -> Window:
        """Return the pixels of a unit."""
        top, left, side = row * self.block_px, col * self.block_px, self.block_px
        height, width = self.info.height, self.info.width
        return Window(left, top, min(side, width - left), min(side, height - top))


def commonest(ids: Mask, block_px: int) -> Mask:
    """Return the commonest id of blocks: (H, W) to (H / block, W / block), rounded up."""
    padded = _pad(ids, block_px, IGNORE_INDEX)
    most = np.zeros((padded.shape[0] // block_px, padded.shape[1] // block_px), np.int64)
    found = np.full(most.shape, IGNORE_INDEX, np.uint8)
    for value in np.unique(ids[ids != IGNORE_INDEX]):
        counts = sum_blocks((padded == value).astype(np.int64), block_px)
        found[counts > most] = value
        most = np.maximum(most, counts)
    return found


def sum_blocks(values: npt.NDArray[Any], block_px: int) -> npt.NDArray[Any]:
    """Add up the values of blocks: (H, W) to (H / block, W / block), rounded up."""
    padded = _pad(values, block_px, 0)
    height, width = padded.shape
    blocks = padded.reshape(height // block_px, block_px, width // block_px, block_px)
    return np.asarray(blocks.sum(axis=(1, 3)))


def _pad(values: npt.NDArray[Any], block_px: int, fill: int) -> npt.NDArray[Any]:
    missing = [(0, -size % block_px) for size in values.shape]
    return np.pad(values, missing, constant_values=fill)


def open_class_maps(
    paths: Sequence[Path], names: Sequence[str] | None = None, block_px: int = 1
) -> list[ClassMap]:
    """Open maps of the same classes.

    Args:
        paths: GeoTIFFs of class ids, such as the `_classes.tif` of `pointcover predict`.
        names: what ids 0, 1, … are called, where the files do not say it.
        block_px: side of a unit in pixels.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one is no class map, has no place, names other classes or is given twice.
    """
    maps = [open_class_map(path, names, block_px) for path in paths]
    first = maps[0]
    for other in maps[1:]:
        if other.classes.names != first.classes.names:
            raise ValueError(
                f"{other.path} has the classes {shorten(other.classes.names)}, but {first.path} "
                f"has {shorten(first.classes.names)}: give maps of the same classes"
            )
    resolved = [path.resolve() for path in paths]
    twice = {str(path) for path in paths if resolved.count(path.resolve()) > 1}
    if twice:
        raise ValueError(f"{shorten(sorted(twice))} is given twice: give each map once")
    return maps


def open_class_map(path: Path, names: Sequence[str] | None = None, block_px: int = 1) -> ClassMap:
    """Open a map; see `open_class_maps`."""
    reader = RasterReader(path)
    info = reader.info()
    if info.dtype != "uint8" or info.bands != 1:
        raise ValueError(
            f"{path} has {info.bands} band(s) of {info.dtype}, wanted one band of uint8 class ids: "
            f"give the _classes.tif of a map"
        )
    if info.warp_advice:
        raise ValueError(info.warp_advice)
    if info.crs is None:
        raise ValueError(
            f"{path} has no CRS, so a point of it is nowhere on the ground: give "
            f"its image a CRS (in QGIS: Raster > Projections > Assign projection), and map it again"
        )
    found = ClassMap(reader, info, _read_classes(reader, info, names), block_px)
    reader.check_unscaled()
    unwritten = reader.unwritten_window()
    if unwritten is not None and reader.missing_blocks([1]) is not None:
        raise unwritten_error(path, unwritten, f"class {found.classes.names[0]!r}")
    return found


def _read_classes(
    reader: RasterReader, info: RasterInfo, names: Sequence[str] | None
) -> ClassTable:
    """Read what a map calls its classes, and their colours."""
    tags = reader.dataset.tags()
    said = names or [tags[key] for key in _tag_names(tags)]
    if len(said) < 2:
        raise ValueError(
            f"{reader.path} does not say what its classes are called (tags {CLASS_TAG}0, "
            f"{CLASS_TAG}1, …): say it with --names NAME,NAME,…, in the order of their ids"
        )
    for name in said:
        check_class_name(name)
    palette = reader.dataset.colormap(1) if info.has_palette else {}
    colours = [tuple(palette.get(number, (0, 0, 0))[:3]) for number in range(len(said))]
    if len(set(colours)) < len(said):
        colours = [distinct_colour(number) for number in range(len(said))]
    return ClassTable(tuple(said), tuple(colours))


def _tag_names(tags: dict[str, str]) -> list[str]:
    """Return the tags of classes in the order of their ids, up to the first that is missing."""
    numbers = range(IGNORE_INDEX)
    found = [f"{CLASS_TAG}{number}" for number in numbers]
    end = next((number for number in numbers if found[number] not in tags), IGNORE_INDEX)
    return found[:end]


def distinct_colour(number: int) -> tuple[int, int, int]:
    """Return a colour that differs from those of other numbers: hues by the golden angle."""
    hue = (number * 0.618033988749895) % 1 * 6
    high, low = 225 - 25 * (number % 3), 40 + 30 * (number % 4)
    part = round(low + (high - low) * (1 - abs(hue % 2 - 1)))
    corner = int(hue)
    red = (high, part, low, low, part, high)[corner]
    green = (part, high, high, part, low, low)[corner]
    return red, green, (low, low, part, high, high, part)[corner]


class Digest:
    """The digest of a map's pixels and place: whatever its name, compression or overviews."""

    def __init__(self, info: RasterInfo) -> None:
        """Begin with the map's size and transform."""
        place = [info.height, info.width, *(float(number) for number in info.transform[:6])]
        self._hash = hashlib.sha256(repr(place).encode())

    def add(self, ids: Mask) -> None:
        """Add the ids of the next window."""
        self._hash.update(np.ascontiguousarray(ids).data)

    def text(self) -> str:
        """Return it in 64 hexadecimal digits."""
        return self._hash.hexdigest()


def read_onto(source: RasterReader, grid: RasterInfo, window: Window) -> Mask:
    """Read a raster of ids on the grid of another, the nearest pixel each.

    Returns:
        (H, W) ids, IGNORE_INDEX where it has none.

    Raises:
        ValueError: it has no CRS.
    """
    if source.info().crs is None:
        raise ValueError(f"{source.path} has no CRS, so it lies nowhere: give it one")
    options = {
        "crs": grid.crs,
        "transform": grid.transform,
        "height": grid.height,
        "width": grid.width,
        "resampling": Resampling.nearest,
        "nodata": IGNORE_INDEX,
    }
    if source.dataset.nodata is None:
        options["src_nodata"] = IGNORE_INDEX
    with WarpedVRT(source.dataset, **options) as warped:
        return np.asarray(warped.read(1, window=window), np.uint8)


def check_apart(maps: Sequence[ClassMap]) -> None:
    """Check that no pixel of a map with data lies on one of another map.

    Raises:
        ValueError: two maps overlap, so that land would be counted twice.
    """
    for number, first in enumerate(maps):
        for second in maps[number + 1 :]:
            _check_pair(first, second)


def _check_pair(first: ClassMap, second: ClassMap) -> None:
    whole = Window(0, 0, first.info.width, first.info.height)
    if not _may_touch(first.info, whole, second.info):
        return
    area_m2 = 0.0
    for window in first.windows():
        if not _may_touch(first.info, window, second.info):
            continue
        both = first.read_ids(window) != IGNORE_INDEX
        both &= read_onto(second.reader, first.info, window) != IGNORE_INDEX
        rows = slice(int(window.row_off), int(window.row_off) + both.shape[0])
        area_m2 += float((both.sum(axis=1) * first.row_m2[rows]).sum())
    if area_m2:
        raise ValueError(
            f"{first.path} and {second.path} overlap on {area_m2 / 10_000:.6g} ha, which would be "
            f"counted twice: cut one of them (gdalwarp, or nodata where they overlap)"
        )


def _may_touch(grid: RasterInfo, window: Window, other: RasterInfo) -> bool:
    """Return whether the bounds of a window and of another raster meet, in the latter's CRS."""
    from rasterio.warp import transform_bounds

    try:
        window_bounds = transform_bounds(grid.crs, other.crs, *_bounds(grid, window))
    except Exception:  # PROJ's refusals have no public class in rasterio
        return False
    bounds = _bounds(other, Window(0, 0, other.width, other.height))
    west, south = np.maximum(window_bounds[:2], bounds[:2])
    east, north = np.minimum(window_bounds[2:], bounds[2:])
    return bool(west < east and south < north)


def _bounds(grid: RasterInfo, window: Window) -> tuple[float, float, float, float]:
    cols = window.col_off, window.col_off + window.width
    rows = window.row_off, window.row_off + window.height
    xs, ys = zip(*(grid.transform @ (col, row) for col in cols for row in rows), strict=True)
    return min(xs), min(ys), max(xs), max(ys)
