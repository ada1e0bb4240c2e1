"""How many points a sample needs for an interval of a wanted width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.assessment.estimators import Z95

MOST_POINTS: Final = 1_000_000

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expectation:
    """What is expected of the strata before a point is labelled."""

    weights: Floats
    """(H,) their proportion of the area."""
    deviations: Floats
    """(H,) standard deviation of what is estimated."""

    def half_width(self, points: Counts) -> float:
        """Return half the width of the interval of 95 % that is expected of so many points."""
        squares = (self.weights * self.deviations) ** 2
        return float(Z95 * np.sqrt((squares / np.maximum(points, 1)).sum()))


def expect_overall(areas_m2: Floats, accuracy: float) -> Expectation:
    """Return what is expected of the overall accuracy.

    Args:
        areas_m2: (H, K) by stratum and class of the map.
        accuracy: user's accuracy that is expected of every class.
    """
    weights = areas_m2.sum(axis=1) / areas_m2.sum()
    return Expectation(weights, np.full(len(weights), np.sqrt(accuracy * (1 - accuracy))))


def expect_area(areas_m2: Floats, accuracy: float, class_id: int) -> Expectation:
    """Return what is expected of the proportion of the area that a class has.

    Errors of a class are expected to be of the other classes in proportion to their areas.
    """
    by_class = areas_m2.sum(axis=0) / areas_m2.sum()
    others = np.maximum(1 - by_class, 1e-12)
    chances = (1 - accuracy) * by_class[class_id] / others
    chances[class_id] = accuracy
    in_stratum = areas_m2 / np.maximum(areas_m2.sum(axis=1, keepdims=True), 1e-12)
    means = np.clip(in_stratum @ chances, 0, 1)
    return Expectation(areas_m2.sum(axis=1) / areas_m2.sum(), np.sqrt(means * (1 - means)))


def points_for(
    expected: Expectation, half_width: float, allocate: Callable[[int], Counts], fewest: int
) -> int:
    """Return the fewest points that give an interval no wider than is wanted.

    Args:
        expected: of what is estimated.
        half_width: wanted, of a proportion of the area.
        allocate: points to strata.
        fewest: points that can be allocated.

    Raises:
        ValueError: it takes more points than there are units, or than MOST_POINTS.
    """
    low, high = fewest, fewest
    while expected.half_width(allocate(high)) > half_width:
        low, high = high, high * 2
        if high > MOST_POINTS:
            raise ValueError(
                f"a half-width of {half_width:g} of the area takes more than {MOST_POINTS} points: "
                f"ask for a wider interval"
            )
    while low < high:
        middle = (low + high) // 2
        if expected.half_width(allocate(middle)) > half_width:
            low = middle + 1
        else:
            high = middle
    return high
