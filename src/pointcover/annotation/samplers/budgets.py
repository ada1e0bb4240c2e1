"""Units of the label budget: how many clicks each tile gets.

A unit takes `points` and the number of labelled pixels of every tile that is annotated, by tile
id. It returns the budget of every tile, by tile id. With larger `points` no tile's budget falls.
To add a unit, write one function and add one line to `UNITS`.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Final

Unit = Callable[[int, Mapping[str, int]], dict[str, int]]


def per_tile(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return a budget of `points` clicks for every tile."""
    return dict.fromkeys(labelled, points)


def per_class(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return a budget of `points` clicks for each class in every tile.

    Studies of land cover from points, on Potsdam and elsewhere, often simulate their annotator
    with "k points per class per tile". A real annotator gives less: this unit tells which classes
    are in the tile, and it multiplies the fraction of labels of rare classes (on LandCover.ai
    tiles of buildings by 10.3, of roads by 11.6, measured), so that a model learns class
    frequencies that differ from those of the images.
    """
    return dict.fromkeys(labelled, points)


def percent(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return `points` % of the labelled pixels of every tile, rounded down, at least one click."""
    return {tile_id: max(1, points * pixels // 100) for tile_id, pixels in labelled.items()}


def total(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Divide `points` clicks among all tiles by their labelled pixels.

    Webster's method, also called Sainte-Laguë's: the next click goes to the tile with the greatest
    p / (2n + 1), where p is the number of its labelled pixels and n that of its clicks; of equals,
    to the first tile id in order. No tile loses a click when `points` increases (Balinski and
    Young, Fair Representation, 1982), none gets more clicks than it has pixels, and with fewer
    clicks than tiles some get none.
    """
    budgets = dict.fromkeys(labelled, 0)
    tile_ids = [tile_id for tile_id, pixels in labelled.items() if pixels > 0]
    whole = sum(labelled[tile_id] for tile_id in tile_ids)
    points = min(points, whole)
    # Rounding p · s / (2 · whole), s = 2 · points - tiles, stops at the same p / (2n + 1) for all
    # tiles, and cannot hand out too many clicks, as rounding adds ½ to a tile at most. The rest,
    # on average at most one click a tile, is handed out one by one.
    surplus = max(2 * points - len(tile_ids), 0)
    for tile_id in tile_ids:
        budgets[tile_id] = (labelled[tile_id] * surplus + whole) // (2 * whole)
    # Equal fractions are equal as floats, others differ, up to tiles of 2^25 pixels.
    queue = [((2 * budgets[tile_id] + 1) / labelled[tile_id], tile_id) for tile_id in tile_ids]
    heapq.heapify(queue)
    for _ in range(points - sum(budgets.values())):
        tile_id = queue[0][1]
        budgets[tile_id] += 1
        heapq.heapreplace(queue, ((2 * budgets[tile_id] + 1) / labelled[tile_id], tile_id))
    return budgets


UNITS: Final[dict[str, Unit]] = {
    "per_tile": per_tile,
    "per_class": per_class,
    "percent": percent,
    "total": total,
}
