"""Write point labels as points for a GIS, in class colours."""

import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.raster_io import RasterInfo, RasterReader
from pointcover.runtime.atomic_files import publish_file, publish_text
from pointcover.tileset.tiles import Tile, raster_path
from pointcover.vectors.paths import vector_path
from pointcover.vectors.qgis_styles import style_points

WRITTEN_AT: Final = "1970-01-01T00:00:00.000Z"
"""Date in every GeoPackage, so that equal point labels give equal bytes."""


def write_points(
    path: Path, tiles: Iterable[Tile], clicks: Path, classes: ClassTable, *, limit: int
) -> dict[str, int]:
    """Write point labels as points at the centres of their pixels, styled for QGIS.

    This writes a GeoPackage with one layer for each CRS (since reprojection would change the
    coordinates), and a .qml with the same style. `read_annotations` and `Placement.burn` turn it
    into the same masks. Equal labels give equal bytes with the same versions of GDAL and SQLite.

    Args:
        path: of the .gpkg; replaced if it exists.
        tiles: with the labels to write; the tiles of an orthophoto are adjacent.
        clicks: the folder with rasters of point labels of all splits, data/sparse/clicks.
        classes: of the labels.
        limit: maximum number of points.

    Returns:
        the number of points by layer.

    Raises:
        ValueError: an orthophoto has no CRS, there are more than `limit` points or none, or the
            class of a label is not in the table.
        FileNotFoundError: a raster of point labels is missing.
        OSError: the disk is full, or the file does not read back as written.
    """
    if path.suffix != ".gpkg":
        raise ValueError(f"{path} does not end in .gpkg: points are written as a GeoPackage")
    found: dict[pyproj.CRS, list[_Clicks]] = {}
    total = 0
    for (split, orthophoto), group in groupby(
        tiles, key=lambda tile: (tile.split, tile.orthophoto)
    ):
        reader = RasterReader(raster_path(clicks, split, orthophoto))
        grid = reader.info()
        if grid.crs is None or not grid.is_georeferenced:
            raise ValueError(
                f"orthophoto {orthophoto!r} has no CRS ({grid.path}), so its clicks have no "
                f"coordinates: assign a CRS to the source image (`gdalwarp` if it has ground "
                f"control points or RPCs) and run `dvc repro`"
            )
        same = found.setdefault(pyproj.CRS.from_wkt(grid.crs.to_wkt()), [])
        for tile in group:
            part = _read_clicks(reader, grid, tile, classes)
            total += len(part.class_ids)
            if total > limit:
                raise ValueError(
                    f"there are more than {limit} clicks, with which a GIS is slow; the rasters in "
                    f"{clicks} hold the same. Raise --limit to write all"
                )
            same.append(part)
        reader.close()
    if not total:
        raise ValueError(f"{clicks} has no clicks: check `points`, and run `dvc repro`")
    layers = {crs: parts for crs, parts in found.items() if any(len(p.class_ids) for p in parts)}
    tables = [_table(crs, parts, classes) for crs, parts in layers.items()]
    return publish_points(path, "points", tables, style_points(classes, "class"))


@dataclass(frozen=True, eq=False)
class _Clicks:
    """The point labels of one tile: (n,) coordinates and class ids."""

    tile: Tile
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.uint8]


def _read_clicks(
    reader: RasterReader, grid: RasterInfo, tile: Tile, classes: ClassTable
) -> _Clicks:
    window = tile.extent
    mask = reader.read(window, fill=IGNORE_INDEX)[0]
    rows, cols = np.nonzero(mask != IGNORE_INDEX)
    class_ids = mask[rows, cols]
    if class_ids.size and class_ids.max() >= len(classes):
        raise ValueError(
            f"{grid.path} has clicks of class {class_ids.max()}, but there are {len(classes)} "
            f"classes: tiles and clicks are from different runs. Run `dvc repro`"
        )
    x, y = grid.transform @ (tile.col_off + cols + 0.5, tile.row_off + rows + 0.5)
    return _Clicks(tile, x, y, class_ids)


def _table(
    crs: pyproj.CRS, parts: Sequence[_Clicks], classes: ClassTable
) -> geopandas.GeoDataFrame:
    class_ids = np.concatenate([part.class_ids for part in parts])
    sizes = [len(part.class_ids) for part in parts]
    tiles = np.repeat(np.array([part.tile for part in parts], object), sizes)
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([part.y for part in parts])
    return geopandas.GeoDataFrame(
        {
            "class": np.array(classes.names, object)[class_ids],
            "class_id": class_ids.astype(np.int16),
            "split": [tile.split for tile in tiles],
            "orthophoto": [tile.orthophoto for tile in tiles],
            "tile": [tile.id for tile in tiles],
        },
        geometry=shapely.points(x, y),
        crs=crs,
    )


def publish_points(
    path: Path,
    layer: str,
    tables: Sequence[geopandas.GeoDataFrame],
    style: str,
    complete: Callable[[Path], object] = lambda aside: None,
) -> dict[str, int]:
    """Publish tables of points as a GeoPackage, and their style as a .qml beside it.

    Args:
        path: of the .gpkg; replaced if it exists.
        layer: name of the layer; of several tables the layers are numbered.
        tables: one of each CRS.
        style: QML of all layers.
        complete: adds to the file before it is published.

    Returns:
        the number of points by layer.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    names = [layer] if len(tables) == 1 else [f"{layer}_{n}" for n in range(1, len(tables) + 1)]
    layers = dict(zip(names, tables, strict=True))
    with publish_file(path) as aside:
        write_geopackage(aside, path, layers, style, "Point")
        complete(aside)
    publish_text(path.with_suffix(".qml"), style)
    return {name: len(table) for name, table in layers.items()}


@dataclass(frozen=True, eq=False)
class VectorLayer:
    """A layer of a GeoPackage."""

    table: geopandas.GeoDataFrame
    geometry_type: str
    """GDAL's name of the geometry type."""
    style: str
    """QML."""


def publish_layers(path: Path, layers: Mapping[str, VectorLayer]) -> None:
    """Publish layers as a GeoPackage, and the first one's style as a .qml beside it.

    Args:
        path: of the .gpkg; replaced if it exists.
        layers: by name, at least one.

    Raises:
        OSError: the disk is full, or the file does not read back as written.
    """
    tables = {name: [layer.table] for name, layer in layers.items()}
    styles = {name: layer.style for name, layer in layers.items()}
    types = {name: layer.geometry_type for name, layer in layers.items()}
    with publish_file(path) as aside:
        write_geopackage_in_parts(aside, path, tables, styles, types)
    publish_text(path.with_suffix(".qml"), next(iter(styles.values())))


def write_geopackage(
    aside: Path,
    path: Path,
    tables: Mapping[str, geopandas.GeoDataFrame],
    style: str,
    geometry_type: str,
) -> None:
    """Write layers and their style, and check that they are complete.

    Args:
        aside: the path to write to.
        path: its final path, for messages.
        tables: features by layer.
        style: QML of all layers.
        geometry_type: GDAL's name of the geometry type of all layers.

    Raises:
        OSError: the disk is full, or features are missing in the file.
    """
    parts = {name: [table] for name, table in tables.items()}
    write_geopackage_in_parts(aside, path, parts, style, geometry_type)


def write_geopackage_in_parts(
    aside: Path,
    path: Path,
    layers: Mapping[str, Iterable[geopandas.GeoDataFrame]],
    style: str | Mapping[str, str],
    geometry_type: str | Mapping[str, str],
) -> dict[str, int]:
    """Write layers in parts, so that memory holds only one part; see `write_geopackage`.

    Args:
        aside: the path to write to.
        path: its final path, for messages.
        layers: iterators over parts by layer, each with at least one part.
        style: QML of all layers, or by layer.
        geometry_type: GDAL's name of the geometry type of all layers, or by layer.

    Returns:
        the number of features by layer.

    Raises:
        OSError: the disk is full, or features are missing in the file.
    """
    journal = aside.with_name(aside.name + "-journal")
    target = vector_path(aside)
    aside.unlink(missing_ok=True)
    counts = dict.fromkeys(layers, 0)
    styles = dict.fromkeys(layers, style) if isinstance(style, str) else style
    types = (
        dict.fromkeys(layers, geometry_type) if isinstance(geometry_type, str) else geometry_type
    )
    try:
        with warnings.catch_warnings():
            # The warning that the name should end in .gpkg; the final name does.
            warnings.filterwarnings("ignore", message=".*extension", category=RuntimeWarning)
            for name, parts in layers.items():
                for number, table in enumerate(parts):
                    pyogrio.write_dataframe(
                        table,
                        target,
                        layer=name,
                        driver="GPKG",
                        geometry_type=types[name],
                        append=number > 0,
                    )
                    counts[name] += len(table)
        with closing(sqlite3.connect(aside)) as database, database:
            _add_styles(database, styles)
        with closing(sqlite3.connect(aside)) as database:
            _check_written(database, counts)
    except (DataSourceError, DataLayerError, sqlite3.Error) as error:
        reason = " ".join(str(error).split())
        raise OSError(
            f"{path} could not be written ({reason}): is the disk full? Free some space and try "
            f"again"
        ) from None
    finally:
        journal.unlink(missing_ok=True)
    return counts


def _add_styles(database: sqlite3.Connection, styles: Mapping[str, str]) -> None:
    """Add the table `layer_styles`, in which QGIS stores the styles of layers.

    It has the columns that QGIS and GDAL write, and is an attribute table of the GeoPackage.
    """
    database.execute(
        'CREATE TABLE "layer_styles" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, '
        '"f_table_catalog" TEXT(256), "f_table_schema" TEXT(256), "f_table_name" TEXT(256), '
        '"f_geometry_column" TEXT(256), "styleName" TEXT(30), "styleQML" TEXT, "styleSLD" TEXT, '
        '"useAsDefault" BOOLEAN, "description" TEXT, "owner" TEXT(30), "ui" TEXT(30), '
        "\"update_time\" DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"
    )
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', 0)"
    )
    database.execute("INSERT INTO gpkg_ogr_contents VALUES ('layer_styles', ?)", [len(styles)])
    for layer, style in styles.items():
        (geometry,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", [layer]
        ).fetchone()
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, "
            "update_time) VALUES ('', '', ?, ?, 'classes', ?, '', 1, 'class colours', '', ?)",
            [layer, geometry, style, WRITTEN_AT],
        )
    database.execute("UPDATE gpkg_contents SET last_change = ?", [WRITTEN_AT])


def _check_written(database: sqlite3.Connection, counts: Mapping[str, int]) -> None:
    """Check that all features are in their table and in the spatial index.

    (With GDAL 3.12 and a full disk the index was missing without an error, since it is written when
    the file is closed.)

    Raises:
        sqlite3.DatabaseError: the file is damaged, or features are missing.
    """
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)
    for name, wanted in counts.items():
        (geometry,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", [name]
        ).fetchone()
        for kept in (name, f"rtree_{name}_{geometry}_rowid"):
            (count,) = database.execute(f'SELECT count(*) FROM "{kept}"').fetchone()
            if count != wanted:
                raise sqlite3.DatabaseError(f"{count} of {wanted} features read back in {kept}")
