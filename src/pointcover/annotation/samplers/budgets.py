"""What `points` counts: how many clicks each tile gets.

A unit takes `points` and the labelled pixels of every tile by its id, and returns the budget of
every tile by its id. Budgets never fall when `points` grows, in any tile.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Final

from pointcover.annotation.samplers.annotator import Annotator

Unit = Callable[[int, Mapping[str, int]], dict[str, int]]


def per_tile(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return every tile `points` clicks."""
    return dict.fromkeys(labelled, points)


def per_class(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return every tile `points` clicks for each class in it.

    "k points per class per tile" is how studies of land cover from points, on Potsdam and
    elsewhere, simulate their annotator. It is kinder than a real one: it tells which classes are
    in the tile, and it multiplies the label share of rare ones (on LandCover.ai tiles buildings
    by 10.3, roads by 11.6, measured), so that a model learns class shares that are not the land's.
    """
    return dict.fromkeys(labelled, points)


def percent(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return every tile `points` % of its labelled pixels, rounded down, but one click at least."""
    return {tile_id: max(1, points * pixels // 100) for tile_id, pixels in labelled.items()}


def total(points: int, labelled: Mapping[str, int]) -> dict[str, int]:
    """Divide `points` clicks among all tiles by their labelled pixels.

    Webster's method, also called Sainte-Laguë's: the next click goes to the tile with the greatest
    p / (2n + 1), where p are its labelled pixels and n the clicks that it has; of equals, to the
    first id in order. No tile loses a click when `points` grows (Balinski and Young, Fair
    Representation, 1982), none gets more clicks than it has pixels, and with fewer clicks than
    tiles some get none.
    """
    budgets = dict.fromkeys(labelled, 0)
    tile_ids = [tile_id for tile_id, pixels in labelled.items() if pixels > 0]
    whole = sum(labelled[tile_id] for tile_id in tile_ids)
    points = min(points, whole)
    # Rounding p · s / (2 · whole), s = 2 · points - tiles, serves all tiles down to one and the
    # same p / (2n + 1), and cannot give out too many clicks, as each tile gains ½ at most. What is
    # left, one click a tile at most on average, goes out one by one.
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


def tile_budgets(annotator: Annotator, labelled: Mapping[str, int]) -> dict[str, int]:
    """Return how many clicks each tile gets; with the unit `per_class`, each class in it.

    Args:
        annotator: the settings; `unit` and `points` matter here.
        labelled: the number of labelled pixels of every tile that is annotated, by tile id.

    Raises:
        ValueError: `unit` is not a key of UNITS.
    """
    if annotator.unit not in UNITS:
        raise ValueError(f"got unit={annotator.unit!r}, wanted one of {', '.join(UNITS)}")
    return UNITS[annotator.unit](annotator.points, labelled)
