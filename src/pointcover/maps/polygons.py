"""Write a map's areas as polygons: small areas are merged, outlines are simplified.

A map is traced and simplified in blocks of rows. Parts of an area in several blocks are kept until
the area ends, and then joined to one polygon. So memory holds one block, and the areas that
continue below it.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.maps.trace import TracedRows, trace_areas
from pointcover.raster.grids import ground_m2
from pointcover.raster.raster_io import RasterInfo, RasterReader
from pointcover.runtime.atomic_files import publish_file, publish_text
from pointcover.vectors.qgis_styles import style_polygons
from pointcover.vectors.write import write_geopackage_in_parts

LAYER: Final = "classes"

SMOOTHING_PX: Final = 1.5
"""Tolerance of the simplification in pixels: corners whose triangle is smaller than its square are
removed (Visvalingam and Whyatt 1993). This removes the steps of a slanted outline, and keeps a road
of 2 px width."""

AT_ONCE: Final = 50_000
"""Number of polygons that are written at a time."""

Outlines = npt.NDArray[np.object_]
"""(n,) polygons; x is the column, y the row."""
Numbers = npt.NDArray[np.int64]


def write_polygons(path: Path, mask: Path, classes: ClassTable, least_px: int) -> int:
    """Write the areas of a mask as polygons in class colours.

    Neighbours are simplified together, so that there are neither gaps nor overlaps between them.
    Areas are measured before the simplification. A .qml of the same style is written beside the
    file.

    Args:
        path: of the .gpkg; replaced if it exists.
        mask: GeoTIFF of class ids. If it is not georeferenced, x is the column and y the negative
            row, as a GIS shows such a raster.
        classes: of the mask.
        least_px: minimum area in pixels; smaller areas are merged into their largest neighbour.

    Returns:
        the number of polygons.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    grid = RasterReader(mask).info()
    areas = join_parts(trace_areas(mask, least_px, path.parent), grid)
    tables = (_table(part, grid, classes) for part in _gather(areas))
    style = style_polygons(classes, "class")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # from geopandas, if there is no CRS
        with publish_file(path) as aside:
            counts = write_geopackage_in_parts(aside, path, {LAYER: tables}, style, "Polygon")
    publish_text(path.with_suffix(".qml"), style)
    return counts[LAYER]


@dataclass(frozen=True, eq=False)
class Areas:
    """Areas of a mask, or parts of areas."""

    outlines: Outlines
    """(n,) simplified polygons."""
    class_ids: Numbers
    """(n,) int64."""
    pixels: Numbers
    """(n,) areas in pixels, before simplification."""
    m2: npt.NDArray[np.float64]
    """(n,) areas in m², before simplification; NaN where the size of a pixel is not known."""

    def __len__(self) -> int:
        """Return the number of areas."""
        return len(self.outlines)

    def take(self, chosen: npt.NDArray[Any]) -> "Areas":
        """Return the areas at (k,) indices, or those with a True in a (n,) mask."""
        return Areas(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def join(self, groups: Numbers) -> "Areas":
        """Join the parts of each group to one area.

        Args:
            groups: (n,) group of each part. The parts of a group have one class and are adjacent.
        """
        if not len(self):
            return self
        order = np.argsort(groups, kind="stable")
        _, firsts = np.unique(groups[order], return_index=True)
        parts = np.split(self.outlines[order], firsts[1:])
        outlines = np.empty(len(parts), object)
        outlines[:] = [
            one[0] if len(one) == 1 else shapely.coverage_union_all(one) for one in parts
        ]
        return Areas(
            outlines,
            self.class_ids[order][firsts],
            np.add.reduceat(self.pixels[order], firsts),
            np.add.reduceat(self.m2[order], firsts),
        )


def _concatenate(parts: list[Areas]) -> Areas:
    names = Areas.__dataclass_fields__
    return Areas(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _empty() -> Areas:
    return Areas(np.empty(0, object), *(np.empty(0, np.int64),) * 2, np.empty(0))


def join_parts(blocks: Iterable[TracedRows], grid: RasterInfo) -> Iterator[Areas]:
    """Simplify blocks, and join the parts of areas that lie in several blocks.

    Args:
        blocks: from `trace_areas`, from top to bottom.
        grid: of the mask.

    Yields:
        areas that end in a block, once for each block, and a last time without areas.
    """
    waiting, groups = _empty(), np.empty(0, np.int64)
    above = np.full(grid.width, -1)  # by column: group at the bottom edge of the last block
    for block in blocks:
        parts, at_top, at_bottom = _simplify(block, grid)
        count = int(groups.max(initial=-1)) + 1
        parts, groups = (
            _concatenate([waiting, parts]),
            np.concatenate([groups, count + np.arange(len(parts))]),
        )
        at_top, at_bottom = (np.where(at >= 0, at + count, -1) for at in (at_top, at_bottom))
        number = _connect(above, at_top, groups, parts.class_ids)
        groups, above = number[groups], np.append(number, -1)[at_bottom]
        continues = np.isin(groups, above)
        yield parts.take(~continues).join(groups[~continues])
        waiting = parts.take(continues)
        numbers, groups = np.unique(groups[continues], return_inverse=True)
        above = np.where(above >= 0, np.searchsorted(numbers, above), -1)
    yield waiting.join(groups)  # empty after the last block of a mask


def _connect(above: Numbers, below: Numbers, groups: Numbers, class_ids: Numbers) -> Numbers:
    """Renumber groups: groups of one class that touch at the edge of two blocks become one.

    Args:
        above: (W,) group by column above the edge, -1 where there is none.
        below: (W,) group by column below the edge, -1 where there is none.
        groups: (n,) group of each part.
        class_ids: (n,) class of each part.

    Returns:
        (number of groups,) new number of each group.
    """
    count = int(groups.max(initial=-1)) + 1
    class_of = np.zeros(count, np.int64)
    class_of[groups] = class_ids
    both = (above >= 0) & (below >= 0)
    pairs = np.unique(np.stack([above[both], below[both]]), axis=1)
    first, second = pairs[:, class_of[pairs[0]] == class_of[pairs[1]]]
    if not len(first):
        return np.arange(count)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _simplify(block: TracedRows, grid: RasterInfo) -> tuple[Areas, Numbers, Numbers]:
    """Simplify the areas in a block.

    Returns:
        the areas; (W,) index of the area along the block's top edge, -1 where there is none; and
        the same for its bottom edge.
    """
    noded = [(_node(polygon), value) for polygon, value in block.outlines]
    around = np.array([outline for outline, _ in noded], object)
    values = np.array([value for _, value in noded], np.int64)
    are_areas = values < IGNORE_INDEX
    traced = around[are_areas]
    pixels = np.rint(shapely.area(traced)).astype(np.int64)
    areas = Areas(
        shapely.coverage_simplify(around, SMOOTHING_PX)[are_areas],
        values[are_areas],
        pixels,
        _areas_m2(traced, pixels, grid),
    )
    at_top, at_bottom = (_along(traced, row, grid.width) for row in (block.top, block.bottom))
    return areas, at_top, at_bottom


def _along(outlines: Outlines, row: int, width: int) -> Numbers:
    """Return (W,) index of the polygon that has a side along a row, -1 where none has."""
    found = np.full(width, -1)
    rings, polygons = shapely.get_rings(outlines, return_index=True)
    if not len(rings):
        return found
    places, ring = shapely.get_coordinates(rings, return_index=True)
    is_side = (ring[1:] == ring[:-1]) & (places[1:, 1] == row) & (places[:-1, 1] == row)
    columns = np.minimum(places[1:, 0], places[:-1, 0])[is_side].astype(np.int64)
    found[columns] = polygons[ring[1:][is_side]]
    return found


def _node(polygon: dict[str, Any]) -> Any:
    """Return a polygon with a corner at every pixel along its outline.

    Where three areas meet, two of them have a corner, and the third may have a straight side. If
    they were simplified like this, gaps would open there.
    """
    outline = shapely.segmentize(shapely.geometry.shape(polygon), 1)
    return shapely.transform(outline, np.rint)


def _gather(areas: Iterable[Areas]) -> Iterator[Areas]:
    """Concatenate areas to parts of at least AT_ONCE; yields at least one part."""
    parts, count = [_empty()], 0
    is_first = True
    for part in areas:
        parts.append(part)
        count += len(part)
        if count >= AT_ONCE:
            yield _concatenate(parts)
            parts, count, is_first = [_empty()], 0, False
    if count or is_first:
        yield _concatenate(parts)


def _table(areas: Areas, grid: RasterInfo, classes: ClassTable) -> geopandas.GeoDataFrame:
    """Return areas as features in the grid's CRS."""
    return geopandas.GeoDataFrame(
        {
            "class": np.array(classes.names, object)[areas.class_ids],
            "class_id": areas.class_ids.astype(np.int16),
            "area_m2": areas.m2,
            "area_px": areas.pixels,
        },
        geometry=_place(areas.outlines, grid),
        crs=pyproj.CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None,
    )


def _place(outlines: Outlines, grid: RasterInfo) -> Outlines:
    """Transform outlines from pixel coordinates to the grid's CRS."""
    to_place = grid.transform if grid.is_georeferenced else grid.transform.scale(1, -1)

    def move(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(to_place @ (pixels[:, 0], pixels[:, 1]))

    return np.asarray(shapely.transform(outlines, move))


def _areas_m2(outlines: Outlines, pixels: Numbers, grid: RasterInfo) -> npt.NDArray[np.float64]:
    """Return (n,) areas in m²: pixels times the size of a pixel there; NaN if it is not known."""
    if not len(outlines):
        return np.empty(0)
    rows = np.rint(shapely.get_y(shapely.centroid(outlines))).astype(np.int64)
    of_pixel = ground_m2(grid, rows)
    if of_pixel is None:
        return np.full(len(outlines), np.nan)
    return np.asarray(pixels * of_pixel, np.float64)
