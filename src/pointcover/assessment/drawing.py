"""Drawing: points of a population, at random and without replacement."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pointcover.assessment.class_maps import ClassMap
from pointcover.assessment.design import DesignPoint
from pointcover.assessment.population import Population
from pointcover.assessment.strata import Strata

Counts = npt.NDArray[np.int64]

ORDER_STREAM = 1_000
"""Stream of the generator that orders the points; strata have the numbers below."""


def draw_points(
    maps: Sequence[ClassMap],
    strata: Strata,
    population: Population,
    points: Counts,
    seed: int,
) -> list[DesignPoint]:
    """Draw units of each stratum, and order them at random.

    Only the windows that hold a drawn unit are read again. The points of a stratum hang on the
    seed, its number, its units and its points alone.

    Args:
        maps: of the population.
        strata: of the population.
        population: as it was counted.
        points: (H,) how many units to draw of each stratum.
        seed: of the generators.
    """
    sizes = population.units.sum(axis=1)
    drawn = [
        np.sort(np.random.default_rng([seed, h]).choice(sizes[h], points[h], replace=False))
        for h in range(len(sizes))
    ]
    passed = np.zeros(len(sizes), np.int64)
    found: list[tuple[int, int, int, int, float]] = []
    for number, window, counts in population.windows:
        inside = [
            ranks[np.searchsorted(ranks, start) : np.searchsorted(ranks, start + count)] - start
            for ranks, start, count in zip(drawn, passed, counts, strict=True)
        ]
        passed = passed + counts
        if not any(len(ranks) for ranks in inside):
            continue
        each = maps[number]
        units = each.units_of(each.read_ids(window), window)
        places = strata.read(each, window, units)
        first = int(window.row_off) // each.block_px, int(window.col_off) // each.block_px
        for h, ranks in enumerate(inside):
            if not len(ranks):
                continue
            rows, cols = np.unravel_index(np.flatnonzero(places == h)[ranks], places.shape)
            found += [
                (number, first[0] + int(row), first[1] + int(col), h, float(area))
                for row, col, area in zip(rows, cols, units.areas_m2[rows, cols], strict=True)
            ]
    order = np.random.default_rng([seed, ORDER_STREAM]).permutation(len(found))
    return [_place(maps, rank, *found[place]) for rank, place in enumerate(order, start=1)]


def _place(maps: Sequence[ClassMap], rank: int, *unit: int | float) -> DesignPoint:
    number, row, col, stratum, area_m2 = unit
    each = maps[int(number)]
    pixel = each.unit_pixel(int(row), int(col))
    x, y = each.info.transform @ (pixel[1] + 0.5, pixel[0] + 0.5)
    return DesignPoint(
        id=rank,
        map=int(number),
        row=int(row),
        col=int(col),
        stratum=int(stratum),
        area_m2=area_m2,
        x=x,
        y=y,
    )
