"""Whole points for strata, by an allocation and a minimum."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def allocate(wished: Floats, units: Sequence[int], points: int, minimum: int) -> Counts:
    """Allocate points to strata.

    Args:
        wished: (H,) values that are proportional to the points, without regard to the rest.
        units: how many units each stratum has; none gets more points.
        points: how many points, of all strata together.
        minimum: fewest points of a stratum; all units of one that has fewer.

    Returns:
        (H,) points of each stratum; their sum is `points`.

    Raises:
        ValueError: there are fewer points than the minimum of all strata, or fewer units.
    """
    available = np.asarray(units, np.int64)
    least = np.minimum(available, minimum)
    if points < least.sum():
        raise ValueError(
            f"{points} points are too few for {len(available)} strata with a minimum of {minimum} "
            f"each, which are {least.sum()}: take more points (--points), or lower --minimum"
        )
    if points > available.sum():
        raise ValueError(
            f"{points} points are more than the {available.sum()} units of the map: take fewer"
        )
    allocation = np.zeros(len(available))
    free = np.ones(len(available), bool)
    values = wished if (wished * (available > 0)).sum() > 0 else available.astype(np.float64)
    # Strata at their minimum or whole are fixed; the others have what is left between them.
    while free.any():
        left = points - allocation[~free].sum()
        total = values[free].sum()
        parts = left * values[free] / total if total > 0 else np.zeros(free.sum())
        allocation[free] = parts
        low, high = allocation < least, allocation > available
        excess = (allocation - available)[high & free].sum() - (least - allocation)[
            low & free
        ].sum()
        fixed = free & (high if excess > 0 else low)
        if excess == 0:
            fixed = free & (high | low)
        if not fixed.any():
            break
        allocation[fixed] = np.clip(allocation, least, available)[fixed]
        free &= ~fixed
    return _round(np.clip(allocation, least, available), least, available, points)


def _round(allocation: Floats, least: Counts, available: Counts, points: int) -> Counts:
    """Round to whole points by the largest remainder, within what each stratum may have."""
    counts = np.floor(allocation + 1e-9).astype(np.int64)
    order = np.argsort(-(allocation - counts), kind="stable")
    while counts.sum() != points:
        step = 1 if counts.sum() < points else -1
        for h in order[::step]:
            if least[h] <= counts[h] + step <= available[h] and counts.sum() != points:
                counts[h] += step
    return counts
