"""Intervals: how far mIoU would move with other tiles, or other regions, of the same kind."""

from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.metrics.confusion import Confusion

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
LEAST_UNITS: Final = 5
"""Of two or three regions the bootstrap's interval is far too narrow: 0.297 to 0.309 was one."""
_CELLS: Final = 1 << 22
"""Resamples are drawn in parts with at most so many numbers."""


def miou_interval(
    confusions: Confusion,
    scored: npt.NDArray[np.bool_],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of mIoU, 95 %, over units such as tiles or regions.

    As many units are drawn, with replacement, as there are, their confusion matrices are added and
    mIoU is computed from the sum, again and again; the interval leaves out 2.5 % of these values on
    either side (Efron and Tibshirani, An introduction to the bootstrap, 1993, the percentile
    interval). A class that a resample lacks is left out of its mean. Units without a labelled pixel
    are none.

    Args:
        confusions: (units, C, C) int64, rows true.
        scored: (C,) bool, the classes in the mean.
        generator: draws the units.
        resamples: how often.

    Returns:
        Both ends, or None where fewer than LEAST_UNITS units hold labelled pixels.
    """
    units = confusions[confusions.sum(axis=(1, 2)) > 0]
    count = len(units)
    if count < LEAST_UNITS:
        return None
    # In float64, whose matrix product is fast and exact: every sum is a whole number below 2⁵³.
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
    """Compute the mIoU of each matrix: (n, C, C) → (n,), NaN where no class has a value."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    unions = confusions.sum(axis=1) + confusions.sum(axis=2) - hits
    known = (unions > 0) & scored
    ious = np.divide(hits, unions, out=np.zeros_like(hits), where=known)
    counts = known.sum(axis=1)
    means = np.full(len(counts), np.nan)
    np.divide(ious.sum(axis=1), counts, out=means, where=counts > 0)
    return means
