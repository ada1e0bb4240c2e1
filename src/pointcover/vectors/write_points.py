"""Write point labels as files: for a GIS, for annotation tools, and as a table."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from pointcover.labels import ClassTable
from pointcover.runtime.atomic_files import publish_text
from pointcover.tileset.source_images import SourceImages
from pointcover.vectors.formats import FORMATS
from pointcover.vectors.point_labels import OrthophotoPoints, PointLabels, collect_points
from pointcover.vectors.qgis_styles import style_points
from pointcover.vectors.write import publish_points

COLUMNS: Final = ("class", "class_id", "split", "orthophoto", "tile")

Layers = Mapping[str, int]
"""Number of points by layer of a file."""


@dataclass(frozen=True)
class PointFormat:
    """A format in which point labels are written."""

    ending: str
    """Of the file's name; empty for a folder."""
    write: Callable[[Path, Sequence[OrthophotoPoints], "Context"], Layers]
    beside: tuple[str, ...] = ()
    """Endings of further files with the same stem."""


@dataclass(frozen=True)
class Context:
    """What writers need besides the points."""

    classes: ClassTable
    images: SourceImages


def write_points(path: Path, labels: PointLabels, images: SourceImages, kind: str) -> Layers:
    """Write point labels as points at the centres of their pixels.

    `read_labels` turns the file into the same masks.

    Args:
        path: of the file, or of LabelMe's folder; replaced if it exists.
        labels: to write.
        images: the files of the orthophotos.
        kind: a format of POINT_FORMATS.

    Returns:
        the number of points by layer.

    Raises:
        ValueError: the path has another ending; the format cannot hold the points; there are too
            many or none; or the class of a label is not in the table.
        FileNotFoundError: a raster of point labels is missing.
        OSError: the disk is full, or the file does not read back as written.
    """
    ending = POINT_FORMATS[kind].ending
    if path.suffix != ending:
        wanted = f"a name that ends in {ending}" if ending else "a folder, a name without an ending"
        raise ValueError(f"{path}: format {kind} is written to {wanted}")
    points = collect_points(labels)
    return POINT_FORMATS[kind].write(path, points, Context(labels.classes, images))


def write_geopackage_points(
    path: Path, points: Sequence[OrthophotoPoints], context: Context
) -> Layers:
    """Write a GeoPackage with a layer for each CRS, since reprojection changes coordinates.

    A .qml with the same style is written beside it. Equal labels give equal bytes with the same
    versions of GDAL and SQLite. Of images without CRS, the layer has none, and is in pixels.
    """
    groups: dict[pyproj.CRS | None, list[_Placed]] = {}
    for each in _place(points, context):
        groups.setdefault(each.crs, []).append(each)
    tables = [_table(crs, group, context.classes) for crs, group in groups.items()]
    return publish_points(path, "points", tables, style_points(context.classes, "class"))


def write_geojson_points(
    path: Path, points: Sequence[OrthophotoPoints], context: Context
) -> Layers:
    """Write a GeoJSON in the CRS of the orthophotos, or in pixels if they have none.

    Raises:
        ValueError: they have several CRSs, or one without an authority's code.
    """
    found = _place(points, context)
    crs = found[0].crs
    code = crs.to_authority() if crs else None
    if any(each.crs != crs for each in found) or (crs is not None and code is None):
        raise ValueError(
            f"{path}: a GeoJSON has one CRS, with a code of an authority, but the orthophotos have "
            f"several CRSs, or one without a code: use --format geopackage"
        )
    table = _table(crs, found, context.classes)
    columns = [table[name].tolist() for name in COLUMNS]
    features = [
        {
            "type": "Feature",
            "properties": dict(zip(COLUMNS, values, strict=True)),
            "geometry": {"type": "Point", "coordinates": [point.x, point.y]},
        }
        for point, *values in zip(table.geometry, *columns, strict=True)
    ]
    name = {"name": f"urn:ogc:def:crs:{code[0]}::{code[1]}"} if code else None
    document = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": name} if name else None,
        "features": features,
    }
    publish_text(path, json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    return {"points": len(features)}


@dataclass(frozen=True, eq=False)
class _Placed:
    """Points of an orthophoto with their coordinates in a CRS; None is pixels, y minus the row."""

    points: OrthophotoPoints
    crs: pyproj.CRS | None
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def _place(points: Sequence[OrthophotoPoints], context: Context) -> list[_Placed]:
    """Return the points of each orthophoto with their coordinates.

    Raises:
        ValueError: an orthophoto has no CRS, and this or another one a CRS or a transform.
    """
    placed = []
    for each in points:
        grid = each.grid
        if grid.crs is not None and grid.is_georeferenced:
            crs = pyproj.CRS.from_wkt(grid.crs.to_wkt())
            placed.append(_Placed(each, crs, *each.in_crs()))
        elif context.images.are_placed:
            raise ValueError(
                f"orthophoto {each.orthophoto!r} has no CRS ({grid.path}), so its clicks have no "
                f"coordinates: assign a CRS to the source image (`gdalwarp` if it has ground "
                f"control points or RPCs) and run `dvc repro`, or choose a --format in pixels, "
                f"such as csv"
            )
        else:
            pixels = each.in_pixels(context.images.by_orthophoto[each.orthophoto])
            placed.append(_Placed(each, None, pixels.columns, -pixels.rows))
    return placed


def _table(
    crs: pyproj.CRS | None, placed: Sequence[_Placed], classes: ClassTable
) -> geopandas.GeoDataFrame:
    class_ids = np.concatenate([each.points.class_ids for each in placed])
    tiles = np.concatenate([each.points.tiles for each in placed])
    columns = (
        np.array(classes.names, object)[class_ids],
        class_ids.astype(np.int16),
        [tile.split for tile in tiles],
        [tile.orthophoto for tile in tiles],
        [tile.id for tile in tiles],
    )
    x, y = (np.concatenate([getattr(each, axis) for each in placed]) for axis in "xy")
    return geopandas.GeoDataFrame(
        dict(zip(COLUMNS, columns, strict=True)), geometry=shapely.points(x, y), crs=crs
    )


def _write_in_pixels(
    name: str, path: Path, points: Sequence[OrthophotoPoints], context: Context
) -> Layers:
    """Write a format of FORMATS."""
    parts = [each.in_pixels(context.images.by_orthophoto[each.orthophoto]) for each in points]
    FORMATS[name].write(path, parts, context.classes)
    return {"points": sum(len(part.class_ids) for part in parts)}


POINT_FORMATS: Final[Mapping[str, PointFormat]] = {
    "geopackage": PointFormat(".gpkg", write_geopackage_points, (".qml",)),
    "geojson": PointFormat(".geojson", write_geojson_points),
} | {
    name: PointFormat(one.ending, partial(_write_in_pixels, name)) for name, one in FORMATS.items()
}
