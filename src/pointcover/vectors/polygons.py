"""Polygons: a map's areas as features for a GIS, small ones gone, outlines without steps."""

import warnings
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from pointcover.grids import ground_m2
from pointcover.labels import ClassTable
from pointcover.outlines import trace_areas
from pointcover.publishing import publish_file, publish_text
from pointcover.qgis import style_polygons
from pointcover.raster import RasterInfo, RasterReader
from pointcover.vectors.writing import write_geopackage

LAYER: Final = "classes"

SMOOTHING_PX: Final = 1.5
"""Corners whose triangle is smaller than the square of this go (Visvalingam and Whyatt 1993): the
steps of a slanted outline are such, a road of 2 px width is none."""


def write_polygons(path: Path, mask: Path, classes: ClassTable, least_px: int) -> int:
    """Write the areas of a mask as polygons in class colours.

    Neighbours are simplified together, so that no gap and no overlap comes between them. A .qml of
    the same style lies beside the file.

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
    traced = list(trace_areas(mask, least_px, path.parent))
    outlines = np.array([_node(polygon) for polygon, _ in traced], object)
    class_ids = np.array([class_id for _, class_id in traced], np.int16)
    if len(outlines):
        outlines = shapely.coverage_simplify(outlines, SMOOTHING_PX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of geopandas, where there is no CRS
        table = geopandas.GeoDataFrame(
            {
                "class": np.array(classes.names, object)[class_ids],
                "class_id": class_ids,
                "area_m2": _areas_m2(outlines, grid),
                "area_px": np.rint(shapely.area(outlines)).astype(np.int64),
            },
            geometry=_place(outlines, grid),
            crs=pyproj.CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None,
        )
        style = style_polygons(classes, "class")
        with publish_file(path) as aside:
            write_geopackage(aside, path, {LAYER: table}, style, "Polygon")
    publish_text(path.with_suffix(".qml"), style)
    return len(table)


def _node(polygon: dict[str, Any]) -> Any:
    """Give a polygon a corner at every pixel along its outline.

    Where three areas meet, two of them have a corner and the third goes straight on: simplified
    as they are, they would part there.
    """
    outline = shapely.segmentize(shapely.geometry.shape(polygon), 1)
    return shapely.transform(outline, np.rint)


def _place(outlines: npt.NDArray[np.object_], grid: RasterInfo) -> npt.NDArray[np.object_]:
    """Carry outlines from pixels to the grid's CRS."""
    to_place = grid.transform if grid.is_georeferenced else grid.transform.scale(1, -1)

    def move(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(to_place * (pixels[:, 0], pixels[:, 1]))

    return np.asarray(shapely.transform(outlines, move))


def _areas_m2(outlines: npt.NDArray[np.object_], grid: RasterInfo) -> npt.NDArray[np.float64]:
    """Give areas in m², NaN where nobody knows: pixels times what one covers at its place."""
    rows = np.rint(shapely.get_y(shapely.centroid(outlines))).astype(np.int64)
    of_pixel = ground_m2(grid, rows)
    if of_pixel is None:
        return np.full(len(outlines), np.nan)
    return np.asarray(shapely.area(outlines) * of_pixel, np.float64)
