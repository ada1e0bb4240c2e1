"""Samplers by position: spread over the tile, at class boundaries, in the interior of areas."""

import math

import numpy as np
import numpy.typing as npt

from pointcover.annotation.distances import squared_distances
from pointcover.annotation.samplers.annotator import Annotator, Clicks, Pixels
from pointcover.annotation.samplers.drawing import uniform
from pointcover.labels import IGNORE_INDEX, Mask

_NEARNESS = 2**-0.25
"""A click keeps at least this fraction of the greatest distance that it could keep."""

_CLOSE = 4.0
"""Squared pixels: nearer to a click or an edge than two pixels, clicks are not spaced."""

Room = npt.NDArray[np.float32]
"""(H, W) squared distance to the nearest click or edge; 0 where no click may be."""


def spread(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on pixels far apart from each other, at every budget, whatever their classes.

    Each click is drawn from the pixels whose distance to all earlier clicks is at least 0.84 times
    that of the farthest pixel (capped at 0.35 times the diagonal, so that the first clicks do not
    all fall into the corners): farthest-point sampling (Eldar et al. 1997), randomised like Poisson
    discs of decreasing radius (McCool and Fiume 1992). Gaps below two pixels are filled without
    spacing. On a 512² tile, the mean distance to the nearest other click is 1.7 times that of
    `uniform` with 50 to 500 clicks, 1.6 times with 10 (measured).
    """
    inside = np.zeros(mask.shape, bool)
    inside.ravel()[candidates] = True
    extents = [np.ptp(np.flatnonzero(inside.any(axis))) + 1 for axis in (0, 1) if candidates.size]
    room = np.where(inside, np.float32(sum(extent**2 for extent in extents) / 8), np.float32(0))
    return Clicks.single(_place(room, budget, generator))


def boundary(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click uniformly on pixels no more than `boundary_px` from a pixel of another class.

    Unlabelled pixels are no class: between two classes they add to the distance, and on their own
    they make no boundary. A tile with fewer such pixels than the budget gets fewer clicks, a tile
    of one class none.
    """
    is_near = _near_other_class(mask, annotator.settings.boundary_px).ravel()
    near = candidates[is_near[candidates]]
    return uniform(mask, near, budget, annotator, generator)


def interior(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click in the middle of areas, one click for each, the deepest first.

    An area is a connected component of one class (over edges, not corners). Depth is the distance
    to the area's own boundary, of which the tile's edge is a part. The deepest area of each class
    comes first, then the others, so that every class gets a click where the budget suffices. Once
    every area has a click, each further click is drawn from the pixels whose distance to the
    boundary and to earlier clicks is at least 0.84 times the greatest left.
    """
    region, areas = find_areas(mask, candidates)
    depth = _depths(region).astype(np.float32)
    deepest = np.zeros(int(areas.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, areas.ravel()[candidates], depth.ravel()[candidates])

    # Of the deepest pixels of each area, one at random.
    tops = generator.permutation(candidates[(depth == deepest[areas]).ravel()[candidates]])
    tops = generator.permutation(tops[np.unique(areas.ravel()[tops], return_index=True)[1]])
    tops = tops[np.argsort(-depth.ravel()[tops], kind="stable")]
    first = np.unique(region.ravel()[tops], return_index=True)[1]
    clicked = np.concatenate((tops[np.sort(first)], np.delete(tops, first)))
    if clicked.size < budget and clicked.size:
        free = np.ones(mask.shape, bool)
        free.ravel()[clicked] = False
        room = np.minimum(depth, np.sqrt(squared_distances(~free), dtype=np.float64))
        room[region == IGNORE_INDEX] = 0
        further = _place((room**2).astype(np.float32), budget - clicked.size, generator)
        clicked = np.concatenate((clicked, further))
    return Clicks.single(clicked[:budget])


def find_areas(mask: Mask, candidates: Pixels) -> tuple[Mask, npt.NDArray[np.intp]]:
    """Find the connected components of one class, over edges and not corners.

    Args:
        mask: dense mask, (H, W) uint8.
        candidates: the pixels to use; all others are treated as unlabelled.

    Returns:
        The mask with all pixels but the candidates unlabelled, (H, W) uint8, and areas numbered
        from 1 in row-major order, (H, W), 0 where there is no candidate.
    """
    from skimage.measure import label

    region = np.full(mask.shape, IGNORE_INDEX, np.uint8)
    region.ravel()[candidates] = mask.ravel()[candidates]
    areas = label(region, background=IGNORE_INDEX, connectivity=1)  # type: ignore[no-untyped-call]
    return region, areas


def _place(room: Room, budget: int, generator: np.random.Generator) -> Pixels:
    """Place clicks one after the other, each at random among the pixels with the most room.

    In rounds: pixels with more than a fraction of the greatest room are drawn, and clicked unless a
    click of the same round is too near, until none is left. The budget only sets where to stop.

    Args:
        room: updated in place by each click.
        budget: clicks to place, at most all pixels with room.
        generator: advanced by the draws.
    """
    width = room.shape[1]
    flat = room.reshape(-1)
    clicks: list[int] = []
    while len(clicks) < budget and (most := float(room.max(initial=0))) > _CLOSE:
        enough = most * _NEARNESS**2
        # No pixel has more room than `most`, so a click changes nothing farther away.
        reach = math.isqrt(int(most))
        line = np.arange(-reach, reach + 1, dtype=np.float32) ** 2
        disc = line[:, np.newaxis] + line
        waiting = np.flatnonzero(flat > enough)
        batch = 1
        while waiting.size and len(clicks) < budget:
            for pixel in generator.choice(waiting, batch).tolist():
                if flat[pixel] > enough and len(clicks) < budget:
                    clicks.append(pixel)
                    row, col = divmod(pixel, width)
                    top, left = max(row - reach, 0), max(col - reach, 0)
                    near = room[top : row + reach + 1, left : col + reach + 1]
                    down, right = top - row + reach, left - col + reach
                    part = disc[down : down + near.shape[0], right : right + near.shape[1]]
                    np.minimum(near, part, out=near)
            # Later clicks rule out fewer pixels each, so the list is filtered less and less often.
            waiting = waiting[flat[waiting] > enough]
            batch *= 2
    if len(clicks) == budget:
        return np.array(clicks, np.intp)
    rest = generator.permutation(np.flatnonzero(flat))
    rest = rest[np.argsort(-flat[rest], kind="stable")]
    return np.concatenate((np.array(clicks, np.intp), rest[: budget - len(clicks)]))


def _depths(region: Mask) -> npt.NDArray[np.float64]:
    """Measure how deep each pixel lies in its area: 1 plus the distance to the area's rim.

    One distance transform serves all classes: a path out of an area crosses the area's own rim
    first, so the nearest rim pixel of any area belongs to the pixel's own.
    """
    padded = np.pad(region.astype(np.int16), 1, constant_values=-1)
    inner = padded[1:-1, 1:-1]
    rim = np.zeros(region.shape, bool)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        rim |= neighbour != inner
    return np.sqrt(squared_distances(rim), dtype=np.float64) + 1.0


def _near_other_class(mask: Mask, distance_px: float) -> npt.NDArray[np.bool_]:
    """Find the pixels with a labelled pixel of another class no farther than `distance_px`.

    There is one within a disc if the minimum or maximum id in it is not the pixel's own. The disc
    is processed row by row from its top and bottom to its middle, while the window of the row's
    minimum and maximum widens: some five passes over the tile for each pixel of distance.
    """
    height, width = mask.shape
    # No two pixels of a tile are farther apart than its sides together.
    reach = math.floor(min(distance_px, height + width))
    least = np.pad(mask, reach, constant_values=IGNORE_INDEX)
    greatest = np.where(least == IGNORE_INDEX, np.uint8(0), least)
    near = np.zeros(mask.shape, bool)
    half, squared = 0, math.floor(min(distance_px, reach + 1) ** 2)
    for step in range(reach, -1, -1):
        while (half + 1) ** 2 + step**2 <= squared:
            half += 1
            _widen(least, np.minimum)
            _widen(greatest, np.maximum)
        for row in {reach - step, reach + step}:
            rows = (slice(row, row + height), slice(reach, reach + width))
            near |= (least[rows] < mask) | (greatest[rows] > mask)
    near &= mask != IGNORE_INDEX
    return near


def _widen(rows: Mask, pick: np.ufunc) -> None:
    """Reduce every pixel and its left and right neighbours by a ufunc, in place."""
    before = rows.copy()
    pick(rows[:, 1:], before[:, :-1], out=rows[:, 1:])
    pick(rows[:, :-1], before[:, 1:], out=rows[:, :-1])
