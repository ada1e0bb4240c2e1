"""Write the files of a map from its strips.

These are GeoTIFFs of classes, confidence and optional layers, with QGIS styles, a table of areas by
class, and a preview.
"""

import csv
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, ClassTable, Colour, count_pixels
from pointcover.maps.cog import CogLayer, write_cog
from pointcover.maps.orthophotos import Orthophoto
from pointcover.prediction.settings import LayerSettings
from pointcover.raster.addresses import Address
from pointcover.raster.grids import ground_m2
from pointcover.raster.raster_io import RasterInfo, RasterReader, ResampledReader, Window
from pointcover.runtime.atomic_files import publish_csv, publish_text
from pointcover.vectors.qgis_styles import style_classes, style_percent

SUFFIXES: Final = (
    "_classes.tif",
    "_classes.qml",
    "_confidence.tif",
    "_confidence.qml",
    "_entropy.tif",
    "_entropy.qml",
    "_probabilities.tif",
    "_polygons.gpkg",
    "_polygons.qml",
    "_areas.csv",
    "_preview.png",
    ".json",
)
"""Endings of a map's files after the image's stem. The JSON is published last, when all other files
exist. Polygons are added later, and then recorded in it."""

IMAGE_TAG: Final = "POINTCOVER_IMAGE"
"""Metadata key in every PNG and GeoTIFF of a map; its value is the name of the mapped image."""

PIXEL_COUNTS: Final = "pixel counts; for areas to report use sample and assess"
"""What tables of areas say of themselves: they are biased by every confusion of the map."""

AREA_HEADER: Final = ("class_id", "class", "pixels", "fraction", "area_m2", "area_ha", "basis")
M2_PER_HA: Final = 10_000
PREVIEW_PX: Final = 900
PREVIEW_INCHES: Final = 6.0
NO_COLOUR: Final[Colour] = (255, 255, 255)
BLUE: Final[Colour] = (8, 48, 107)
RED: Final[Colour] = (165, 15, 21)

NO_DATA: Final = (
    "no pixel has data, so the map is empty: check the image's nodata value, alpha band or mask"
)
"""Message for a map without any pixel of a class."""


FOR_POLYGONS: Final = ("geopandas", "pyogrio", "pyproj", "shapely", "scipy")
"""Packages that write polygons, which maps alone do not need."""


@dataclass(frozen=True)
class ClassArea:
    """The area of one class in a map."""

    class_id: int
    name: str
    pixels: int
    fraction: float | None
    """Fraction of the pixels with data; None if no pixel has data."""
    area_m2: float | None
    """None if the size of a pixel is not known."""

    def row(self) -> list[object]:
        """Return the values of a table row, in the order of AREA_HEADER."""
        area_ha = None if self.area_m2 is None else round(self.area_m2 / M2_PER_HA, 6)
        sizes = [self.pixels, self.fraction, self.area_m2, area_ha]
        return [self.class_id, self.name, *sizes, PIXEL_COUNTS]


@dataclass(frozen=True)
class MapLegend:
    """Classes, layers and metadata of a map's rasters."""

    classes: ClassTable
    layers: LayerSettings
    tags: Mapping[str, str]
    """Metadata on models and image, for every file."""


def write_rasters(
    base: Path,
    strips: Sequence[Path],
    grid: RasterInfo,
    legend: MapLegend,
) -> None:
    """Write strips as GeoTIFFs of classes, confidence and the optional layers, with styles.

    Args:
        base: folder and stem of the files.
        strips: uint8 GeoTIFFs (layers, rows, W), from top to bottom.
        grid: of the map.
        legend: classes, layers and metadata.

    Raises:
        OSError: the disk is full.
    """
    classes, layers = legend.classes, legend.layers
    names = {f"CLASS_{class_id}": name for class_id, name in enumerate(classes.names)}
    shown = CogLayer(
        [1], ["class"], "mode", dict(enumerate(classes.colours)), {**legend.tags, **names}
    )
    write_cog(_beside(base, "_classes.tif"), strips, grid, shown, IGNORE_INDEX)
    publish_text(_beside(base, "_classes.qml"), style_classes(classes))
    of_percent: list[tuple[str, list[int], Sequence[str], Colour]] = [
        ("confidence", [2], ["confidence, percent"], BLUE)
    ]
    if layers.entropy:
        of_percent.append(("entropy", [3], ["entropy, percent of its maximum"], RED))
    if layers.probabilities:
        first = 3 + layers.entropy
        each = [f"{name}, percent" for name in classes.names]
        of_percent.append(("probabilities", list(range(first, first + len(each))), each, BLUE))
    for what, bands, band_names, colour in of_percent:
        shown = CogLayer(bands, band_names, "average", tags=legend.tags)
        write_cog(_beside(base, f"_{what}.tif"), strips, grid, shown, IGNORE_INDEX)
        if len(bands) == 1:
            publish_text(_beside(base, f"_{what}.qml"), style_percent(NO_COLOUR, colour))


def _beside(base: Path, suffix: str) -> Path:
    return base.with_name(f"{base.name}{suffix}")


def measure_areas(
    strips: Sequence[Path], grid: RasterInfo, classes: ClassTable, gsd_m: float | None
) -> list[ClassArea]:
    """Measure the area of each class in a map.

    Args:
        strips: of the map, from top to bottom; the first band holds class ids.
        grid: of the map.
        classes: of the map.
        gsd_m: ground sample distance in metres, used where the grid has no CRS.

    Returns:
        one area for each class, in the order of the class ids.
    """
    each_row_m2 = ground_m2(grid, np.arange(grid.height))
    if each_row_m2 is None and gsd_m is not None:
        each_row_m2 = np.full(grid.height, gsd_m**2)
    pixels = np.zeros(len(classes), np.int64)
    areas_m2 = np.zeros(len(classes))
    top = 0
    for strip in strips:
        reader = RasterReader(strip)
        height = reader.info().height
        mask = reader.read(Window(0, 0, grid.width, height), [1])[0]
        reader.close()
        # Pixels of one row have the same size. If all rows have the same, one count is enough.
        alike = each_row_m2 is None or np.ptp(each_row_m2) == 0
        parts = [mask] if alike else np.split(mask, height)
        for number, part in enumerate(parts):
            counted = np.array(count_pixels(part, len(classes)))
            pixels += counted
            if each_row_m2 is not None:
                areas_m2 += counted * each_row_m2[top + number]
        top += height
    total = int(pixels.sum())
    return [
        ClassArea(
            class_id,
            name,
            int(count),
            round(int(count) / total, 6) if total else None,
            None if each_row_m2 is None else round(float(area_m2), 2),
        )
        for class_id, (name, count, area_m2) in enumerate(
            zip(classes.names, pixels, areas_m2, strict=True)
        )
    ]


def are_of_nothing(areas: Sequence[ClassArea]) -> bool:
    """Return whether no pixel of a map has data."""
    return all(area.fraction is None for area in areas)


def fraction_without_data(areas: Sequence[ClassArea], grid: RasterInfo) -> float:
    """Return the fraction of a map's pixels that have no class."""
    return 1 - sum(area.pixels for area in areas) / (grid.height * grid.width)


def write_areas(path: Path, areas: Sequence[ClassArea]) -> None:
    """Write areas as a CSV table with AREA_HEADER; cells of unknown values are empty."""
    publish_csv(path, AREA_HEADER, (area.row() for area in areas))


def read_areas(path: Path) -> list[ClassArea]:
    """Read the table that `write_areas` wrote.

    Raises:
        ValueError: it is not such a table.
    """

    def number(text: str | None) -> float | None:
        return float(text) if text else None

    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                ClassArea(
                    int(row["class_id"]),
                    row["class"],
                    int(row["pixels"]),
                    number(row.get("fraction", row.get("share"))),
                    number(row["area_m2"]),
                )
                for row in csv.DictReader(file)
            ]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is missing or is not the table of areas of a map: map the image again with "
            f"replace=True"
        ) from None


def can_draw() -> bool:
    """Return whether previews can be drawn: not where only what maps need is installed."""
    return find_spec("matplotlib") is not None


def check_polygons() -> None:
    """Check, before an image is mapped, that the packages for polygons are installed.

    Raises:
        ValueError: one is missing.
    """
    missing = [name for name in FOR_POLYGONS if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"polygons need {', '.join(missing)}, not installed here: run `pip install "
            f"'pointcover[polygons]'`, or leave out --polygons"
        )


def draw_preview(
    path: Path, title: str, orthophoto: Orthophoto, mask: Path, classes: ClassTable
) -> None:
    """Write a PNG of an image beside its map, with a legend.

    Args:
        path: of the PNG.
        title: of the figure.
        orthophoto: the mapped image.
        mask: GeoTIFF of class ids with overviews.
        classes: names and colours.
    """
    from pointcover.figures import Frame, draw_panel, view_image, view_mask

    grid = orthophoto.grid
    longest = max(grid.height, grid.width)
    shrink = min(1.0, PREVIEW_PX / longest)
    height, width = (max(1, round(size * shrink)) for size in (grid.height, grid.width))
    whole = Window(0, 0, width, height)
    bands, value_range = orthophoto.bands, orthophoto.value_range
    source = orthophoto.reader.path
    # Of an address, bands that are not read decide with the others what has data: see there.
    kept = () if isinstance(source, Address) else bands
    small = ResampledReader(source, height, width, bands=kept, averaged=False)
    image, valid = small.read_scaled(whole, bands, value_range)
    found = ResampledReader(mask, height, width, averaged=False).read(whole, [1])[0]
    picture = _stretch(view_image(image), valid)
    inch = PREVIEW_INCHES / max(height, width)
    draw_panel(
        path,
        title,
        [("image", picture), ("map", view_mask(found, classes))],
        classes,
        Frame(
            view_inches=(max(height * inch, 1), max(width * inch, 2)),
            without="no data",
            tags={IMAGE_TAG: orthophoto.reader.path.name},
        ),
    )


def _stretch(picture: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Stretch the contrast of a (H, W, 3) picture from its 2nd to its 98th percentile."""
    if not valid.any():
        return picture
    low, high = np.percentile(picture[valid], [2, 98])
    if high <= low:
        return picture
    shown = (picture.astype(np.float32) - low) * (255 / (high - low))
    shown = np.clip(shown, 0, 255).astype(np.uint8)
    shown[~valid] = 255
    return np.asarray(shown, np.uint8)


def leave_out_maps(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separate images from maps that were written into the same folder.

    Args:
        images: paths of rasters, for example all rasters of a folder.

    Returns:
        the images, and the files that are tagged as maps.

    Raises:
        ValueError: all files are maps.
    """
    maps = [path for path in images if _is_map(path)]
    if maps and len(maps) == len(images):
        raise ValueError(
            f"{', '.join(map(str, maps[:3]))}{' …' if len(maps) > 3 else ''}: found maps of "
            f"pointcover, wanted images: name the images that were mapped"
        )
    return [path for path in images if path not in maps], maps


def _is_map(path: Path) -> bool:
    """Return whether a raster is tagged as a map; False for unreadable files, reported later."""
    with closing(RasterReader(path)) as reader:
        try:
            return IMAGE_TAG in reader.dataset.tags()
        except (ValueError, OSError):
            return False
