"""Write GeoPackages with styles for QGIS."""

import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import geopandas
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from pointcover.runtime.atomic_files import publish_file, publish_text
from pointcover.vectors.paths import vector_path

WRITTEN_AT: Final = "1970-01-01T00:00:00.000Z"
"""Date in every GeoPackage, so that equal point labels give equal bytes."""


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
            # Of points in pixels.
            warnings.filterwarnings("ignore", message="'crs' was not provided")
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
