"""Polygons: a map's areas as features for a GIS, small ones gone, outlines without steps.

A map is traced and simplified in blocks of rows. Parts of an area in several blocks wait for each
other and become one polygon, so that memory holds a block and the areas that go on below it.
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
"""Corners whose triangle is smaller than the square of this go (Visvalingam and Whyatt 1993): the
steps of a slanted outline are such, a road of 2 px width is none."""

AT_ONCE: Final = 50_000
"""How many polygons are written at a time."""

Outlines = npt.NDArray[np.object_]
"""(n,) polygons; x is the column, y the row."""
Numbers = npt.NDArray[np.int64]


def write_polygons(path: Path, mask: Path, classes: ClassTable, least_px: int) -> int:
    """Write the areas of a mask as polygons in class colours.

    Neighbours are simplified together, so that no gap and no overlap comes between them; how large
    an area is is measured before. A .qml of the same style lies beside the file.

    Args:
        path: the .gpkg to write; replaced if it is there.
        mask: a GeoTIFF of class ids. Without a CRS and a place, x is the column and y the row
            downwards from 0, as a GIS shows such a raster.
        classes: whose ids they are.
        least_px: how large an area must be to stay apart from its largest neighbour.

    Returns:
        How many polygons there are.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    grid = RasterReader(mask).info()
    areas = join_parts(trace_areas(mask, least_px, path.parent), grid)
    tables = (_table(part, grid, classes) for part in _gather(areas))
    style = style_polygons(classes, "class")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of geopandas, where there is no CRS
        with publish_file(path) as aside:
            counts = write_geopackage_in_parts(aside, path, {LAYER: tables}, style, "Polygon")
    publish_text(path.with_suffix(".qml"), style)
    return counts[LAYER]


@dataclass(frozen=True, eq=False)
class Areas:
    """Areas of a mask, or parts of such."""

    outlines: Outlines
    """Simplified."""
    class_ids: Numbers
    """(n,)."""
    pixels: Numbers
    """(n,) before simplification."""
    m2: npt.NDArray[np.float64]
    """(n,) of these pixels on the ground, NaN where nobody knows."""

    def __len__(self) -> int:
        """Count them."""
        return len(self.outlines)

    def take(self, chosen: npt.NDArray[Any]) -> "Areas":
        """Return some of them, by numbers or flags."""
        return Areas(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def join(self, groups: Numbers) -> "Areas":
        """Make one area of the parts of each group.

        Args:
            groups: (n,) numbers; the parts of one group are of one class and share sides.
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
    """Simplify blocks and give areas as soon as they are whole; joined where they go on below.

    Args:
        blocks: of `trace_areas`, from top to bottom.
        grid: of the mask.
    """
    waiting, groups = _empty(), np.empty(0, np.int64)
    above = np.full(grid.width, -1)  # which group lies along the edge of the last block, by column
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
        goes_on = np.isin(groups, above)
        yield parts.take(~goes_on).join(groups[~goes_on])
        waiting = parts.take(goes_on)
        numbers, groups = np.unique(groups[goes_on], return_inverse=True)
        above = np.where(above >= 0, np.searchsorted(numbers, above), -1)
    yield waiting.join(groups)  # none, after the last block of a mask


def _connect(above: Numbers, below: Numbers, groups: Numbers, class_ids: Numbers) -> Numbers:
    """Number groups anew, those alike that meet at the edge of two blocks and are of one class.

    Args:
        above: (W,) group by column on the one side of the edge, -1 where there is none.
        below: (W,) likewise on the other side.
        groups: (n,) group of each part.
        class_ids: (n,) class of each part.

    Returns:
        the new number of each group.
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
        the areas, and which of them lies along the block's first and last row: twice (W,), -1
        where there is none.
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
    """Say by column which polygon has a side along a row, (W,); -1 where none has."""
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
    """Return a polygon a corner at every pixel along its outline.

    Where three areas meet, two of them have a corner and the third goes straight on: simplified
    as they are, they would part there.
    """
    outline = shapely.segmentize(shapely.geometry.shape(polygon), 1)
    return shapely.transform(outline, np.rint)


def _gather(areas: Iterable[Areas]) -> Iterator[Areas]:
    """Put areas together to AT_ONCE or more, one part at least."""
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
    """Carry outlines from pixels to the grid's CRS."""
    to_place = grid.transform if grid.is_georeferenced else grid.transform.scale(1, -1)

    def move(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(to_place @ (pixels[:, 0], pixels[:, 1]))

    return np.asarray(shapely.transform(outlines, move))


def _areas_m2(outlines: Outlines, pixels: Numbers, grid: RasterInfo) -> npt.NDArray[np.float64]:
    """Return areas in m², NaN where nobody knows: pixels times what one covers at their place."""
    if not len(outlines):
        return np.empty(0)
    rows = np.rint(shapely.get_y(shapely.centroid(outlines))).astype(np.int64)
    of_pixel = ground_m2(grid, rows)
    if of_pixel is None:
        return np.full(len(outlines), np.nan)
    return np.asarray(pixels * of_pixel, np.float64)
