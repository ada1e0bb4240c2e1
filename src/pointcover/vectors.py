"""Vector files: real annotations read and burned onto orthophotos, clicks written for a GIS.

The one door to geopandas, pyogrio, shapely and pyproj. Nothing is repaired or left out in silence:
what cannot be read is an error, what finds no pixel is counted and named by feature id (FID).
"""

import difflib
import logging
import re
import sqlite3
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, GeometryError
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

from pointcover.labels import IGNORE_INDEX, ClassTable, Mask
from pointcover.publishing import publish_file, publish_text
from pointcover.qgis import style_points
from pointcover.raster import RasterInfo, RasterReader, Window, burn
from pointcover.tiles import Tile, raster_path

DRIVERS: Final = ("GPKG", "GeoJSON", "ESRI Shapefile")
"""Formats that are read. A VRT is none: it may read other files, or the network."""

SHOWN: Final = 10
"""How many feature ids, values or names a message or summary gives before it only counts."""

SNAP_DECIMALS: Final = 6
"""Coordinates are rounded to a millionth of a pixel: a corner that was drawn on a pixel's edge lies
on it, whatever reprojection did to its last digits."""

CLIP_VERTICES: Final = 1000
CLIP_MARGIN_PX: Final = 2

WRITTEN_AT: Final = "1970-01-01T00:00:00.000Z"
"""The date in every GeoPackage written here: the same clicks are the same bytes."""

Numbers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)


# Reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labelled points, lines and polygons of one layer, in its own CRS."""

    path: Path
    crs: pyproj.CRS
    fids: npt.NDArray[np.int64]
    """(N,) the file's feature ids."""
    class_ids: npt.NDArray[np.uint8]
    """(N,)."""
    parts: npt.NDArray[np.object_]
    """(P,) points, lines and polygons; a multi-geometry is several parts."""
    owners: Numbers
    """(P,) place of each part's feature in `fids`."""
    read: int
    """Features in the layer."""
    ignored: int
    """Features left out because their value means nothing (`ignore`)."""
    without_geometry: tuple[int, ...]
    """Ids of features left out because their geometry is missing, empty or not a number."""
    _in_crs: dict[str, tuple[npt.NDArray[np.object_], shapely.STRtree]] = field(
        default_factory=dict, repr=False
    )

    def place(
        self, grid: RasterInfo, report: "PlacementReport", *, all_touched: bool
    ) -> "Placement":
        """Lay the annotations on an orthophoto.

        Vertices are reprojected, edges between them stay straight: as in any GIS, a long edge in
        degrees needs vertices of its own. A part of which a vertex has no coordinates in the
        orthophoto's CRS counts as outside.

        Args:
            grid: the orthophoto, or a raster on its pixels.
            report: counts what lies where.
            all_touched: give a polygon every pixel that it touches; otherwise those whose centre
                lies in it.

        Raises:
            ValueError: the orthophoto has no CRS or place, or nothing leads to its CRS.
        """
        if grid.crs is None or not grid.is_georeferenced:
            raise ValueError(
                f"{grid.path} has no {'CRS' if grid.crs is None else 'transform'}, so the features "
                f"of {self.path} cannot be laid on it: give it one (`gdal_edit.py -a_srs "
                f"EPSG:<code>`, with a world file where the transform is missing), and run the "
                f"`tile` stage again"
            )
        parts, tree = self._project(grid)
        corners = [(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)]
        footprint = shapely.Polygon([grid.transform * corner for corner in corners])
        found = np.sort(tree.query(footprint, predicate="intersects"))
        report.see(parts, footprint, grid.path)
        return Placement(
            self, _to_pixels(parts[found], grid), self.owners[found], grid, report, all_touched
        )

    def _project(self, grid: RasterInfo) -> tuple[npt.NDArray[np.object_], shapely.STRtree]:
        """Give all parts in the CRS of an orthophoto and an index of them; kept for the next."""
        assert grid.crs is not None
        text = grid.crs.to_wkt()
        if text not in self._in_crs:
            crs = pyproj.CRS.from_wkt(text)
            if crs.equals(self.crs, ignore_axis_order=True):
                parts = self.parts
            else:
                try:
                    transformer = _transformer(self, crs, grid.path)
                except ProjError:
                    raise ValueError(
                        f"nothing leads from the CRS of {self.path} ({_named(self.crs)}) to that "
                        f"of {grid.path} ({_named(crs)}): give both a CRS that is on the Earth"
                    ) from None
                parts = shapely.transform(self.parts, transformer.transform, interleaved=False)
                parts[~_are_finite(parts)] = None
            self._in_crs[text] = (parts, shapely.STRtree(parts))
        return self._in_crs[text]


def read_annotations(
    path: Path,
    classes: ClassTable,
    column: str,
    layer: str | None = None,
    *,
    ignore: Collection[str | int] = (),
    codes: Mapping[str | int, str] | None = None,
) -> Annotations:
    """Read labelled points, lines and polygons from a GeoPackage, GeoJSON or Shapefile.

    Args:
        path: the file.
        classes: the classes that features may have.
        column: the column that says a feature's class: its name in any case, or its id as a number
            or text. A file from elsewhere counts otherwise: see `codes`.
        layer: which layer, where the file has several.
        ignore: values of features that are no annotations; "" is an empty value.
        codes: class name by value, where the file has its own: then these values alone are known,
            so that a number is never taken for the id that it happens to equal.

    Returns:
        The annotations, in the order and with the ids (FID) of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, damaged or empty; layer or column are not there; it has no
            CRS; a value is no class; a polygon is invalid.
    """
    _check_start(path)
    try:
        layer = _choose_layer(path, layer)
        info = pyogrio.read_info(path, layer=layer)
        _check_info(path, layer, info, column)
        table = pyogrio.read_dataframe(
            path, layer=layer, columns=[column], fid_as_index=True, force_2d=True
        )
    except (DataSourceError, DataLayerError, GeometryError, shapely.errors.GEOSException) as error:
        raise ValueError(
            f"{path} cannot be read ({_flat(error)}): copy or export it again"
        ) from None
    if not len(table):
        raise ValueError(f"{path}, layer {layer!r}, holds no feature: draw some, or name the layer")
    where = f"{path}, column {column!r}"
    fids = table.index.to_numpy(np.int64)
    class_ids, ignored = _read_classes(table[column].to_numpy(object), fids, classes, ignore, codes,
                                       where)  # fmt: skip
    shapes = table.geometry.to_numpy()
    usable = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes)) & _are_finite(shapes)
    kept = usable & ~ignored
    if not kept.any():
        raise ValueError(
            f"{where} leaves nothing to annotate with: of {len(table)} features {ignored.sum()} "
            f"have a value to ignore, {(~usable & ~ignored).sum()} no geometry"
        )
    _check_valid(path, shapes[kept], fids[kept])
    parts, owners = _explode(shapes[kept])
    crs = pyproj.CRS.from_user_input(table.crs)
    _check_degrees(path, crs, parts)
    return Annotations(
        path=path, crs=crs, fids=fids[kept], class_ids=class_ids[kept], parts=parts, owners=owners,
        read=len(table), ignored=int(ignored.sum()),
        without_geometry=tuple(fids[~usable & ~ignored].tolist()),
    )  # fmt: skip


def _check_start(path: Path) -> None:
    """Check by its first bytes that a file is of a known format, and whole where GDAL does not.

    (Seen with GDAL 3.12: half a Shapefile gives half its features without an error.)
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, wanted a file of annotations: mend the path"
        )
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start:
        raise ValueError(f"{path} is empty (0 bytes), wanted annotations: copy it again")
    if start.startswith(b"SQLite format 3\0"):
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as file:
            try:
                found = file.execute("PRAGMA quick_check(1)").fetchone()[0]
            except sqlite3.DatabaseError as error:
                found = str(error)
        if found != "ok":
            raise ValueError(f"{path} is damaged or cut short ({found}): copy it again")
    elif start.startswith(b"\0\0\x27\x0a"):
        wanted = 2 * int.from_bytes(start[24:28], "big")
        if path.stat().st_size != wanted:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes where its header says {wanted}: it is cut "
                f"short. Copy it again"
            )
    # A "GDALG" is JSON too, and runs what is written in it.
    elif not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or b"gdal_streamed_alg" in start:
        raise ValueError(
            f"{path} is no file of annotations (it begins with {start[:8]!r}): wanted a "
            f"GeoPackage, a GeoJSON or the .shp of an unpacked Shapefile"
        )


def _choose_layer(path: Path, layer: str | None) -> str:
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if not layers:
        raise ValueError(f"{path} has no layer with geometries: export the annotations again")
    if layer is None and len(layers) > 1:
        raise ValueError(f"{path} has {len(layers)} layers: say which one, {_shown(layers)}")
    if layer is not None and layer not in layers:
        raise ValueError(
            f"{path} has no layer {layer!r} of geometries, it has {_shown(layers)}"
            f"{_suggest(layer, layers)}"
        )
    return layer or layers[0]


def _check_info(path: Path, layer: str, info: Mapping[str, Any], column: str) -> None:
    if info["driver"] not in DRIVERS:
        raise ValueError(
            f"{path} is {info['driver']}, wanted {', '.join(DRIVERS)}: export it as a GeoPackage"
        )
    columns = [str(name) for name in info["fields"]]
    if column not in columns:
        there = _shown(columns) if columns else "none (is the .dbf beside the .shp?)"
        raise ValueError(
            f"{path}, layer {layer!r}, has no column {column!r}, it has {there}"
            f"{_suggest(column, columns)}"
        )
    # GeoPackage names a missing CRS so; GDAL makes a CRS of it.
    if info["crs"] is None or pyproj.CRS(info["crs"]).name.startswith("Undefined"):
        raise ValueError(
            f"{path}, layer {layer!r}, has no CRS, so it lies nowhere: set it in QGIS (Layer > Set "
            f"Layer CRS, then export), or put the .prj beside the .shp"
        )


def _read_classes(
    values: npt.NDArray[np.object_], fids: npt.NDArray[np.int64], classes: ClassTable,
    ignore: Collection[str | int], codes: Mapping[str | int, str] | None, where: str,
) -> tuple[npt.NDArray[np.uint8], Flags]:  # fmt: skip
    """Say what class each value means: (N,) ids, and (N,) whether it is one to ignore."""
    known = _known_values(classes, codes)
    left_out = {_text(value) for value in ignore}
    class_ids = np.full(len(values), IGNORE_INDEX, np.uint8)
    ignored = np.zeros(len(values), bool)
    unknown: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        text = _text(value)
        if text in left_out:
            ignored[place] = True
        elif text in known:
            class_ids[place] = known[text]
        else:
            unknown.setdefault(text, []).append(int(fids[place]))
    if unknown:
        found = [
            f"{text!r} ({'feature' if len(ids) == 1 else 'features'} {_shown(ids)})"
            for text, ids in unknown.items()
        ]
        suggestion = _suggest(next(iter(unknown)), known)
        raise ValueError(
            f"{where} holds what is no class: {_shown(found, '; ')}; known: {_shown(list(known))}"
            f"{suggestion}. Mend the values, say with `codes` what they mean, or name those that "
            f"are no annotation in `ignore`"
        )
    return class_ids, ignored


def _known_values(classes: ClassTable, codes: Mapping[str | int, str] | None) -> dict[str, int]:
    """Give the class id of every text that `_text` may make of a value."""
    pairs = [(name, class_id) for class_id, name in enumerate(classes.names)]
    if codes is None:
        pairs += [(str(class_id), class_id) for class_id in range(len(classes))]
    else:
        ids = {_text(name): class_id for name, class_id in pairs}
        strange = sorted({name for name in codes.values() if _text(name) not in ids})
        if strange:
            raise ValueError(
                f"`codes` names {_shown(strange)}, which is no class: known are "
                f"{_shown(classes.names)}"
            )
        pairs = [(str(value), ids[_text(name)]) for value, name in codes.items()]
    known: dict[str, int] = {}
    for value, class_id in pairs:
        if known.setdefault(_text(value), class_id) != class_id:
            raise ValueError(
                f"value {value!r} may mean class {known[_text(value)]} or {class_id}, since case "
                f"makes no difference and numbers are ids: say with `codes` what each value means"
            )
    return known


def _text(value: object) -> str:
    """Give one text for all that means the same: 3, 3.0, "3" and " 03"; "Water" and "water"."""
    if value is None or value != value:  # NaN is all that differs from itself
        return ""
    text = str(value).strip().casefold()
    return str(int(text.split(".")[0])) if re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text) else text


def _check_valid(path: Path, shapes: npt.NDArray[np.object_], fids: npt.NDArray[np.int64]) -> None:
    bad = np.flatnonzero(~shapely.is_valid(shapes))
    if bad.size:
        reasons = [f"{fids[i]} ({shapely.is_valid_reason(shapes[i])})" for i in bad[:SHOWN]]
        more = f" and {bad.size - SHOWN} more" if bad.size > SHOWN else ""
        raise ValueError(
            f"{path} has invalid geometries, of which it is unclear what they cover: features "
            f"{', '.join(reasons)}{more}. Mend them (QGIS: Processing > Fix geometries), look at "
            f"the result, and use that file"
        )


def _explode(
    shapes: npt.NDArray[np.object_],
) -> tuple[npt.NDArray[np.object_], Numbers]:
    """Take multi-geometries apart: (N,) → (P,) simple ones and (P,) which each is a part of."""
    owners = np.arange(len(shapes))
    # A collection may hold multi-geometries, or collections.
    while (shapely.get_type_id(shapes) > shapely.GeometryType.POLYGON).any():
        shapes, within = shapely.get_parts(shapes, return_index=True)
        owners = owners[within]
    some = ~shapely.is_empty(shapes)
    return shapes[some], owners[some]


def _check_degrees(path: Path, crs: pyproj.CRS, parts: npt.NDArray[np.object_]) -> None:
    """Refuse metres that are said to be degrees: a GeoJSON that names no CRS is lon/lat."""
    west, south, east, north = shapely.total_bounds(parts)
    if crs.is_geographic and (max(-west, east) > 360 or max(-south, north) > 90):
        raise ValueError(
            f"{path} is said to be in degrees ({_named(crs)}), but its x goes from {west:.6g} to "
            f"{east:.6g} and its y from {south:.6g} to {north:.6g}: export it again with its CRS "
            f"(a GeoJSON without one is longitude, latitude), or with x and y the other way round"
        )


def _are_finite(shapes: npt.NDArray[np.object_]) -> Flags:
    """Say of which geometries all coordinates are numbers."""
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[owners[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def _transformer(annotations: Annotations, crs: pyproj.CRS, path: Path) -> pyproj.Transformer:
    """Choose how to reproject (x is always east); warn where the best way lacks a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says the same, at length
        group = TransformerGroup(annotations.crs, crs, always_xy=True)
    if not group.best_available:
        logger.warning(
            "%s (%s) is not laid on %s (%s) in the best way, for which PROJ lacks a grid: it may "
            "lie metres off. Install it (`pyproj sync`), or export the file in that CRS",
            annotations.path, _named(annotations.crs), path, _named(crs),
        )  # fmt: skip
    return pyproj.Transformer.from_crs(annotations.crs, crs, always_xy=True)


# Placing -----------------------------------------------------------------------------------------


class Placement:
    """Annotations on one orthophoto, in its pixels, to be burned window by window."""

    def __init__(
        self, annotations: Annotations, parts: npt.NDArray[np.object_], owners: Numbers,
        grid: RasterInfo, report: "PlacementReport", all_touched: bool,
    ) -> None:  # fmt: skip
        """Take (P,) parts in pixels (see raster.burn) and their features; index them."""
        self._class_ids = annotations.class_ids
        self._all_touched = all_touched
        self._report = report
        is_point = shapely.get_type_id(parts) == shapely.GeometryType.POINT
        # A point on an edge belongs to the pixel below or right of it.
        places = np.floor(shapely.get_coordinates(parts[is_point])).astype(np.int64)
        inside = ((places >= 0) & (places < (grid.width, grid.height))).all(axis=1)
        order = np.flatnonzero(inside)[np.argsort(places[inside, 1], kind="stable")]
        self._cols, self._rows = places[order].T
        self._point_owners = owners[is_point][order]
        self._shapes = parts[~is_point]
        self._shape_owners = owners[~is_point]
        self._tree = shapely.STRtree(self._shapes)
        report.inside[self._point_owners] = True
        whole = self._shapes_in(Window(0, 0, grid.width, grid.height))
        report.inside[self._shape_owners[whole]] = True

    def burn(self, window: Window) -> Mask:
        """Give the sparse mask of a window: (H, W) uint8, IGNORE_INDEX where nothing says a class.

        A point labels the pixel that holds it (on an edge: the one below or right), a line every
        pixel that it touches, a polygon what `all_touched` says. A pixel with two classes stays
        unlabelled and is reported. Memory follows the window, and one in which there is no feature
        costs next to nothing; a window that was burned before is counted again.

        A sloped line exactly through a corner of pixels may or may not touch those beside it, by
        where the window begins; all else does not depend on how the orthophoto is cut.
        """
        size = int(window.height), int(window.width)
        mask = np.full(size, IGNORE_INDEX, np.uint8)
        points, shapes = self._points_in(window), self._shapes_in(window)
        if not points.size + shapes.size:
            return mask
        rows = self._rows[points] - int(window.row_off)
        cols = self._cols[points] - int(window.col_off)
        point_classes = self._class_ids[self._point_owners[points]]
        shape_classes = self._class_ids[self._shape_owners[shapes]]
        conflict = np.zeros(size, bool)
        drawn = []
        for class_id in np.union1d(point_classes, shape_classes):
            same = shapes[shape_classes == class_id]
            covered = np.zeros(size, bool)
            if same.size:
                numbers = self._draw(same, window)
                covered |= numbers > 0
                drawn.append((same, numbers))
            covered[rows[point_classes == class_id], cols[point_classes == class_id]] = True
            conflict |= covered & (mask != IGNORE_INDEX)
            mask[covered] = class_id
        mask[conflict] = IGNORE_INDEX
        self._report.conflict_pixels += int(np.count_nonzero(conflict))
        lost = conflict[rows, cols]
        self._report.count(self._point_owners[points], kept=~lost, lost=lost)
        for same, numbers in drawn:
            self._count(same, numbers, conflict, window)
        return mask

    def _points_in(self, window: Window) -> Numbers:
        """Find the points in a window, by their place in `_rows`."""
        rows = window.row_off, window.row_off + window.height
        first, end = np.searchsorted(self._rows, rows)
        cols = self._cols[first:end] - window.col_off
        return np.asarray(first + np.flatnonzero((cols >= 0) & (cols < window.width)))

    def _shapes_in(self, window: Window) -> Numbers:
        """Find the lines and polygons that share more than an edge with a window, in file order.

        A line that runs along the upper or left edge shares it: it touches the pixels there.
        """
        left, top = window.col_off, window.row_off
        right, bottom = left + window.width, top + window.height
        found = self._tree.query(shapely.box(left, top, right, bottom), predicate="intersects")
        found = np.sort(found)
        bounds = shapely.bounds(self._shapes[found])
        is_line = shapely.get_type_id(self._shapes[found]) == shapely.GeometryType.LINESTRING
        within = (bounds[:, :2] < (right, bottom)).all(axis=1)
        within &= is_line | (bounds[:, 2:] > (left, top)).all(axis=1)
        return np.asarray(found[within])

    def _draw(self, shapes: Numbers, window: Window) -> npt.NDArray[np.int32]:
        """Rasterise shapes: (H, W) int32, their places in `shapes` counted from 1, 0 for none."""
        parts = self._shapes[shapes]
        large = shapely.get_num_coordinates(parts) > CLIP_VERTICES
        if large.any():
            # GDAL visits every vertex for every row: 100 ms a tile for 100 000 vertices, cut 5.
            margin = CLIP_MARGIN_PX
            parts[large] = shapely.clip_by_rect(
                parts[large], window.col_off - margin, window.row_off - margin,
                window.col_off + window.width + margin, window.row_off + window.height + margin,
            )  # fmt: skip
        is_line = shapely.get_type_id(self._shapes[shapes]) == shapely.GeometryType.LINESTRING
        numbered = [
            (part, number, line)
            for number, (part, line) in enumerate(zip(parts, is_line, strict=True), start=1)
            if not part.is_empty
        ]
        drawn = burn(((p, n) for p, n, line in numbered if line), window, all_touched=True)
        polygons = ((p, n) for p, n, line in numbered if not line)
        return burn(polygons, window, all_touched=self._all_touched, onto=drawn)

    def _count(
        self, shapes: Numbers, numbers: npt.NDArray[np.int32], conflict: Flags, window: Window
    ) -> None:
        """Tell the report which shapes of one class kept a pixel, and which lost one."""
        owners = self._shape_owners[shapes]
        kept = np.bincount(numbers[~conflict], minlength=len(shapes) + 1)[1:] > 0
        lost = np.bincount(numbers[conflict], minlength=len(shapes) + 1)[1:] > 0
        self._report.count(owners, kept=kept, lost=lost)
        # A shape may lie under others of its class: what is not known of it is seen alone.
        unsure = ~self._report.placed[owners]
        if conflict.any():
            unsure |= ~self._report.conflicting[owners]
        for place in np.flatnonzero(unsure):
            around = _window_around(self._shapes[shapes[place]], window)
            rows, cols = (slice(a, a + n) for a, n in zip(*_offset(around, window), strict=True))
            only_conflict_is_open = self._report.placed[owners[place]]
            if only_conflict_is_open and not conflict[rows, cols].any():
                continue
            alone = self._draw(shapes[[place]], around) > 0
            self._report.count(
                owners[[place]],
                kept=np.array([(alone & ~conflict[rows, cols]).any()]),
                lost=np.array([(alone & conflict[rows, cols]).any()]),
            )


def _window_around(shape: Any, window: Window) -> Window:
    """Give the part of a window that a shape which lies in it may touch."""
    left, top, right, bottom = shapely.bounds(shape)
    first_col, first_row = max(int(left), window.col_off), max(int(top), window.row_off)
    end_col = min(int(right) + 1, window.col_off + window.width)
    end_row = min(int(bottom) + 1, window.row_off + window.height)
    return Window(first_col, first_row, end_col - first_col, end_row - first_row)


def _offset(part: Window, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give where a part of a window begins in it, and the part's height and width."""
    begin = int(part.row_off - window.row_off), int(part.col_off - window.col_off)
    return begin, (int(part.height), int(part.width))


def _to_pixels(parts: npt.NDArray[np.object_], grid: RasterInfo) -> npt.NDArray[np.object_]:
    """Turn CRS coordinates into columns and rows, whole numbers at the pixels' edges."""
    place = grid.transform
    inverse = np.linalg.inv([[place.a, place.b], [place.d, place.e]])

    def convert(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # Subtracting first keeps the digits that large coordinates have to spare.
        pixels: npt.NDArray[np.float64] = (xy - (place.c, place.f)) @ inverse.T
        return pixels.round(SNAP_DECIMALS)

    return np.asarray(shapely.transform(parts, convert))


class PlacementReport:
    """Counts over all orthophotos where annotations came to lie, by feature.

    A feature lies outside every orthophoto; or on one but on no tile that was burned; or it covers
    no pixel of those; or it is placed (labels a pixel), conflicting (lost one to another class), or
    both. One that lies on two orthophotos is counted once.
    """

    def __init__(self, annotations: Annotations) -> None:
        """Begin with every feature outside."""
        self._annotations = annotations
        count = len(annotations.fids)
        self.inside: Flags = np.zeros(count, bool)
        self.burned: Flags = np.zeros(count, bool)
        self.placed: Flags = np.zeros(count, bool)
        self.conflicting: Flags = np.zeros(count, bool)
        self.conflict_pixels = 0
        self._example = "no orthophoto was looked at"

    def see(self, parts: npt.NDArray[np.object_], footprint: shapely.Polygon, path: Path) -> None:
        """Remember where one orthophoto lies and where the features do, for the error message."""
        spans = " and ".join(
            f"{what} x {b[0]:.8g} to {b[2]:.8g}, y {b[1]:.8g} to {b[3]:.8g}"
            for what, b in (
                ("they span", shapely.total_bounds(parts)),
                ("it spans", shapely.bounds(footprint)),
            )
        )
        self._example = f"in the CRS of {path}, for one, {spans}"

    def count(self, owners: Numbers, *, kept: Flags, lost: Flags) -> None:
        """Count parts that were burned: (n,) features, whether a pixel was kept, or lost."""
        self.burned[owners] = True
        self.placed[owners[kept]] = True
        self.conflicting[owners[lost]] = True

    def include(self, other: "PlacementReport") -> None:
        """Add what another report counted of other orthophotos."""
        for name in ("inside", "burned", "placed", "conflicting"):
            setattr(self, name, getattr(self, name) | getattr(other, name))
        self.conflict_pixels += other.conflict_pixels
        self._example = other._example

    def check(self) -> None:
        """Check that there is anything to learn from.

        Raises:
            ValueError: no feature labels a pixel.
        """
        if not self.inside.any():
            raise ValueError(
                f"none of the {len(self.inside)} features of {self._annotations.path} lies on an "
                f"orthophoto: {self._example}. Is the file's CRS right "
                f"({_named(self._annotations.crs)}), and are x and y the right way round?"
            )
        if not self.placed.any():
            raise ValueError(
                f"no feature of {self._annotations.path} labels a pixel: {self.describe()}"
            )

    def summary(self) -> dict[str, Any]:
        """Give the counts, and the first few ids behind each, as JSON holds them."""
        return {
            "features": self._annotations.read,
            "ignored": self._annotations.ignored,
            "placed": int(self.placed.sum()),
            "conflict_pixels": self.conflict_pixels,
        } | {
            name: {"features": len(fids), "fids": fids[:SHOWN]}
            for name, fids in self._without_label().items()
        }

    def describe(self) -> str:
        """Say in one line how many features were placed, and which were not."""
        said = {
            "without_geometry": "have no geometry",
            "outside": "lie outside every orthophoto",
            "not_on_tiles": "lie on no tile that is annotated",
            "without_pixel": "cover no pixel there",
            "conflicting": f"meet another class ({self.conflict_pixels} pixels left unlabelled)",
        }
        counts = [
            f"{len(fids)} {said[name]} (fid {_shown(fids)})"
            for name, fids in self._without_label().items()
            if fids
        ]
        if self._annotations.ignored:
            counts.insert(0, f"{self._annotations.ignored} ignored")
        placed = f"{self.placed.sum()} of {self._annotations.read} features label pixels"
        return "; ".join([placed, *counts])

    def _without_label(self) -> dict[str, list[int]]:
        """Give the ids of features of which some or all was left out, by reason."""
        without_pixel = self.burned & ~self.placed & ~self.conflicting
        reasons = {
            "outside": ~self.inside,
            "not_on_tiles": self.inside & ~self.burned,
            "without_pixel": without_pixel,
            "conflicting": self.conflicting,
        }
        fids = self._annotations.fids
        return {"without_geometry": list(self._annotations.without_geometry)} | {
            name: fids[flags].tolist() for name, flags in reasons.items()
        }


# Writing -----------------------------------------------------------------------------------------


def write_points(
    path: Path, tiles: Iterable[Tile], clicks: Path, classes: ClassTable, *, limit: int
) -> dict[str, int]:
    """Write the clicks of a run as points in the middle of their pixels, styled for QGIS.

    One GeoPackage, with one layer a CRS: reprojected points would come back into the right pixels
    too, but not the same coordinates. `read_annotations` and `Placement.burn` give the same masks
    again. A .qml of the same style lies beside it. The same clicks make the same bytes, as long as
    GDAL and SQLite stay the same.

    Args:
        path: the .gpkg to write; replaced if it is there.
        tiles: whose clicks; those of one orthophoto in a row.
        clicks: the folder with the clicks of every split, data/sparse/clicks.
        classes: the classes of those clicks.
        limit: most points to write.

    Returns:
        How many points each layer has.

    Raises:
        ValueError: an orthophoto has no CRS, there are more than `limit` points or none, or a
            click is of no class in the table.
        FileNotFoundError: a raster of clicks is missing.
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
                f"orthophoto {orthophoto!r} has no CRS ({grid.path}), so its clicks are nowhere on "
                f"the map: give the source image a CRS and run `dvc repro`"
            )
        same = found.setdefault(pyproj.CRS.from_wkt(grid.crs.to_wkt()), [])
        for tile in group:
            part = _read_clicks(reader, grid, tile, classes)
            total += len(part.class_ids)
            if total > limit:
                raise ValueError(
                    f"there are more than {limit} clicks: a GIS is slow with so many, and the "
                    f"rasters in {clicks} show the same. Raise --limit if you want them all"
                )
            same.append(part)
        reader.close()
    if not total:
        raise ValueError(f"{clicks} holds no click: run `dvc repro`, and look at `points`")
    layers = {crs: parts for crs, parts in found.items() if any(len(p.class_ids) for p in parts)}
    names = ["points"] if len(layers) == 1 else [f"points_{i + 1}" for i in range(len(layers))]
    tables = {
        name: _table(crs, parts, classes)
        for name, (crs, parts) in zip(names, layers.items(), strict=True)
    }
    style = style_points(classes, "class")
    with publish_file(path) as aside:
        _write_geopackage(aside, path, tables, style)
    publish_text(path.with_suffix(".qml"), style)
    return {name: len(table) for name, table in tables.items()}


@dataclass(frozen=True, eq=False)
class _Clicks:
    """The clicks of one tile: (n,) coordinates and class ids."""

    tile: Tile
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.uint8]


def _read_clicks(
    reader: RasterReader, grid: RasterInfo, tile: Tile, classes: ClassTable
) -> _Clicks:
    window = Window(tile.col_off, tile.row_off, tile.width, tile.height)
    mask = reader.read(window, fill=IGNORE_INDEX)[0]
    rows, cols = np.nonzero(mask != IGNORE_INDEX)
    class_ids = mask[rows, cols]
    if class_ids.size and class_ids.max() >= len(classes):
        raise ValueError(
            f"{grid.path} has clicks of class {class_ids.max()}, but there are {len(classes)} "
            f"classes: tiles and clicks are of different runs. Run `dvc repro`"
        )
    x, y = grid.transform * (tile.col_off + cols + 0.5, tile.row_off + rows + 0.5)
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


def _write_geopackage(
    aside: Path, path: Path, tables: Mapping[str, geopandas.GeoDataFrame], style: str
) -> None:
    """Write layers and their style, and read back that all is there.

    Raises:
        OSError: the disk is full, or something is missing.
    """
    journal = aside.with_name(aside.name + "-journal")
    aside.unlink(missing_ok=True)
    try:
        with warnings.catch_warnings():
            # They say that the name should end in .gpkg, and it will.
            warnings.filterwarnings("ignore", message=".*extension", category=RuntimeWarning)
            for name, table in tables.items():
                pyogrio.write_dataframe(
                    table, aside, layer=name, driver="GPKG", geometry_type="Point"
                )
        with closing(sqlite3.connect(aside)) as database, database:
            _add_style(database, list(tables), style)
        with closing(sqlite3.connect(aside)) as database:
            _check_written(database, tables)
    except (DataSourceError, DataLayerError, sqlite3.Error) as error:
        raise OSError(
            f"{path} could not be written ({_flat(error)}): is the disk full? Free some space and "
            f"try again"
        ) from None
    finally:
        journal.unlink(missing_ok=True)


def _add_style(database: sqlite3.Connection, layers: Sequence[str], style: str) -> None:
    """Add the table `layer_styles`, in which QGIS keeps and looks up the styles of layers.

    QGIS makes it through GDAL as an attribute table of the GeoPackage; so are its columns.
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
    database.execute("INSERT INTO gpkg_ogr_contents VALUES ('layer_styles', ?)", [len(layers)])
    for layer in layers:
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


def _check_written(
    database: sqlite3.Connection, tables: Mapping[str, geopandas.GeoDataFrame]
) -> None:
    """Check that every point is there, in its table and in the index by which a GIS finds it.

    (Seen with GDAL 3.12: on a full disk the index was missing without an error, since it is written
    when the file is closed.)
    """
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)
    for name, table in tables.items():
        (geometry,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", [name]
        ).fetchone()
        for kept in (name, f"rtree_{name}_{geometry}_rowid"):
            (count,) = database.execute(f'SELECT count(*) FROM "{kept}"').fetchone()
            if count != len(table):
                raise sqlite3.DatabaseError(f"{count} of {len(table)} points read back in {kept}")


# Words -------------------------------------------------------------------------------------------


def _shown(values: Sequence[object], separator: str = ", ") -> str:
    """List a few values, and say how many more there are."""
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return separator.join(str(value) for value in values[:SHOWN]) + more


def _suggest(word: str, known: Iterable[str]) -> str:
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def _named(crs: pyproj.CRS) -> str:
    code = crs.to_authority()
    return ":".join(code) if code else crs.name


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())
