"""Write suggested points as a GeoPackage, in which an annotator enters classes."""

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import shapely

from pointcover.active.select import Candidates, Suggestion
from pointcover.labels import ClassTable
from pointcover.raster.raster_io import RasterInfo
from pointcover.vectors.features import Annotations
from pointcover.vectors.qgis_styles import style_suggestions
from pointcover.vectors.rasterize import to_pixels
from pointcover.vectors.write import publish_points

LAYER = "suggestions"


def leave_out_near(
    clicks: Annotations, distance_px: float, grid: RasterInfo, found: Candidates
) -> Candidates:
    """Leave out candidates that lie within a distance of existing annotations.

    Args:
        clicks: points, lines and polygons.
        distance_px: from the centre of a pixel, in pixels of the image.
        grid: of the image, with a CRS.
        found: candidates of the image.

    Raises:
        ValueError: the CRS of the clicks cannot be transformed to that of the image.
    """
    parts, _ = clicks.project(grid)
    middles = shapely.points(found.cols + 0.5, found.rows + 0.5)
    shapes = to_pixels(parts, grid)
    near = shapely.STRtree(middles).query(shapes, predicate="dwithin", distance=distance_px)[1]
    return found.take(np.setdiff1d(np.arange(len(found.rows)), near))


def write_suggestions(
    path: Path,
    suggestions: Sequence[Suggestion],
    grids: Sequence[RasterInfo],
    names: Sequence[str],
    classes: ClassTable,
) -> dict[str, int]:
    """Write points at the centres of pixels, with an empty column `class` to fill in.

    The filled file can be used as `annotations` in params.yaml. Points without a class are skipped,
    since `annotate.vectors.ignore` contains `""`. There is no column `orthophoto`, since the
    dataset's names of the images are not known here; orthophotos are found by coordinates.

    Args:
        path: of the .gpkg; a .qml of its style is written beside it.
        suggestions: in the order of their rank.
        grids: of the images, all with a CRS.
        names: of the images, for the table.
        classes: names and colours.

    Returns:
        the number of points by layer; there is one layer for each CRS.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    by_crs: dict[pyproj.CRS, list[tuple[int, Suggestion]]] = {}
    for rank, suggestion in enumerate(suggestions, 1):
        crs = grids[suggestion.image].crs
        assert crs is not None, "images without a CRS are rejected by `prepare`"
        by_crs.setdefault(pyproj.CRS.from_wkt(crs.to_wkt()), []).append((rank, suggestion))
    tables = [
        geopandas.GeoDataFrame(
            {
                "class": ["" for _ in ranked],
                "predicted": [classes.names[one.class_id] for _, one in ranked],
                "uncertainty": [round(one.uncertainty, 3) for _, one in ranked],
                "rank": [rank for rank, _ in ranked],
                "image": [names[one.image] for _, one in ranked],
            },
            geometry=[
                shapely.Point(grids[one.image].transform @ (one.col + 0.5, one.row + 0.5))
                for _, one in ranked
            ],
            crs=crs,
        )
        for crs, ranked in by_crs.items()
    ]
    return publish_points(path, LAYER, tables, style_suggestions(classes, "class"))
