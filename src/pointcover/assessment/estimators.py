"""Estimators of accuracy and area from stratified random samples.

Every number is a ratio of two stratified means (Stehman 2014, equations 27 and 28). Where strata
are map classes these are the estimators of Olofsson et al. (2014); where a simple random sample is
stratified by the map's classes afterwards, they are the poststratified ones. Units of unequal area
(pixels in degrees, blocks at an edge) are weighted by their area within the stratum, whose own area
is known.

References:
    Olofsson, P. et al. (2014). Good practices for estimating area and assessing accuracy of land
    change. Remote Sensing of Environment 148, 42-57.
    Stehman, S. V. (2014). Estimating area and map accuracy for stratified random sampling when the
    strata are different from the map classes. International Journal of Remote Sensing 35,
    4923-4939.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Z95: Final = 1.96
"""Quantile of the normal distribution for intervals of 95 %, rounded as in the papers."""

NO_DATA: Final = -1
"""Map class of a unit where the map has no data."""

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Indicator = Callable[["StratumSample"], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class StratumSample:
    """The labelled units of one stratum."""

    name: str
    units: int
    """How many units the stratum has."""
    area: float
    """Of all its units."""
    map_ids: Ids
    """(n,) class of each labelled unit in the map, or NO_DATA."""
    reference_ids: Ids
    """(n,) class that was labelled."""
    areas: Floats
    """(n,) of each labelled unit."""

    def __len__(self) -> int:
        """Count the labelled units."""
        return len(self.map_ids)

    @property
    def is_census(self) -> bool:
        """Return whether every unit was labelled."""
        return len(self) >= self.units

    @cached_property
    def weights(self) -> Floats:
        """(n,) areas of the units, 1 on average."""
        return np.asarray(self.areas / self.areas.mean(), np.float64)

    def mean(self, values: npt.NDArray[Any]) -> float:
        """Return the mean of (n,) values over the area."""
        return float(np.mean(self.weights * values))

    def variance(self, values: Floats, *, finite: bool) -> float:
        """Return the variance of that mean; 0 of one unit, which nobody can know."""
        n = len(self)
        if n < 2:
            return 0.0
        squares = float(np.sum((self.weights * (values - self.mean(values))) ** 2))
        drawn = n / self.units if finite else 0.0
        return max(0.0, 1 - drawn) * squares / (n * (n - 1))


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated from a sample."""

    value: float
    standard_error: float | None
    """None where a stratum of one labelled point leaves it unknown."""

    @property
    def half_width(self) -> float | None:
        """Return half the width of the interval of 95 %."""
        return None if self.standard_error is None else Z95 * self.standard_error

    def scaled(self, factor: float) -> "Estimate":
        """Return it in another unit."""
        error = self.standard_error
        return Estimate(self.value * factor, None if error is None else error * factor)


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a sample says of a map."""

    counts: Ids
    """(K, K) labelled units, rows by map class, columns by reference class."""
    proportions: Floats
    """(K, K) of the area that the map covers."""
    overall: Estimate
    users: list[Estimate | None]
    """User's accuracy by class; None where no point lies on the class in the map."""
    producers: list[Estimate | None]
    """Producer's accuracy by class; None where no point was labelled as the class."""
    f1: list[Estimate | None]
    areas: list[Estimate]
    """By class, in the unit of the strata's areas."""


def estimate(
    strata: Sequence[StratumSample],
    classes: int,
    *,
    strata_of_classes: Mapping[int, int] = MappingProxyType({}),
    finite_population: bool = True,
) -> Estimates:
    """Estimate the accuracy of a map and the areas of the classes.

    Args:
        strata: every stratum, each with a labelled unit at least.
        classes: how many classes there are.
        strata_of_classes: number of the stratum that holds all units of a class in the map, by
            class, where there is such: then a stratum with one point leaves the user's accuracy of
            other classes known.
        finite_population: reduce variances by the proportion of a stratum that was labelled. The
            papers leave this out, as it is nothing where strata have millions of pixels.

    Raises:
        ValueError: a stratum has no labelled unit, or the map has data at none of them.
    """
    empty = [stratum.name for stratum in strata if not len(stratum)]
    if empty:
        raise ValueError(
            f"no labelled point in stratum {', '.join(map(repr, empty))}, so nothing is known of "
            f"its area: label some of its points"
        )
    calculator = _Calculator(strata, finite_population)
    overall = calculator.ratio(lambda s: s.map_ids == s.reference_ids, _has_data)
    if overall is None:
        raise ValueError("the map has no data at any labelled point: give the map that they are of")
    pairs = np.zeros((classes, classes), np.int64)
    for stratum in strata:
        known = stratum.map_ids != NO_DATA
        np.add.at(pairs, (stratum.map_ids[known], stratum.reference_ids[known]), 1)
    covered = calculator.total(_has_data)
    proportions = np.array(
        [
            [
                calculator.total(_is_pair(i, j)) / covered if pairs[i, j] else 0.0
                for j in range(classes)
            ]
            for i in range(classes)
        ]
    )
    ids = range(classes)
    return Estimates(
        pairs,
        proportions,
        overall,
        users=[
            calculator.ratio(_is_pair(k, k), _is_mapped(k), strata_of_classes.get(k)) for k in ids
        ],
        producers=[calculator.ratio(_is_pair(k, k), _is_reference(k)) for k in ids],
        f1=[calculator.ratio(_twice(k), _either(k)) for k in ids],
        areas=[calculator.area(_is_reference(k)) for k in ids],
    )


class _Calculator:
    """Stratified totals and their ratios."""

    def __init__(self, strata: Sequence[StratumSample], finite: bool) -> None:
        self._strata, self._finite = strata, finite

    def total(self, indicator: Indicator) -> float:
        return sum(s.area * s.mean(np.asarray(indicator(s))) for s in self._strata)

    def area(self, indicator: Indicator) -> Estimate:
        squares = sum(
            s.area**2 * s.variance(np.asarray(indicator(s), np.float64), finite=self._finite)
            for s in self._strata
        )
        return Estimate(self.total(indicator), self._error(squares, None))

    def ratio(self, above: Indicator, below: Indicator, only: int | None = None) -> Estimate | None:
        """Return a ratio of two totals; None where the lower one is 0.

        Args:
            above: what is counted.
            below: of which.
            only: the one stratum that can hold any of it; None where all may.
        """
        whole = self.total(below)
        if not whole > 0:
            return None
        value = self.total(above) / whole
        squares = 0.0
        for stratum in self._strata:
            rest = np.asarray(above(stratum), np.float64) - value * np.asarray(below(stratum))
            squares += stratum.area**2 * stratum.variance(rest, finite=self._finite)
        return Estimate(value, self._error(squares / whole**2, only))

    def _error(self, variance: float, only: int | None) -> float | None:
        strata = self._strata if only is None else [self._strata[only]]
        if any(len(stratum) < 2 and not stratum.is_census for stratum in strata):
            return None
        return float(np.sqrt(variance))


def _has_data(stratum: StratumSample) -> npt.NDArray[np.bool_]:
    return np.asarray(stratum.map_ids != NO_DATA)


def _is_pair(map_id: int, reference_id: int) -> Indicator:
    return lambda s: (s.map_ids == map_id) & (s.reference_ids == reference_id)


def _is_mapped(class_id: int) -> Indicator:
    return lambda s: s.map_ids == class_id


def _is_reference(class_id: int) -> Indicator:
    return lambda s: (s.reference_ids == class_id) & _has_data(s)


def _twice(class_id: int) -> Indicator:
    return lambda s: 2 * ((s.map_ids == class_id) & (s.reference_ids == class_id))


def _either(class_id: int) -> Indicator:
    return lambda s: (
        (s.map_ids == class_id).astype(np.int64)
        + ((s.reference_ids == class_id) & _has_data(s)).astype(np.int64)
    )
