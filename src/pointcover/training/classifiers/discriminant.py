"""Fit a linear discriminant analysis, its shrinkage and temperature by cross-validation.

The covariance within classes contains how features differ between tiles and regions. Directions
that vary much there get little weight, so that scores carry over to images of other regions. The
weights of pixels in the covariance are the square roots of their weights.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve
from sklearn.model_selection import GroupKFold
from torch import Tensor

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.networks.pixel_classifiers.settings import LinearHeadSettings
from pointcover.training.classifiers.head_settings import LinearDiscriminantSettings
from pointcover.training.classifiers.labelled_pixels import Floats, LabelledPixels
from pointcover.training.classifiers.linear import CLIP, split_weight, standardise
from pointcover.training.classifiers.sample_weights import Weights

TEMPERATURES: Final = tuple(float(2 ** (step / 2)) for step in range(0, 13))
"""Scores are divided by one of these: with more features than pixels they are too large."""

_LEAST_PROBABILITY: Final = 1e-6
"""In cross-validation, so that one wrong pixel does not decide."""


@dataclass(frozen=True)
class _Sample:
    """Labelled pixels; the classes are numbered without gaps."""

    table: Floats
    classes: npt.NDArray[np.int64]
    weights: Weights
    count: int
    """Of the classes."""

    def part(self, rows: npt.NDArray[np.intp]) -> "_Sample":
        """Return some of the pixels."""
        return _Sample(self.table[rows], self.classes[rows], self.weights[rows], self.count)


@dataclass(frozen=True)
class _Moments:
    """What a discriminant analysis estimates."""

    priors: Weights
    """(classes,) fractions of the weight; 0 for a class without a label."""
    means: npt.NDArray[np.float64]
    """(classes, features)."""
    covariance: npt.NDArray[np.float64]
    """Within classes, (features, features)."""

    @classmethod
    def of(cls, sample: _Sample) -> "_Moments":
        """Estimate."""
        share = sample.weights / sample.weights.sum()
        priors = np.bincount(sample.classes, share, sample.count).astype(np.float64)
        joined = np.zeros((sample.count, len(share)), np.float32)
        joined[sample.classes, np.arange(len(share))] = share
        means = (joined @ sample.table) / np.maximum(priors, 1e-12)[:, None].astype(np.float32)
        # Between all pixels alike, and all classes alike, which rare classes would make noisy.
        roots = np.sqrt(sample.weights)
        scale = np.sqrt(roots / roots.sum()).astype(np.float32)
        rest = (sample.table - means[sample.classes]) * scale[:, None]
        return cls(priors, means.astype(np.float64), (rest.T @ rest).astype(np.float64))

    def solve(self, shrinkage: float) -> tuple[Floats, Floats]:
        """Return weights (classes, features) and biases (classes,) without priors."""
        count = len(self.covariance)
        shrunk = (1 - shrinkage) * self.covariance
        shrunk[np.diag_indices(count)] += shrinkage * max(np.trace(self.covariance) / count, 1e-6)
        weight = solve(shrunk, self.means.T, assume_a="pos").T
        bias = -0.5 * (weight * self.means).sum(axis=1)
        return weight.astype(np.float32), bias.astype(np.float32)

    def log_priors(self) -> Floats:
        """Return the logarithms of the fractions; of a class without a label NEVER."""
        logs = np.log(np.maximum(self.priors, 1e-12))
        return np.where(self.priors > 0, logs, NEVER).astype(np.float32)


def fit_discriminant(
    settings: LinearDiscriminantSettings, pixels: LabelledPixels, classes: int
) -> tuple[LinearHeadSettings, dict[str, Tensor]]:
    """Fit a linear discriminant analysis; nothing is drawn.

    Args:
        settings: of the fit.
        pixels: labelled ones, with all inputs.
        classes: of the class table; those without a label are never predicted.

    Returns:
        The settings of the head, and its state dict.
    """
    table, state = standardise(pixels, settings.inputs)
    known, numbers = np.unique(pixels.classes, return_inverse=True)
    sample = _Sample(table, numbers.astype(np.int64), pixels.weights, len(known))
    shrinkage, temperature = _choose(settings, sample, pixels.groups)
    moments = _Moments.of(sample)
    weight = np.zeros((classes, table.shape[1]), np.float32)
    bias = np.full(classes, NEVER, np.float32)
    if len(known) == 1:
        bias[known] = 0
    else:
        found, constant = moments.solve(shrinkage)
        weight[known] = found / temperature
        bias[known] = constant / temperature + moments.log_priors()
    state |= split_weight(weight, state) | {"bias": torch.from_numpy(bias)}
    return LinearHeadSettings(inputs=settings.inputs, clip=CLIP), state


def _choose(
    settings: LinearDiscriminantSettings, sample: _Sample, groups: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Choose shrinkage and temperature with the best log-likelihood of left-out groups.

    With fewer groups than two there is nothing to leave out, and the middle ones are taken.
    """
    shrinkages = settings.shrinkages
    folds = min(settings.folds, len(np.unique(groups)))
    if folds < 2:
        middle = len(TEMPERATURES) // 2
        return shrinkages[len(shrinkages) // 2], TEMPERATURES[middle]
    total = np.zeros((len(shrinkages), len(TEMPERATURES)))
    for fitted, left in GroupKFold(folds).split(sample.table, groups=groups):
        moments, rest = _Moments.of(sample.part(fitted)), sample.part(left)
        for row, shrinkage in enumerate(shrinkages):
            weight, bias = moments.solve(shrinkage)
            scores = rest.table @ weight.T + bias
            for column, temperature in enumerate(TEMPERATURES):
                logits = scores / temperature + moments.log_priors()
                total[row, column] += _log_likelihood(logits, rest)
    best = divmod(int(np.argmax(total)), len(TEMPERATURES))
    return shrinkages[best[0]], TEMPERATURES[best[1]]


def _log_likelihood(logits: Floats, sample: _Sample) -> float:
    """Return the weighted log-likelihood of labels."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    likely = logs[np.arange(len(logits)), sample.classes]
    return float((sample.weights * np.maximum(likely, np.log(_LEAST_PROBABILITY))).sum())
