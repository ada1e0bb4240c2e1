"""What a study's numbers say: means with intervals, clicks for a share of dense, differences."""

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
"""mIoU by clicks per tile and, below that, by seed."""


@dataclass(frozen=True)
class Interval:
    """A value with a 95 % confidence interval; without bounds where they cannot be known."""

    value: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """Half the interval: what stands after ±."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean and Student's 95 % interval for it; one value alone has no interval.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a mean of no values is asked for: leave rows without a score out")
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, len(values))


def share_interval(scores: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """Return the mean share of the reference's score, seed by seed; None where no seed has both."""
    shared = [scores[seed] / reference[seed] for seed in scores if reference.get(seed)]
    return mean_interval(shared) if shared else None


def noise_floor(cells: Sequence[Sequence[float]]) -> float | None:
    """Pool the standard deviation of scores that differ in nothing but the seed.

    Args:
        cells: of each configuration the scores of its seeds.

    Returns:
        The root of the pooled variance; None where no configuration has two seeds.
    """
    squares = sum(float(np.var(cell, ddof=1)) * (len(cell) - 1) for cell in cells if len(cell) > 1)
    freedom = sum(len(cell) - 1 for cell in cells if len(cell) > 1)
    return math.sqrt(squares / freedom) if freedom else None


@dataclass(frozen=True)
class Needed:
    """How many clicks per tile a share of the dense model's mIoU takes.

    A bound that lies outside the budgets that were run is infinite above and 0 below.
    """

    clicks: float
    low: float | None
    high: float | None


def clicks_needed(
    scores: Scores, dense: Mapping[int, float], share: float, generator: np.random.Generator
) -> Needed | None:
    """Return how many clicks per tile reach a share of the dense model's mean mIoU.

    Mean scores are made to rise with clicks (isotonic regression) and interpolated along the
    logarithm of clicks. The interval is the bootstrap's over seeds, those of the method and of the
    reference together.

    Args:
        scores: of the method, two budgets at least.
        dense: the reference's scores by seed.
        share: 0.9 for N90.
        generator: draws the resamples.

    Returns:
        None where there is no reference, or one budget alone.
    """
    if not dense or len(scores) < 2:
        return None
    clicks = np.array(sorted(scores))
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    if not seeds:
        return None
    table = np.array([[scores[budget][seed] for seed in seeds] for budget in clicks])
    reference = np.array(list(dense.values()))
    value = _crossing(clicks, table.mean(axis=1), share * reference.mean())
    if len(seeds) < 2 or len(reference) < 2:
        return Needed(value, None, None)
    paired = set(seeds) == set(dense)
    if paired:
        reference = np.array([dense[seed] for seed in seeds])

    @cache  # few seeds have few resamples
    def crossing(drawn: tuple[int, ...], drawn_dense: tuple[int, ...]) -> float:
        means = table[:, list(drawn)].mean(axis=1)
        return _crossing(clicks, means, share * reference[list(drawn_dense)].mean())

    crossings = []
    for _ in range(RESAMPLES):
        drawn = _draw(len(seeds), generator)
        crossings.append(crossing(drawn, drawn if paired else _draw(len(reference), generator)))
    crossings.sort()
    edge = int((1 - LEVEL) / 2 * RESAMPLES)
    return Needed(value, crossings[edge], crossings[-edge - 1])


def _draw(count: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Draw a resample of so many, in order."""
    return tuple(sorted(generator.integers(0, count, count).tolist()))


def _crossing(
    clicks: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], target: float
) -> float:
    """Find where rising scores reach the target: 0 before the first budget, infinite after all."""
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
    """Average mIoU along the logarithm of clicks (trapezoids); None for one budget alone.

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
    """How much better one method is than another, over the budgets and seeds that both have."""

    better: str
    than: str
    difference: Interval
    p_value: float | None
    """Of a paired t-test over seeds; None where there are not two."""
    holm: float | None
    """The same, corrected for the number of comparisons."""
    floor: float | None
    """How far apart chance alone would bring the two: one standard error, from the pooled noise."""

    @property
    def verdict(self) -> str:
        """Return what one may believe."""
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
    """Compare methods pair by pair.

    Budgets that both have are averaged seed by seed, for budgets of one seed share their clicks
    and are no independent witnesses; the test is over the seeds.

    Args:
        scores: by method, budget (points) and seed.
        pairs: (better, than); those without a common budget and seed are left out.
        floor: the noise between seeds, for one experiment.

    Returns:
        Differences, with p-values corrected over all of them (Holm 1979).
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
    if np.ptp(gaps) == 0:  # no spread at all: the test would divide by it
        return 1.0 if gaps[0] == 0 else 0.0
    return float(stats.ttest_1samp(gaps, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979, Scandinavian Journal of Statistics 6:65-70).

    Args:
        p_values: of the single tests.

    Returns:
        The corrected ones, in the same order, 1 at most.
    """
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    raised = [(count - rank) * p_values[place] for rank, place in enumerate(order)]
    rising = itertools.accumulate(raised, max)
    corrected = [0.0] * count
    for place, value in zip(order, rising, strict=True):
        corrected[place] = min(1.0, value)
    return corrected
