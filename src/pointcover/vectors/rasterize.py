"""Rasterise annotations: place them on an orthophoto's grid, and burn them window by window.

No feature is skipped silently: those without a pixel are counted, and listed by feature id (FID).
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
from rasterio.features import rasterize
from rasterio.transform import Affine

from pointcover.labels import IGNORE_INDEX, Mask
from pointcover.raster.grids import WGS84_M
from pointcover.raster.raster_io import RasterInfo, Window
from pointcover.text import shorten
from pointcover.tileset.source_images import SourceImage
from pointcover.vectors.features import SHOWN, Annotations, Flags, Numbers, name_crs

WEB_MAP: Final = 3857

SNAP_DECIMALS: Final = 6
"""Pixel coordinates are rounded to this many decimals, so that a vertex drawn on a pixel's edge
stays there despite rounding errors of reprojection."""

MANY_VERTICES: Final = 1000
"""Shapes with more vertices are simplified outside a window before they are burned there."""
MARGIN_PX: Final = 2
"""Margin around the window within which they are not simplified."""


def place_annotations(
    annotations: Annotations,
    grid: RasterInfo,
    report: "PlacementReport",
    *,
    orthophoto: str,
    all_touched: bool,
) -> "Placement":
    """Place annotations on an orthophoto's grid.

    Vertices are reprojected, and edges between them stay straight, as in any GIS. So a long edge in
    degrees needs vertices in between. A part with a vertex that has no coordinates in the
    orthophoto's CRS counts as outside.

    Args:
        annotations: to place.
        grid: of the orthophoto.
        report: counts the placed features.
        orthophoto: name of the orthophoto; features that name another one are not placed on it.
        all_touched: whether a polygon labels every pixel that it touches; otherwise those whose
            centre lies in it.

    Raises:
        ValueError: the orthophoto is not georeferenced, and coordinates are not pixels; or there is
            no transformation to its CRS.
    """
    if annotations.images is not None:
        shapes = _shapes_in_pixels(annotations, annotations.images[orthophoto])
        return Placement(annotations.class_ids, shapes, grid, report, all_touched=all_touched)
    if grid.crs is None or not grid.is_georeferenced:
        raise ValueError(
            f"{grid.path} has no {'CRS' if grid.crs is None else 'transform'}, so the features "
            f"of {annotations.path} cannot be placed on it: assign one (`gdal_edit.py -a_srs "
            f"EPSG:<code>`, with a world file if the transform is missing; `gdalwarp` if the image "
            f"has ground control points or RPCs instead), and run the `tile` stage again; or label "
            f"in pixels, in a file without a CRS"
        )
    parts, tree = annotations.project(grid)
    corners = [(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)]
    footprint = shapely.Polygon([grid.transform @ corner for corner in corners])
    found = np.sort(tree.query(footprint, predicate="intersects"))
    if turn := full_turn(grid):
        parts, found = _add_turned(parts, tree, found, (footprint, turn))
    named = annotations.orthophotos[annotations.owners[found]]
    found = found[(named == "") | (named == orthophoto)]
    report.see(parts, footprint, grid.path)
    shapes = _Shapes(to_pixels(parts[found], grid), annotations.owners[found])
    return Placement(annotations.class_ids, shapes, grid, report, all_touched=all_touched)


def full_turn(grid: RasterInfo) -> float | None:
    """Return after which x the coordinates of a raster begin again; None where they do not."""
    if grid.crs is None:
        return None
    if grid.crs.is_geographic:
        return 360.0
    return 2 * math.pi * WGS84_M[0] if grid.crs.to_epsg() == WEB_MAP else None


def _add_turned(
    parts: npt.NDArray[np.object_],
    tree: shapely.STRtree,
    found: Numbers,
    around: tuple[shapely.Polygon, float],
) -> tuple[npt.NDArray[np.object_], Numbers]:
    """Move parts that lie on an orthophoto but for a full turn of the Earth onto it.

    Args:
        parts: (P,) in the CRS of the orthophoto; copied if some are moved.
        tree: of the parts.
        found: indices of the parts that lie on it as they are.
        around: the footprint of the orthophoto, and a full turn in its CRS.

    Returns:
        the parts, and the indices of those that lie on it.
    """
    footprint, turn = around
    left, _, right, _ = footprint.bounds
    if max(-left, right) < turn / 2 - turn / 36:  # nothing of it is near the antimeridian
        return parts, found
    moved = parts.copy()
    others: list[int] = []
    # Those across 180° have both ends of the range of x.
    west, _, east, _ = shapely.bounds(parts).T
    with np.errstate(invalid="ignore"):
        torn = np.flatnonzero(east - west > turn / 2)
    for number in torn.tolist():
        whole = shapely.transform(parts[number], lambda xy: _unwrap(xy, turn))
        for shift in (-turn, 0.0, turn):
            here = shapely.affinity.translate(whole, shift)
            if shapely.intersects(here, footprint):
                moved[number] = here
                others.append(number)
    for shift in (-2 * turn, -turn, turn, 2 * turn):
        there = shapely.affinity.translate(footprint, -shift)
        for number in tree.query(there, predicate="intersects").tolist():
            if number not in torn:
                moved[number] = shapely.affinity.translate(parts[number], shift)
                others.append(number)
    kept = np.setdiff1d(found, torn)
    return moved, np.union1d(kept, np.array(others, np.intp)).astype(np.intp)


def _unwrap(xy: npt.NDArray[np.float64], turn: float) -> npt.NDArray[np.float64]:
    """Return (n, 2) coordinates with x from 0 to a full turn."""
    return np.stack([np.mod(xy[:, 0], turn), xy[:, 1]], axis=1)


class _Shapes(NamedTuple):
    """Points, lines and polygons in pixels of an orthophoto.

    Attributes:
        parts: (P,) geometries; x is the column, y the row, see `rasterize_shapes`.
        owners: (P,) index of each part's feature.
    """

    parts: npt.NDArray[np.object_]
    owners: Numbers


def _shapes_in_pixels(annotations: Annotations, image: SourceImage) -> _Shapes:
    """Return the shapes of an image, from pixels of its file in pixels of its tiles."""
    found = np.flatnonzero(annotations.orthophotos[annotations.owners] == image.orthophoto)
    parts = np.asarray(
        shapely.transform(
            annotations.parts[found], lambda xy: (xy / image.downsample).round(SNAP_DECIMALS)
        )
    )
    return _Shapes(parts, annotations.owners[found])


class Placement:
    """Annotations in pixels of an orthophoto, which can be burned window by window."""

    def __init__(
        self,
        class_ids: npt.NDArray[np.uint8],
        shapes: _Shapes,
        grid: RasterInfo,
        report: "PlacementReport",
        *,
        all_touched: bool,
    ) -> None:
        """Index the shapes to burn.

        Args:
            class_ids: (N,) of all features.
            shapes: in pixels of the orthophoto.
            grid: of the orthophoto.
            report: counts the burned features.
            all_touched: see `place_annotations`.
        """
        parts, owners = shapes
        self._class_ids = class_ids
        self._all_touched = all_touched
        self._report = report
        is_point = shapely.get_type_id(parts) == shapely.GeometryType.POINT
        # A point on an edge belongs to the pixel below it, or to the right.
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

    def burn(self, window: Window, onto: Mask | None = None) -> Mask:
        """Return the sparse mask of a window: (H, W) uint8, IGNORE_INDEX where there is no label.

        Annotations replace the labels of `onto`, (H, W) uint8, which is not changed. A pixel with
        two classes is unlabelled there, too.

        A point labels the pixel that contains it (on an edge: the one below, or to the right), a
        line every pixel that it touches, a polygon pixels by `all_touched`. A pixel with two
        classes stays unlabelled, and is reported. Memory is proportional to the window, and a
        window without features takes almost no time. A window that is burned twice is counted
        twice.

        The result does not depend on the tiling, with one exception: whether a sloped line exactly
        through a corner of pixels touches those beside it depends on the window's position.
        """
        size = int(window.height), int(window.width)
        mask = np.full(size, IGNORE_INDEX, np.uint8)
        labels = mask if onto is None else onto
        points, shapes = self._points_in(window), self._shapes_in(window)
        if not points.size + shapes.size:
            return labels
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
        mask = np.where(mask == IGNORE_INDEX, labels, mask)
        mask[conflict] = IGNORE_INDEX
        self._report.conflict_pixels += int(np.count_nonzero(conflict))
        lost = conflict[rows, cols]
        self._report.count(self._point_owners[points], kept=~lost, lost=lost)
        for same, numbers in drawn:
            self._count(same, numbers, conflict, window)
        return mask

    def _points_in(self, window: Window) -> Numbers:
        """Return the points in a window, as indices of `_rows`."""
        rows = window.row_off, window.row_off + window.height
        first, end = np.searchsorted(self._rows, rows)
        cols = self._cols[first:end] - window.col_off
        return np.asarray(first + np.flatnonzero((cols >= 0) & (cols < window.width)))

    def _shapes_in(self, window: Window) -> Numbers:
        """Return the lines and polygons that overlap a window, in file order.

        A line along the upper or left edge overlaps it, since it touches the pixels there.
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
        """Rasterise shapes: (H, W) int32, their index in `shapes` plus 1, 0 for none."""
        parts = self._shapes[shapes]
        # GDAL visits every vertex for every row. With 100 000 vertices a tile takes 240 ms, and
        # 64 ms without the vertices far from the window.
        for place in np.flatnonzero(shapely.get_num_coordinates(parts) > MANY_VERTICES):
            parts[place] = _without_far_vertices(parts[place], window)
        is_line = shapely.get_type_id(self._shapes[shapes]) == shapely.GeometryType.LINESTRING
        numbered = [
            (part, number, line)
            for number, (part, line) in enumerate(zip(parts, is_line, strict=True), start=1)
        ]
        drawn = rasterize_shapes(
            ((p, n) for p, n, line in numbered if line), window, all_touched=True
        )
        polygons = ((p, n) for p, n, line in numbered if not line)
        return rasterize_shapes(polygons, window, all_touched=self._all_touched, onto=drawn)

    def _count(
        self, shapes: Numbers, numbers: npt.NDArray[np.int32], conflict: Flags, window: Window
    ) -> None:
        """Count shapes of one class that label a pixel, and those that lost one in a conflict."""
        owners = self._shape_owners[shapes]
        kept = np.bincount(numbers[~conflict], minlength=len(shapes) + 1)[1:] > 0
        lost = np.bincount(numbers[conflict], minlength=len(shapes) + 1)[1:] > 0
        self._report.count(owners, kept=kept, lost=lost)
        # A shape may be covered by others of its class. Then it is rasterised alone.
        unknown = ~self._report.placed[owners]
        if conflict.any():
            unknown |= ~self._report.conflicting[owners]
        for place in np.flatnonzero(unknown):
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


def _without_far_vertices(shape: Any, window: Window) -> Any:
    """Remove vertices of a line or polygon that do not affect its pixels in a window.

    Of successive vertices beyond one side of the window, the first and the last are kept. The edge
    between them lies beyond this side, too, and crosses each row equally often modulo two. Clipping
    at the window would change the ends of edges, and GDAL treats edges that rise by less than 0.01
    px as horizontal. The result may intersect itself far from the window.
    """
    is_polygon = shapely.get_type_id(shape) == shapely.GeometryType.POLYGON
    lines = shapely.get_rings(shape) if is_polygon else np.array([shape])
    xy, owners = shapely.get_coordinates(lines, return_index=True)
    x, y = xy.T
    left, top = window.col_off - MARGIN_PX, window.row_off - MARGIN_PX
    right, bottom = left + window.width + 2 * MARGIN_PX, top + window.height + 2 * MARGIN_PX
    side = np.select([x < left, x > right, y < top, y > bottom], [1, 2, 3, 4])
    continues = (side[1:] == side[:-1]) & (side[1:] > 0) & (owners[1:] == owners[:-1])
    kept = ~(np.append(False, continues) & np.append(continues, False))
    if not is_polygon:
        return shapely.LineString(xy[kept])
    # Of a ring wholly beyond one side, only the start and end vertex is left: remove it.
    kept &= np.bincount(owners[kept])[owners] > 2
    _, rings = np.unique(owners[kept], return_inverse=True)
    outline, *holes = shapely.linearrings(xy[kept], indices=rings)
    return shapely.Polygon(outline, holes)


def _window_around(shape: Any, window: Window) -> Window:
    """Return the part of a window that a shape may touch."""
    left, top, right, bottom = shapely.bounds(shape)
    first_col, first_row = max(int(left), window.col_off), max(int(top), window.row_off)
    end_col = min(int(right) + 1, window.col_off + window.width)
    end_row = min(int(bottom) + 1, window.row_off + window.height)
    return Window(first_col, first_row, end_col - first_col, end_row - first_row)


def _offset(part: Window, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return row and column of a part in a window, and the part's height and width."""
    begin = int(part.row_off - window.row_off), int(part.col_off - window.col_off)
    return begin, (int(part.height), int(part.width))


def to_pixels(parts: npt.NDArray[np.object_], grid: RasterInfo) -> npt.NDArray[np.object_]:
    """Convert CRS coordinates to columns and rows, with whole numbers at the pixels' edges."""
    place = grid.transform
    inverse = np.linalg.inv([[place.a, place.b], [place.d, place.e]])

    def convert(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # Subtract the origin first, which keeps the precision of large coordinates.
        pixels: npt.NDArray[np.float64] = (xy - (place.c, place.f)) @ inverse.T
        return pixels.round(SNAP_DECIMALS)

    return np.asarray(shapely.transform(parts, convert))


class PlacementReport:
    """Counts of placed features over all orthophotos.

    A feature is outside every orthophoto; or on one that is scored on its dense masks alone; or on
    an orthophoto, but not on a burned tile; or it covers no pixel there; or it is placed (labels a
    pixel), conflicting (lost a pixel to another class), or both. A feature on two orthophotos is
    counted once.
    """

    def __init__(self, annotations: Annotations) -> None:
        """Start with all features outside."""
        self._annotations = annotations
        count = len(annotations.fids)
        self.inside: Flags = np.zeros(count, bool)
        self.scored: Flags = np.zeros(count, bool)
        """On an orthophoto that is scored on its dense masks, and not annotated."""
        self.burned: Flags = np.zeros(count, bool)
        self.placed: Flags = np.zeros(count, bool)
        self.conflicting: Flags = np.zeros(count, bool)
        self.conflict_pixels = 0
        self._example = "there was no orthophoto"

    @property
    def path(self) -> Path:
        """The file of the annotations."""
        return self._annotations.path

    def see(self, parts: npt.NDArray[np.object_], footprint: shapely.Polygon, path: Path) -> None:
        """Store the extents of an orthophoto and of the features for the error message."""
        spans = " and ".join(
            f"{what} x {b[0]:.8g} to {b[2]:.8g}, y {b[1]:.8g} to {b[3]:.8g}"
            for what, b in (
                ("they span", shapely.total_bounds(parts)),
                ("it spans", shapely.bounds(footprint)),
            )
        )
        self._example = f"in the CRS of {path}, for one, {spans}"

    def count(self, owners: Numbers, *, kept: Flags, lost: Flags) -> None:
        """Count burned parts: (n,) feature indices; (n,) bool: has a kept, or a lost pixel."""
        self.burned[owners] = True
        self.placed[owners[kept]] = True
        self.conflicting[owners[lost]] = True

    def include(self, other: "PlacementReport") -> None:
        """Add the counts of a report on other orthophotos."""
        for name in ("inside", "scored", "burned", "placed", "conflicting"):
            setattr(self, name, getattr(self, name) | getattr(other, name))
        self.conflict_pixels += other.conflict_pixels
        self._example = other._example

    def check(self) -> None:
        """Check that there are labels.

        Raises:
            ValueError: no feature labels a pixel.
        """
        if self.scored.any() and not self.inside.any():
            raise ValueError(
                f"no feature of {self._annotations.path} is of use: {self.describe()}. Annotate "
                f"regions of train and val, or change `split` in the card"
            )
        if not self.inside.any() and self._annotations.images is not None:
            raise ValueError(
                f"none of the {len(self.inside)} labels of {self._annotations.path} lies on a tile "
                f"that is annotated: {self.describe()}. Label images of train and val"
            )
        if not self.inside.any():
            crs = ", ".join(map(name_crs, self._annotations.crs))
            raise ValueError(
                f"none of the {len(self.inside)} features of {self._annotations.path} lies on an "
                f"orthophoto: {self._example}. Check the file's CRS ({crs}), and the order of x "
                f"and y"
            )
        if not self.placed.any():
            raise ValueError(
                f"no feature of {self._annotations.path} labels a pixel: {self.describe()}"
            )

    def summary(self) -> dict[str, Any]:
        """Return the counts for JSON, with the first few feature ids of each."""
        return {
            "features": self._annotations.read,
            "ignored": self._annotations.ignored,
            "placed": int(self.placed.sum()),
            "conflict_pixels": self.conflict_pixels,
        } | {
            name: {"features": len(fids), "fids": fids[:SHOWN]}
            for name, fids in self._without_label().items()
        }

    def faults(self) -> list[tuple[int | str, str]]:
        """Return each feature that was left out in whole or part, and the reason's key."""
        return [(fid, name) for name, fids in self._without_label().items() for fid in fids]

    def describe(self) -> str:
        """Return a line on the numbers of placed features and of those left out."""
        texts = {
            "without_geometry": "have no geometry",
            "outside": "lie outside every orthophoto",
            "scored_on_masks": "lie on the test split alone, which is scored on its dense masks",
            "not_on_tiles": "lie on no tile that is annotated",
            "without_pixel": "cover no pixel there",
            "conflicting": f"meet another class ({self.conflict_pixels} pixels left unlabelled)",
        }
        counts = [
            f"{len(fids)} {texts[name]} (fid {shorten(fids)})"
            for name, fids in self._without_label().items()
            if fids
        ]
        if self._annotations.ignored:
            counts.insert(0, f"{self._annotations.ignored} ignored")
        placed = f"{self.placed.sum()} of {self._annotations.read} features label pixels"
        return "; ".join([placed, *counts])

    def _without_label(self) -> dict[str, list[int | str]]:
        """Return the ids of features that were left out in whole or part, by reason."""
        without_pixel = self.burned & ~self.placed & ~self.conflicting
        reasons = {
            "outside": ~self.inside & ~self.scored,
            "scored_on_masks": ~self.inside & self.scored,
            "not_on_tiles": self.inside & ~self.burned,
            "without_pixel": without_pixel,
            "conflicting": self.conflicting,
        }
        fids = self._annotations.fids
        return {"without_geometry": list(self._annotations.without_geometry)} | {
            name: fids[flags].tolist() for name, flags in reasons.items()
        }


def rasterize_shapes(
    shapes: Iterable[tuple[Any, int]],
    window: Window,
    *,
    all_touched: bool,
    onto: npt.NDArray[np.int32] | None = None,
) -> npt.NDArray[np.int32]:
    """Rasterise shapes in a window; where shapes overlap, the last one is kept.

    Args:
        shapes: lines and polygons (GeoJSON-like or shapely) with values from 1. Their coordinates
            are pixels of the whole raster: x is the column, y the row, and whole numbers are the
            pixels' edges.
        window: of the raster.
        all_touched: whether a polygon covers every pixel that it touches; otherwise those whose
            centre lies in it.
        onto: (window height, window width) array to draw on; by default zeros.

    Returns:
        (window height, window width) int32, 0 where there is no shape.
    """
    if onto is None:
        onto = np.zeros((int(window.height), int(window.width)), np.int32)
    pairs = list(shapes)
    if pairs:
        place = Affine.translation(window.col_off, window.row_off)
        rasterize(pairs, out=onto, transform=place, all_touched=all_touched)
    return onto
