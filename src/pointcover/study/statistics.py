"""Compute a study's statistics: means with intervals, label efficiency, and differences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import isotonic_regression

LEVEL = 0.95
RESAMPLES = 2000
Scores = Mapping[float, Mapping[int, float]]
"""mIoU by clicks per tile, then by seed."""


@dataclass(frozen=True)
class Interval:
    """A value with a 95 % confidence interval; its ends are None for a single value."""

    value: float
    low: float | None
    high: float | None
    count: int
    """Number of values."""

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, the number after ±."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its 95 % interval (t distribution); one value has no interval.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("got no values, wanted at least one: leave out rows without a score")
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, len(values))


def ratio_interval(scores: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """Return the mean ratio of a score to the reference's of the same seed; None without pairs."""
    ratios = [scores[seed] / reference[seed] for seed in scores if reference.get(seed)]
    return mean_interval(ratios) if ratios else None


def noise_floor(cells: Sequence[Sequence[float]]) -> float | None:
    """Return the pooled standard deviation of scores that differ only in the seed.

    Args:
        cells: the scores of all seeds, for each configuration.

    Returns:
        the root of the pooled variance; None if no configuration has two seeds.
    """
    squares = sum(float(np.var(cell, ddof=1)) * (len(cell) - 1) for cell in cells if len(cell) > 1)
    freedom = sum(len(cell) - 1 for cell in cells if len(cell) > 1)
    return math.sqrt(squares / freedom) if freedom else None


@dataclass(frozen=True)
class Needed:
    """Clicks per tile that a fraction of the dense model's mIoU needs.

    Values above the largest budget are infinite, values below the smallest one 0.
    """

    clicks: float
    low: float | None
    high: float | None


def clicks_needed(
    scores: Scores, dense: Mapping[int, float], fraction: float, generator: np.random.Generator
) -> Needed | None:
    """Return the clicks per tile that reach a fraction of the dense model's mean mIoU.

    Isotonic regression makes mean scores increase with clicks. They are interpolated linearly in
    the logarithm of clicks. The interval is a bootstrap interval over seeds, with the same seeds
    for method and reference if they are paired.

    Args:
        scores: of the method.
        dense: the reference's scores by seed.
        fraction: 0.9 for N90.
        generator: draws the resamples.

    Returns:
        None if there is no reference, only one budget, or no seed that all budgets have.
    """
    if not dense or len(scores) < 2:
        return None
    clicks = np.array(sorted(scores))
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    if not seeds:
        return None
    table = np.array([[scores[budget][seed] for seed in seeds] for budget in clicks])
    reference = np.array(list(dense.values()))
    value = _crossing(clicks, table.mean(axis=1), fraction * reference.mean())
    if len(seeds) < 2 or len(reference) < 2:
        return Needed(value, None, None)
    paired = set(seeds) == set(dense)
    if paired:
        reference = np.array([dense[seed] for seed in seeds])

    @cache  # few seeds have few distinct resamples
    def crossing(drawn: tuple[int, ...], drawn_dense: tuple[int, ...]) -> float:
        means = table[:, list(drawn)].mean(axis=1)
        return _crossing(clicks, means, fraction * reference[list(drawn_dense)].mean())

    crossings = []
    for _ in range(RESAMPLES):
        drawn = _draw(len(seeds), generator)
        crossings.append(crossing(drawn, drawn if paired else _draw(len(reference), generator)))
    crossings.sort()
    edge = int((1 - LEVEL) / 2 * RESAMPLES)
    return Needed(value, crossings[edge], crossings[-edge - 1])


def _draw(count: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Draw a sorted bootstrap resample of `count` indices."""
    return tuple(sorted(generator.integers(0, count, count).tolist()))


def _crossing(
    clicks: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], target: float
) -> float:
    """Return the clicks where scores reach a target: 0 below the first, inf above the last."""
    rising = isotonic_regression(scores).x
    if rising[0] >= target:
        return 0.0
    if rising[-1] < target:
        return math.inf
    after = int(np.argmax(rising >= target))
    low, high = rising[after - 1], rising[after]
    along = (target - low) / (high - low)
    first, last = math.log(clicks[after - 1]), math.log(clicks[after])
    return math.exp(first + along * (last - first))


def area_under_curve(scores: Mapping[float, float]) -> float | None:
    """Return the mean mIoU over log(clicks), by the trapezoidal rule; None for one budget.

    Args:
        scores: mean mIoU by clicks per tile.
    """
    if len(scores) < 2:
        return None
    clicks = sorted(scores)
    places = np.log(clicks)
    area = float(np.trapezoid([scores[budget] for budget in clicks], places))
    return area / float(places[-1] - places[0])


@dataclass(frozen=True)
class Difference:
    """Difference between two methods, over the budgets and seeds that both have."""

    better: str
    than: str
    difference: Interval
    p_value: float | None
    """Of a paired t-test over seeds; None if there are fewer than two."""
    holm: float | None
    """p-value after Holm's correction for multiple comparisons."""
    floor: float | None
    """Standard error of the difference, computed from the pooled noise between seeds."""

    @property
    def verdict(self) -> str:
        """Conclusion from p-value and noise."""
        if self.holm is None:
            return "one seed: not known"
        if self.floor is not None and abs(self.difference.value) < self.floor:
            return "n.s. (below the noise)"
        if self.holm >= 1 - LEVEL:
            return "n.s."
        return "better" if self.difference.value > 0 else "worse"


def compare(
    scores: Mapping[str, Mapping[float, Mapping[int, float]]],
    pairs: Sequence[tuple[str, str]],
    floor: float | None,
) -> list[Difference]:
    """Compare pairs of methods.

    For each seed the differences are averaged over the budgets that both methods have, since
    budgets of one seed have clicks in common and are not independent. The test is over seeds.

    Args:
        scores: by method, budget (points) and seed.
        pairs: (better, than); those without a common budget and seed are left out.
        floor: the noise between seeds, for one experiment.

    Returns:
        the differences, with p-values corrected over all of them (Holm 1979).
    """
    found: list[tuple[str, str, list[float], int]] = []
    for better, than in pairs:
        budgets = sorted(set(scores.get(better, {})) & set(scores.get(than, {})))
        cells = [(scores[better][budget], scores[than][budget]) for budget in budgets]
        if cells:
            seeds = sorted(set.intersection(*(set(a) & set(b) for a, b in cells)))
            if seeds:
                gaps = [float(np.mean([a[seed] - b[seed] for a, b in cells])) for seed in seeds]
                found.append((better, than, gaps, len(cells)))
    p_values = [_paired_p(gaps) for _, _, gaps, _ in found]
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [
        Difference(
            better,
            than,
            mean_interval(gaps),
            p,
            None if p is None else next(corrected),
            None if floor is None else floor * math.sqrt(2 / (len(gaps) * budgets)),
        )
        for (better, than, gaps, budgets), p in zip(found, p_values, strict=True)
    ]


def _paired_p(gaps: Sequence[float]) -> float | None:
    if len(gaps) < 2:
        return None
    if np.ptp(gaps) == 0:  # no variance: the test would divide by 0
        return 1.0 if gaps[0] == 0 else 0.0
    return float(stats.ttest_1samp(gaps, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests (Holm 1979, Scandinavian Journal of Statistics 6:65-70).

    Args:
        p_values: of the single tests.

    Returns:
        the corrected p-values in the same order, at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    raised = [(count - rank) * p_values[place] for rank, place in enumerate(order)]
    rising = itertools.accumulate(raised, max)
    corrected = [0.0] * count
    for place, value in zip(order, rising, strict=True):
        corrected[place] = min(1.0, value)
    return corrected
