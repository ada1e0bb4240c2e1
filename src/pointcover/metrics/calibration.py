"""Calibration: whether pixels of which a network is 80 % sure are right in 80 of 100 cases."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX

BINS: Final = 15
"""As in Guo et al. and most of what was published since."""

_STEPS: Final = 1024
_LEVELS: Final = BINS * _STEPS

_ROUNDING: Final = 1e-4
"""A mean of float32 probabilities may pass 1 by less."""

ConfidenceCounts = npt.NDArray[np.int64]
"""(2, levels): wrong and right pixels by confidence, in levels far finer than the bins. Counts are
whole numbers, so their sum is the same in any order and on any device."""


class Bin(NamedTuple):
    """The pixels whose confidence lies in a bin; there are some."""

    low: float
    high: float
    pixels: int
    confidence: float
    """Their mean."""
    accuracy: float


def no_counts() -> ConfidenceCounts:
    """Return the counts of no pixel."""
    return np.zeros((2, _LEVELS), np.int64)


def count_confidences(confidence: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
    """Count labelled pixels by confidence, right and wrong ones.

    Args:
        confidence: (B, H, W) float32, the probability of the predicted class.
        prediction: (B, H, W) uint8 class ids.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.

    Returns:
        (2, levels) int64 on the device of `mask`, as ConfidenceCounts.

    Raises:
        ValueError: a confidence is no number from 0 to 1.
    """
    if not confidence.numel():
        return torch.zeros((2, _LEVELS), dtype=torch.int64, device=mask.device)
    least, most = confidence.aminmax()
    if not (bool(least >= 0) and bool(most <= 1 + _ROUNDING)):  # as NaN is not
        raise ValueError(
            "the network gives probabilities that are no numbers from 0 to 1: its weights are "
            "damaged or its training diverged; look at metrics/curves.csv, and train again"
        )
    # Bins hold their upper end and not the lower one, and so do levels.
    levels = confidence.mul(_LEVELS).ceil_().int().clamp_(1, _LEVELS).sub_(1)
    levels.add_((prediction == mask).int(), alpha=_LEVELS)
    levels.masked_fill_(mask == IGNORE_INDEX, 2 * _LEVELS)
    return torch.bincount(levels.flatten(), minlength=2 * _LEVELS + 1)[:-1].view(2, _LEVELS)


def reliability(counts: ConfidenceCounts) -> list[Bin]:
    """Return the bins of the reliability curve that hold pixels.

    Mean confidences are those of the levels' middles: right to 1 / (2 · 15 · 1024).
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
    """Average the gap between confidence and accuracy over the pixels; None without a pixel.

    Guo et al. (On calibration of modern neural networks, ICML 2017), 15 bins of equal width.
    """
    total = sum(entry.pixels for entry in bins)
    if not total:
        return None
    return sum(abs(entry.confidence - entry.accuracy) * entry.pixels for entry in bins) / total
