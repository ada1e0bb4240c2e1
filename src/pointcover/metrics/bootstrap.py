"""Compute bootstrap confidence intervals of mIoU over tiles or regions."""

from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.metrics.confusion import Confusion

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
LEAST_UNITS: Final = 5
"""Minimum number of units: with two or three, the interval is far too narrow (one was 0.297 to
0.309)."""
_CELLS: Final = 1 << 22
"""Maximum number of random numbers that are drawn at a time."""


def miou_interval(
    confusions: Confusion,
    scored: npt.NDArray[np.bool_],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of mIoU over units such as tiles or regions.

    Each resample draws as many units as there are, with replacement, adds their confusion matrices,
    and computes mIoU from the sum. The ends of the interval are the 2.5th and 97.5th percentile of
    these values (Efron and Tibshirani, An introduction to the bootstrap, 1993). A class without
    pixels in a resample is left out of its mean. Units without labelled pixels are left out.

    Args:
        confusions: (units, C, C) int64; rows are true classes.
        scored: (C,) bool, the classes in the mean.
        generator: draws the units.
        resamples: number of resamples.

    Returns:
        both ends, or None if fewer than LEAST_UNITS units hold labelled pixels.
    """
    units = confusions[confusions.sum(axis=(1, 2)) > 0]
    count = len(units)
    if count < LEAST_UNITS:
        return None
    # In float64 the matrix product is fast, and exact, since all sums are integers below 2⁵³.
    flat = units.reshape(count, -1).astype(np.float64)
    mious = []
    rows = max(1, _CELLS // count)
    for start in range(0, resamples, rows):
        draws = min(rows, resamples - start)
        chosen = generator.integers(0, count, (draws, count))
        chosen += count * np.arange(draws)[:, np.newaxis]
        times = np.bincount(chosen.ravel(), minlength=draws * count).reshape(draws, count)
        summed = (times.astype(np.float64) @ flat).reshape(draws, *units.shape[1:])
        mious.append(_mious(summed, scored))
    values = np.concatenate(mious)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values[~np.isnan(values)], [tail, 100 - tail])
    return float(low), float(high)


def _mious(
    confusions: npt.NDArray[np.float64], scored: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the mIoU of each matrix: (n, C, C) → (n,), NaN where no class has a value."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    unions = confusions.sum(axis=1) + confusions.sum(axis=2) - hits
    known = (unions > 0) & scored
    ious = np.divide(hits, unions, out=np.zeros_like(hits), where=known)
    counts = known.sum(axis=1)
    means = np.full(len(counts), np.nan)
    np.divide(ious.sum(axis=1), counts, out=means, where=counts > 0)
    return means
