"""Suggested points as a GeoPackage, in which an annotator enters their classes."""

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import shapely

from pointcover.active.select import Candidates, Suggestion
from pointcover.labels import ClassTable
from pointcover.raster.raster_io import RasterInfo
from pointcover.runtime.atomic_files import publish_file, publish_text
from pointcover.vectors.features import Annotations
from pointcover.vectors.qgis_styles import style_suggestions
from pointcover.vectors.rasterize import to_pixels
from pointcover.vectors.write import write_geopackage

LAYER = "suggestions"


def leave_out_near(
    clicks: Annotations, distance_px: float, grid: RasterInfo, found: Candidates
) -> Candidates:
    """Leave out candidates that lie within a distance of existing annotations.

    Args:
        clicks: points, lines and polygons.
        distance_px: from the middle of a pixel, in pixels of the image.
        grid: of the image, with a CRS.
        found: its candidates.

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
    """Write points in the middle of pixels, with an empty column `class` to be filled in.

    `annotations` in params.yaml reads the filled file; points without a class are skipped, as
    `annotate.vectors.ignore` holds `""`. Orthophotos are found by the coordinates: there is no
    column `orthophoto`, as the name that a dataset's card gives an image is not known here.

    Args:
        path: the .gpkg to write; a .qml of its style lies beside it.
        suggestions: the most useful first.
        grids: of the images, all with a CRS.
        names: of the images, for the table.
        classes: names and colours.

    Returns:
        How many points each layer has; there is one a CRS.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    by_crs: dict[pyproj.CRS, list[tuple[int, Suggestion]]] = {}
    for rank, suggestion in enumerate(suggestions, 1):
        crs = grids[suggestion.image].crs
        assert crs is not None, "images without a CRS are refused before"
        by_crs.setdefault(pyproj.CRS.from_wkt(crs.to_wkt()), []).append((rank, suggestion))
    tables = {
        LAYER if len(by_crs) == 1 else f"{LAYER}_{number}": geopandas.GeoDataFrame(
            {
                "class": ["" for _ in ranked],
                "predicted": [classes.names[one.class_id] for _, one in ranked],
                "uncertainty": [round(one.uncertainty, 3) for _, one in ranked],
                "rank": [rank for rank, _ in ranked],
                "image": [names[one.image] for _, one in ranked],
            },
            geometry=[
                shapely.Point(grids[one.image].transform * (one.col + 0.5, one.row + 0.5))
                for _, one in ranked
            ],
            crs=crs,
        )
        for number, (crs, ranked) in enumerate(by_crs.items(), 1)
    }
    style = style_suggestions(classes, "class")
    with publish_file(path) as aside:
        write_geopackage(aside, path, tables, style, "Point")
    publish_text(path.with_suffix(".qml"), style)
    return {name: len(table) for name, table in tables.items()}
