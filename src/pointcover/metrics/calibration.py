"""Compute calibration: whether the confidence of predictions equals their accuracy."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX

BINS: Final = 15
"""As in Guo et al. and most later publications."""

_STEPS: Final = 1024
_LEVELS: Final = BINS * _STEPS

_ROUNDING: Final = 1e-4
"""Tolerance for means of float32 probabilities above 1."""

ConfidenceCounts = npt.NDArray[np.int64]
"""(2, levels): number of wrong and of correct pixels by confidence, in levels much finer than the
bins. Counts are integers, so their sum is the same in any order and on any device."""


class Bin(NamedTuple):
    """A bin of confidence with at least one pixel."""

    low: float
    high: float
    pixels: int
    confidence: float
    """Mean confidence of the pixels."""
    accuracy: float
    """Fraction of the pixels with a correct prediction."""


def no_counts() -> ConfidenceCounts:
    """Return counts of zero, (2, levels) int64."""
    return np.zeros((2, _LEVELS), np.int64)


def count_confidences(confidence: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
    """Count labelled pixels by confidence, the wrong and the correct ones.

    Args:
        confidence: (B, H, W) float32, the probability of the predicted class.
        prediction: (B, H, W) uint8 class ids.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.

    Returns:
        (2, levels) int64 on the device of `mask`; see ConfidenceCounts.

    Raises:
        ValueError: a confidence is not a number from 0 to 1.
    """
    if not confidence.numel():
        return torch.zeros((2, _LEVELS), dtype=torch.int64, device=mask.device)
    least, most = confidence.aminmax()
    if not (bool(least >= 0) and bool(most <= 1 + _ROUNDING)):  # True for NaN, too
        raise ValueError(
            "the network predicts probabilities that are not numbers from 0 to 1: its weights are "
            "damaged or its training diverged; see metrics/curves.csv, and train again"
        )
    # Bins and levels include their upper end, and exclude their lower end.
    levels = confidence.mul(_LEVELS).ceil_().int().clamp_(1, _LEVELS).sub_(1)
    levels.add_((prediction == mask).int(), alpha=_LEVELS)
    levels.masked_fill_(mask == IGNORE_INDEX, 2 * _LEVELS)
    return torch.bincount(levels.flatten(), minlength=2 * _LEVELS + 1)[:-1].view(2, _LEVELS)


def reliability(counts: ConfidenceCounts) -> list[Bin]:
    """Return the bins of the reliability diagram that hold pixels.

    Mean confidences are computed from the levels' middles, so their error is at most
    1 / (2 · 15 · 1024).
    """
    middles = (np.arange(_LEVELS) + 0.5) / _LEVELS
    pixels = counts.sum(axis=0).reshape(BINS, _STEPS)
    right = counts[1].reshape(BINS, _STEPS).sum(axis=1)
    sums = (pixels * middles.reshape(BINS, _STEPS)).sum(axis=1)
    totals = pixels.sum(axis=1)
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(totals[number]),
            float(sums[number] / totals[number]),
            float(right[number] / totals[number]),
        )
        for number in np.flatnonzero(totals).tolist()
    ]


def expected_calibration_error(bins: list[Bin]) -> float | None:
    """Return the mean difference of confidence and accuracy over pixels; None without pixels.

    This is the ECE of Guo et al. (On calibration of modern neural networks, ICML 2017), with 15
    bins of equal width.
    """
    total = sum(entry.pixels for entry in bins)
    if not total:
        return None
    return sum(abs(entry.confidence - entry.accuracy) * entry.pixels for entry in bins) / total
