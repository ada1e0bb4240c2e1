"""Polygons as labels: their outlines, and those of their pixels that a classifier is fitted on."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import shapely

from pointcover.labelling.point_log import Record, Shape

MOST_PX: Final = 32
"""Pixels of a polygon that the live map is fitted on; of larger ones, a sample drawn at random."""

ENUMERATED_PX: Final = 1 << 18
"""Up to so many pixels around a polygon, each is tried; of larger ones, random ones."""

DRAWS: Final = 1 << 14
ROUNDS: Final = 64
GRID_PX: Final = 0.01
"""To which vertices are rounded."""

Line = Sequence[tuple[float, float]]
Places = npt.NDArray[np.float64]


def to_polygon(shape: Shape) -> shapely.Polygon:
    """Return a shape as a polygon of shapely, in pixels of the image."""
    return shapely.Polygon(shape[0], shape[1:])


def check_outline(outline: Line, size: tuple[int, int]) -> Shape:
    """Return an outline that a person drew as a shape.

    Args:
        outline: its vertices.
        size: height and width of the image.

    Raises:
        ValueError: it leaves the image, crosses itself, or holds the centre of no pixel.
    """
    height, width = size
    if any(not (0 <= x <= width and 0 <= y <= height) for x, y in outline):
        raise ValueError(
            f"the polygon leaves the image of {width} × {height} px: draw it inside the image"
        )
    polygon = shapely.Polygon(outline)
    if not polygon.is_valid:
        raise ValueError(
            "the outline of the polygon crosses or touches itself: take vertices back until it "
            "does not, and finish again"
        )
    return _check_pixels(polygon)


def outline_stroke(line: Line, radius_px: float, size: tuple[int, int]) -> Shape:
    """Return what a brush covers as a shape, as far as it lies in the image.

    Args:
        line: way of the brush.
        radius_px: of the brush, in pixels of the image.
        size: height and width of the image.

    Raises:
        ValueError: it holds the centre of no pixel, or the brush is too small or large.
    """
    height, width = size
    if not 0.5 <= radius_px <= max(size):
        raise ValueError(f"got a brush of radius {radius_px:g} px, wanted 0.5 to {max(size)}")
    inside = [(round(min(max(x, 0), width), 2), round(min(max(y, 0), height), 2)) for x, y in line]
    way = shapely.Point(inside[0]) if len(set(inside)) == 1 else shapely.LineString(inside)
    way = shapely.simplify(way, radius_px / 20)
    covered = shapely.buffer(way, radius_px, quad_segs=6) & shapely.box(0, 0, width, height)
    rounded = shapely.set_precision(covered, GRID_PX)
    polygon = rounded if isinstance(rounded, shapely.Polygon) and rounded.is_valid else covered
    if not isinstance(polygon, shapely.Polygon):
        raise ValueError("the brush covers nothing of the image: paint inside the image")
    return _check_pixels(polygon)


def _check_pixels(polygon: shapely.Polygon) -> Shape:
    """Return a polygon as a shape, if it has a pixel."""
    if not len(_sample(polygon, 1, 0)):
        raise ValueError("the polygon holds the centre of no pixel: draw it larger")
    rings = [polygon.exterior, *polygon.interiors]
    return tuple(
        tuple((float(x), float(y)) for x, y in shapely.get_coordinates(ring)[:-1]) for ring in rings
    )


def place_within(shape: Shape) -> tuple[float, float]:
    """Return a place within a polygon: where its label stands."""
    found = shapely.point_on_surface(to_polygon(shape))
    return float(found.x), float(found.y)


def places_of(record: Record) -> Places:
    """Return the x and y of the pixels that a label stands for, (P, 2).

    A point is one; a polygon has `MOST_PX` at most, the same ones each time.
    """
    if not record.shape:
        return np.array([[record.x, record.y]])
    return _places_in(record.shape, record.id)


@lru_cache(maxsize=4096)
def _places_in(shape: Shape, name: str) -> Places:
    found = _sample(to_polygon(shape), MOST_PX, int(name[:8], 16))
    found.flags.writeable = False
    return found


def _sample(polygon: shapely.Polygon, most: int, seed: int) -> Places:
    """Return the centres of some pixels of a polygon, drawn at random without repetition."""
    generator = np.random.default_rng(seed)
    left, top, right, bottom = polygon.bounds
    low = np.floor([left, top]).astype(np.int64)
    high = np.ceil([right, bottom]).astype(np.int64)
    shapely.prepare(polygon)
    if int(np.prod(high - low)) <= ENUMERATED_PX:
        xs, ys = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        centres = np.stack([xs.ravel(), ys.ravel()], axis=1)
        inside = centres[shapely.contains_xy(polygon, centres)]
        chosen = generator.permutation(len(inside))[:most]
        return np.asarray(inside[np.sort(chosen)])
    found: Places = np.zeros((0, 2))
    for _ in range(ROUNDS):
        drawn = generator.integers(low, high, (DRAWS, 2)) + 0.5
        joined = np.concatenate([found, drawn[shapely.contains_xy(polygon, drawn)]])
        _, first = np.unique(joined, axis=0, return_index=True)
        found = np.asarray(joined[np.sort(first)], np.float64)
        if len(found) >= most:
            break
    return found[:most]
