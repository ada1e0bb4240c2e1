"""Read labelled points, lines and polygons from a GeoPackage, GeoJSON or Shapefile.

Nothing is repaired or skipped silently: whatever cannot be read raises an error.
"""

import sqlite3
import time
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, GeometryError

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.text import compose, shorten
from pointcover.tileset.source_images import SourceImages
from pointcover.vectors.class_values import known_values, normalise, suggest
from pointcover.vectors.documents import load_json
from pointcover.vectors.features import (
    ORTHOPHOTO,
    SHOWN,
    Annotations,
    Flags,
    Numbers,
    are_finite,
    explain_invalid,
    name_crs,
)
from pointcover.vectors.formats.table import IMAGE
from pointcover.vectors.paths import vector_path
from pointcover.vectors.place_in_pixels import place_in_pixels
from pointcover.vectors.settings import VectorSettings

DRIVERS: Final = ("GPKG", "GeoJSON", "ESRI Shapefile")
"""Supported formats. VRT is not supported, since it may read other files, or the network."""

VIEW_S: Final = 10
"""Most seconds that the views of a GeoPackage may take."""

BLANK: Final = b"\xef\xbb\xbf \t\r\n"
"""Bytes before the first sign of JSON; the first three say that it is UTF-8."""

TABLE: Final = Path("points")
"""Stands for the path of a table that is no file."""

SQLITE: Final = b"SQLite format 3\0"
SHAPEFILE: Final = b"\0\0\x27\x0a"


@dataclass(frozen=True)
class _Layer:
    """A layer of a file, and the meaning of its values."""

    path: Path
    name: str
    column: str
    known: Mapping[str, int]
    """Class ids by value."""
    ignored: Collection[str]
    """Values of features that are skipped."""
    images: SourceImages | None = None
    """Where the coordinates are pixels of images, these."""

    def __str__(self) -> str:
        """Return file and layer, for messages."""
        return f"{self.path}, layer {self.name!r}"


def read_annotations(
    path: Path,
    classes: ClassTable,
    settings: VectorSettings,
    orthophotos: Collection[str] | None = None,
    images: SourceImages | None = None,
) -> Annotations:
    """Read labelled points, lines and polygons from a GeoPackage, GeoJSON or Shapefile.

    Coordinates are pixels where the file states no CRS and no image has a CRS or transform: x is
    the column, and y the row, either growing downwards from 0, or negative, as QGIS shows images.

    Args:
        path: of the file.
        classes: that features may have. Without `settings.codes`, a value is the name of a class,
            in upper or lower case, or its id as a number or text. With codes, only their values are
            allowed, so that a number is not mistaken for an id.
        settings: the layers, the column, and the meaning of values.
        orthophotos: allowed names in the column ORTHOPHOTO; None allows any.
        images: of the dataset; without them, coordinates are those of a CRS.

    Returns:
        the annotations, in the order and with the ids (FID) of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format, is damaged or empty; a layer, the column or the
            CRS is missing; a value is not a class or orthophoto; or a polygon is invalid.
    """
    _check_start(path)
    column, known = settings.column, known_values(classes, settings.codes)
    ignored = {normalise(value) for value in settings.ignore}
    layers = [
        _Layer(path, name, column, known, ignored, _if_in_pixels(path, name, images))
        for name in _choose_layers(path, settings.layer)
    ]
    if len({layer.images is None for layer in layers}) > 1:
        raise ValueError(
            f"{path} has layers with a CRS and layers without one, whose coordinates are pixels: "
            f"name those of one kind, annotate.vectors.layer"
        )
    tables = [(layer, table) for layer in layers if len(table := _read_table(layer))]
    if not tables:
        raise ValueError(
            f"{path}, layer {shorten(layer.name for layer in layers)}, has no features: draw "
            f"some, or name another layer"
        )
    read = [_read_layer(layer, table, orthophotos) for layer, table in tables]
    found = _join(read, [layer.name for layer, _ in tables]) if len(read) > 1 else read[0]
    if not len(found.fids):
        raise ValueError(
            f"{path}, column {column!r}, has no annotations: of {found.read} features "
            f"{found.ignored} have a value to ignore, and {len(found.without_geometry)} no "
            f"geometry: correct the values, or `ignore`"
        )
    return found


def check_column(table: geopandas.GeoDataFrame, settings: VectorSettings) -> None:
    """Check that a table has a column of classes.

    Raises:
        ValueError: it has none.
    """
    if settings.column not in table:
        raise ValueError(
            f"{TABLE} have no column {settings.column!r} of classes, the table has "
            f"{shorten(map(str, table.columns))}: rename one with .rename(columns=…)"
        )


def annotations_of(
    table: geopandas.GeoDataFrame,
    classes: ClassTable,
    settings: VectorSettings,
    images: SourceImages | None = None,
) -> Annotations:
    """Take labelled points, lines and polygons from a table, as `read_annotations` reads a file.

    Args:
        table: with a column of classes; features are numbered from 0.
        classes: that features may have.
        settings: the column, and the meaning of values.
        images: of the dataset; without them, coordinates are those of a CRS.

    Raises:
        ValueError: the table is empty, or lacks the column or the CRS; a value is not a class; or a
            polygon is invalid.
    """
    in_pixels = images if images is not None and not images.are_placed else None
    layer = _Layer(
        TABLE,
        "GeoDataFrame",
        settings.column,
        known_values(classes, settings.codes),
        {normalise(value) for value in settings.ignore},
        in_pixels if table.crs is None else None,
    )
    check_column(table, settings)
    if layer.images is None and table.crs is None:
        raise ValueError(
            f"{layer}, has no CRS, so it cannot be placed: set it with .set_crs(…). (Coordinates "
            f"are pixels only where no image has a CRS or a transform)"
        )
    if not len(table):
        raise ValueError(f"{layer}, has no features: label some")
    return _read_layer(layer, table.reset_index(drop=True), None)


def _read_table(layer: _Layer) -> geopandas.GeoDataFrame:
    """Return the features of a layer with the needed columns, by feature id."""
    try:
        info = pyogrio.read_info(vector_path(layer.path), layer=layer.name)
        column = _check_info(layer, info)
        others = {str(name) for name in info["fields"]} - {column}
        columns = [column, *({ORTHOPHOTO, *([IMAGE] if layer.images else [])} & others)]
        # A coordinate that is NaN makes shapely warn; such features are listed by the report.
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # In GeoJSON with names and numbers as classes, names are not JSON, and stay text.
            warnings.filterwarnings("ignore", message="Could not parse column .* as JSON")
            table = pyogrio.read_dataframe(
                vector_path(layer.path),
                layer=layer.name,
                columns=columns,
                fid_as_index=True,
                force_2d=True,
            )
            return table.rename(columns={column: layer.column})
    except (DataSourceError, DataLayerError, GeometryError, shapely.errors.GEOSException) as error:
        raise _unreadable(layer.path, error) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{layer}, has texts that are not {error.encoding} ({error.reason}){_ENCODING_ADVICE}"
        ) from None


_ENCODING_ADVICE: Final = (
    ": export it again as UTF-8 (a GeoPackage always is), or write the encoding of a Shapefile's "
    ".dbf, such as UTF-8 or ISO-8859-1, into a file of its name that ends in .cpg"
)


def _read_layer(
    layer: _Layer, table: geopandas.GeoDataFrame, orthophotos: Collection[str] | None
) -> Annotations:
    """Return the annotations of a layer, without features that are ignored or have no geometry."""
    where = str(layer)
    fids = table.index.to_numpy(np.int64)
    class_ids, ignored = _read_classes(layer, table[layer.column].to_numpy(object), fids)
    shapes = table.geometry.to_numpy()
    usable = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes)) & are_finite(shapes)
    kept = usable & ~ignored
    _check_valid(where, shapes[kept], fids[kept])
    parts, owners = _explode(shapes[kept])
    crs: tuple[pyproj.CRS, ...] = ()
    if layer.images is None:
        crs = (pyproj.CRS.from_user_input(table.crs),)
        _check_degrees(where, crs[0], parts)
        names = _read_orthophotos(table, orthophotos, where)[kept]
    else:
        names, parts = place_in_pixels(where, table[kept], (parts, owners), layer.images)
    return Annotations(
        path=layer.path,
        crs=crs,
        fids=fids[kept].astype(object),
        class_ids=class_ids[kept],
        orthophotos=names,
        parts=parts,
        owners=owners,
        layers=np.zeros(len(parts), np.intp),
        read=len(table),
        ignored=int(ignored.sum()),
        without_geometry=tuple(fids[~usable & ~ignored].tolist()),
        images=layer.images.by_orthophoto if layer.images else None,
    )


def _join(layers: Sequence[Annotations], names: Sequence[str]) -> Annotations:
    """Concatenate the annotations of several layers, with ids `<layer>:<id>`."""
    counts = [len(layer.fids) for layer in layers]
    begins = np.cumsum(counts) - counts
    sizes = [len(layer.parts) for layer in layers]

    def name_all(fids: Iterable[object], layer: str) -> list[str]:
        return [f"{layer}:{fid}" for fid in fids]

    named = list(zip(layers, names, strict=True))
    return Annotations(
        path=layers[0].path,
        crs=tuple(crs for layer in layers for crs in layer.crs),
        fids=np.array([fid for layer, name in named for fid in name_all(layer.fids, name)], object),
        class_ids=np.concatenate([layer.class_ids for layer in layers]),
        orthophotos=np.concatenate([layer.orthophotos for layer in layers]),
        parts=np.concatenate([layer.parts for layer in layers]),
        owners=np.concatenate([layer.owners for layer in layers]) + np.repeat(begins, sizes),
        layers=np.repeat(np.arange(len(layers)), sizes),
        read=sum(layer.read for layer in layers),
        ignored=sum(layer.ignored for layer in layers),
        without_geometry=tuple(
            fid for layer, name in named for fid in name_all(layer.without_geometry, name)
        ),
        images=layers[0].images,
    )


def _read_orthophotos(
    table: geopandas.GeoDataFrame, known: Collection[str] | None, where: str
) -> npt.NDArray[np.object_]:
    """Return the (N,) names of the features' orthophotos, "" for any."""
    names = np.full(len(table), "", object)
    if ORTHOPHOTO not in table:
        return names
    names[:] = [
        "" if value is None or value != value else str(value).strip()  # NaN differs from itself
        for value in table[ORTHOPHOTO].to_numpy(object)
    ]
    spelt = {compose(name): name for name in known or ()}
    names[:] = [spelt.get(compose(name), name) for name in names]
    unknown = set() if known is None else set(names) - {"", *known}
    if unknown:
        some = shorten(table.index[np.isin(names, list(unknown))], SHOWN)
        raise ValueError(
            f"{where}, column {ORTHOPHOTO!r}, has names that are not orthophotos of the dataset: "
            f"{shorten(sorted(unknown))} (features {some}); known: {shorten(sorted(known or ()))}. "
            f"Correct the values, leave them empty for any orthophoto, or rename the column"
        )
    return names


def has_companions(path: Path) -> bool:
    """Return whether a file is of a format of which other files may hold a part of the features."""
    with path.open("rb") as file:
        return file.read(len(SQLITE)).startswith((SQLITE, SHAPEFILE))


def _check_start(path: Path) -> None:
    """Check by its first bytes that a file has a supported format, and that it is complete.

    (GDAL 3.12 reads half the features of a truncated Shapefile without an error.)
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, wanted a file of annotations: correct the path"
        )
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start:
        raise ValueError(f"{path} is empty (0 bytes), wanted annotations: copy it again")
    if start.startswith(SQLITE):
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as file:
            try:
                found = file.execute("PRAGMA quick_check(1)").fetchone()[0]
                _check_views(path, file)
            except sqlite3.DatabaseError as error:
                found = str(error)
        if found != "ok":
            raise ValueError(f"{path} is damaged or truncated ({found}): copy it again")
    elif start.startswith(SHAPEFILE):
        wanted = 2 * int.from_bytes(start[24:28], "big")
        if path.stat().st_size != wanted:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, but {wanted} by its header: it is "
                f"truncated. Copy it again"
            )
    # "GDALG" files are JSON, too, with commands that GDAL would run.
    elif not (begin := start.lstrip(BLANK)).startswith((b"{", b"[{")) or b"gdal_streamed" in start:
        raise ValueError(
            f"{path} is not a file of annotations (it begins with {start[:8]!r}): wanted a "
            f"GeoPackage, a GeoJSON or the .shp of an unpacked Shapefile"
        )
    elif begin.startswith(b"[") or (b'"Feature' not in start and b'"coordinates"' not in start):
        raise ValueError(
            f"{path} is JSON, but no GeoJSON: wanted a GeoPackage, a GeoJSON or a Shapefile. "
            f"Exports of COCO, Label Studio and LabelMe are read as `annotations` alone"
        )


def _check_views(path: Path, database: sqlite3.Connection) -> None:
    """Check that the views among a GeoPackage's layers end, which are queries of any length.

    Raises:
        ValueError: one does not end within VIEW_S.
    """
    views = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'view' AND name IN "
        "(SELECT table_name FROM gpkg_contents)"
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_contents'").fetchone()
        else "SELECT name FROM sqlite_master WHERE type = 'view'"
    ).fetchall()
    deadline_s = time.monotonic() + VIEW_S
    database.set_progress_handler(lambda: time.monotonic() > deadline_s, 100_000)
    try:
        for (name,) in views:
            quoted = str(name).replace('"', '""')
            database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise ValueError(
                f"{path}: the view {name!r} has not ended after {VIEW_S} s: export it as a layer "
                f"of its own (QGIS: Export > Save Features As), and remove the view"
            ) from None
        # Views that need functions of SpatiaLite are left to GDAL.
    finally:
        database.set_progress_handler(None, 0)


def _choose_layers(path: Path, layer: Sequence[str] | None) -> list[str]:
    try:
        listed = pyogrio.list_layers(vector_path(path))
    except (DataSourceError, DataLayerError) as error:
        raise _unreadable(path, error) from None
    layers = [str(name) for name, kind in listed if kind is not None]
    if not layers:
        raise ValueError(f"{path} has no layer with geometries: export the annotations again")
    wanted = layers if layer is None else list(layer)
    named = {compose(name): name for name in layers}
    for name in wanted:
        if compose(name) not in named:
            raise ValueError(
                f"{path} has no layer {name!r} of geometries, it has {shorten(layers)}"
                f"{suggest(name, layers)}"
            )
    return [named[compose(name)] for name in wanted]


def _check_info(layer: _Layer, info: Mapping[str, Any]) -> str:
    """Check a layer's format, column and CRS, and return the column as the file names it."""
    if info["driver"] not in DRIVERS:
        raise ValueError(
            f"{layer.path} is {info['driver']}, wanted {', '.join(DRIVERS)}: export it as a "
            f"GeoPackage"
        )
    columns = [str(name) for name in info["fields"]]
    named = {compose(name): name for name in columns}
    if compose(layer.column) not in named:
        there = shorten(columns) if columns else "none (is the .dbf beside the .shp?)"
        raise ValueError(
            f"{layer}, has no column {layer.column!r}, it has {there}"
            f"{suggest(layer.column, columns)}{_advise_on_layers(layer)}"
        )
    if layer.images is None and _is_undefined(info["crs"]):
        raise ValueError(
            f"{layer}, has no CRS, so it cannot be placed: set it in QGIS (Layer > Set "
            f"Layer CRS, then export), or put the .prj beside the .shp. (Coordinates are pixels "
            f"only where no image has a CRS or a world file)"
        )
    return named[compose(layer.column)]


def _is_undefined(crs: str | None) -> bool:
    """Return whether a CRS is missing; in a GeoPackage GDAL makes a CRS of such a name of it."""
    return crs is None or pyproj.CRS(crs).name.startswith("Undefined")


def _if_in_pixels(path: Path, layer: str, images: SourceImages | None) -> SourceImages | None:
    """Return the images of whose pixels a layer's coordinates are; None where it has a CRS."""
    if images is None or images.are_placed:
        return None
    return images if _lacks_crs(path, layer) else None


def _lacks_crs(path: Path, layer: str) -> bool:
    """Return whether a layer states no CRS, in a GeoJSON by the member `crs`."""
    try:
        info = pyogrio.read_info(vector_path(path), layer=layer)
    except (DataSourceError, DataLayerError) as error:
        raise _unreadable(path, error) from None
    if info["driver"] == "GeoJSON":
        document = load_json(path)
        return isinstance(document, dict) and document.get("crs") is None
    return _is_undefined(info["crs"])


def _advise_on_layers(layer: _Layer) -> str:
    """Return how to name the layers to read, for a file that has several."""
    others = [name for name in _choose_layers(layer.path, None) if name != layer.name]
    if not others:
        return ""
    return (
        f". If this layer holds no annotations, name those that do, of {shorten(others)}: "
        f"annotate.vectors.layer"
    )


def _read_classes(
    layer: _Layer, values: npt.NDArray[np.object_], fids: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], Flags]:
    """Return the class of each value, (N,) ids, and (N,) bool: whether it is ignored."""
    class_ids = np.full(len(values), IGNORE_INDEX, np.uint8)
    ignored = np.zeros(len(values), bool)
    unknown: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        text = normalise(value)
        if text in layer.ignored:
            ignored[place] = True
        elif text in layer.known:
            class_ids[place] = layer.known[text]
        else:
            unknown.setdefault(text, []).append(int(fids[place]))
    if unknown:
        found = [
            f"{text!r} ({'feature' if len(ids) == 1 else 'features'} {shorten(ids)})"
            for text, ids in unknown.items()
        ]
        suggestion = suggest(next(iter(unknown)), layer.known) or "."
        if any(_decode_again(text) in layer.known for text in unknown):
            suggestion = f"; the texts were read in another encoding than theirs{_ENCODING_ADVICE}."
        raise ValueError(
            f"{layer}, column {layer.column!r}, has values that are not classes: "
            f"{shorten(found, separator='; ')}; known: {shorten(layer.known)}{suggestion} Correct "
            f"the values, map them to classes with `codes`, or add them to `ignore` to skip these "
            f"features"
        )
    return class_ids, ignored


def _decode_again(text: str) -> str:
    """Return what a text is where its UTF-8 was read as ISO-8859-1, as without a .cpg file."""
    for upper in (text, text.upper()):  # values are compared in small letters: bytes differ
        try:
            return normalise(upper.encode("iso-8859-1").decode("utf-8"))
        except UnicodeError:
            continue
    return text


def _check_valid(where: str, shapes: npt.NDArray[np.object_], fids: npt.NDArray[np.int64]) -> None:
    bad = np.flatnonzero(~shapely.is_valid(shapes))
    if bad.size:
        reasons = [f"{fids[i]} ({explain_invalid(shapes[i])})" for i in bad[:SHOWN]]
        more = f" and {bad.size - SHOWN} more" if bad.size > SHOWN else ""
        raise ValueError(
            f"{where}, has invalid geometries, whose area is ambiguous: features "
            f"{', '.join(reasons)}{more}. Repair them (QGIS: Processing > Fix geometries), check "
            f"the result, and use that file"
        )


def _explode(
    shapes: npt.NDArray[np.object_],
) -> tuple[npt.NDArray[np.object_], Numbers]:
    """Explode multi-geometries: (N,) → (P,) simple geometries, and (P,) index of their owner."""
    owners = np.arange(len(shapes))
    # A collection may hold multi-geometries, or collections.
    while (shapely.get_type_id(shapes) > shapely.GeometryType.POLYGON).any():
        shapes, within = shapely.get_parts(shapes, return_index=True)
        owners = owners[within]
    some = ~shapely.is_empty(shapes)
    return shapes[some], owners[some]


def _check_degrees(where: str, crs: pyproj.CRS, parts: npt.NDArray[np.object_]) -> None:
    """Raise ValueError for metres declared as degrees, as in a GeoJSON without its CRS."""
    if not parts.size:
        return
    west, south, east, north = shapely.total_bounds(parts)
    if crs.is_geographic and (max(-west, east) > 360 or max(-south, north) > 90):
        raise ValueError(
            f"{where}, is in degrees ({name_crs(crs)}), but its x ranges from {west:.6g} to "
            f"{east:.6g} and its y from {south:.6g} to {north:.6g}: export it again with its CRS "
            f"(a GeoJSON without a CRS is in longitude, latitude), or swap x and y"
        )


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} cannot be read ({' '.join(str(error).split())}): copy or export it again"
    )
