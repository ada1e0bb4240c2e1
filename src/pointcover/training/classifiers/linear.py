"""Fit a logistic regression, its penalty chosen by cross-validation over groups."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from torch import Tensor

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.networks.pixel_classifiers.settings import BlockName, LinearHeadSettings
from pointcover.training.classifiers.head_settings import LogisticRegressionSettings
from pointcover.training.classifiers.labelled_pixels import Floats, LabelledPixels
from pointcover.training.classifiers.sample_weights import Weights

_LEAST_PROBABILITY = 1e-6
"""In cross-validation, so that one wrong pixel does not decide."""

_LEAST_STD = 1e-6

CLIP: Final = 6.0
"""Standardised features beyond so many standard deviations are clipped."""

MAX_ITERATIONS: Final = 300


def fit_linear(
    settings: LogisticRegressionSettings, pixels: LabelledPixels, classes: int
) -> tuple[LinearHeadSettings, dict[str, Tensor]]:
    """Fit a multinomial logistic regression.

    Args:
        settings: of the fit.
        pixels: labelled ones, with all inputs.
        classes: of the class table; those without a label are never predicted.

    Returns:
        The settings of the head, and its state dict.
    """
    table, state = standardise(pixels, settings.inputs)
    weight, bias = _solve(settings, table, pixels, classes)
    state |= split_weight(weight, state) | {"bias": torch.from_numpy(bias)}
    return LinearHeadSettings(inputs=settings.inputs, clip=CLIP), state


def standardise(
    pixels: LabelledPixels, inputs: Sequence[BlockName]
) -> tuple[Floats, dict[str, Tensor]]:
    """Standardise features to mean 0 and standard deviation 1; clip all but those of an encoder.

    Returns:
        (P, features), and the means and standard deviations by the names of a LinearHead.
    """
    state: dict[str, Tensor] = {}
    for block in inputs:
        values = pixels.features[block]
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        std = np.maximum(values.std(axis=0, dtype=np.float64), _LEAST_STD).astype(np.float32)
        state[f"{block}_mean"], state[f"{block}_std"] = map(torch.from_numpy, (mean, std))
    return standardise_as(pixels.features, inputs, state), state


def standardise_as(
    features: Mapping[BlockName, Floats], inputs: Sequence[BlockName], state: Mapping[str, Tensor]
) -> Floats:
    """Standardise features by the means and standard deviations that `standardise` returned."""
    parts = []
    for block in inputs:
        mean, std = (state[f"{block}_{name}"].numpy() for name in ("mean", "std"))
        standard = (features[block] - mean) / std
        if block != "encoder":
            np.clip(standard, -CLIP, CLIP, out=standard)
        parts.append(standard)
    return np.concatenate(parts, axis=1)


def split_weight(weight: Floats, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split weights (K, features) by block, in the order of the means in a state."""
    blocks = [name.removesuffix("_mean") for name in state if name.endswith("_mean")]
    ends = np.cumsum([len(state[f"{block}_mean"]) for block in blocks])[:-1]
    parts = zip(blocks, np.split(weight, ends, axis=1), strict=True)
    return {
        f"{block}_weight": torch.from_numpy(np.ascontiguousarray(part)) for block, part in parts
    }


def _solve(
    settings: LogisticRegressionSettings,
    table: Floats,
    pixels: LabelledPixels,
    classes: int,
) -> tuple[Floats, Floats]:
    """Fit weights (classes, features) and biases (classes,)."""
    weight = np.zeros((classes, table.shape[1]), np.float32)
    bias = np.full(classes, NEVER, np.float32)
    known = np.unique(pixels.classes)
    if len(known) == 1:
        bias[known] = 0
        return weight, bias
    best = _choose_penalty(settings, table, pixels)
    model = _fit(best, table, pixels.classes, pixels.weights)
    if len(known) == 2:  # one score, that of the second class
        weight[known[1]], bias[known[0]], bias[known[1]] = model.coef_[0], 0, model.intercept_[0]
    else:
        weight[known], bias[known] = model.coef_, model.intercept_
    return weight, bias


def _choose_penalty(
    settings: LogisticRegressionSettings, table: Floats, pixels: LabelledPixels
) -> float:
    """Choose the penalty with the best log-likelihood of left-out groups, the first of equals.

    With fewer groups than two there is nothing to leave out, and the middle one is taken.
    """
    candidates = settings.inverse_penalties
    folds = min(settings.folds, len(np.unique(pixels.groups)))
    if len(candidates) == 1 or folds < 2:
        return candidates[len(candidates) // 2]
    found = []
    for penalty in candidates:
        total = 0.0
        for fitted, left in GroupKFold(folds).split(table, groups=pixels.groups):
            classes = pixels.classes[fitted]
            if len(np.unique(classes)) < 2:
                continue
            model = _fit(penalty, table[fitted], classes, pixels.weights[fitted])
            total += _log_likelihood(model, table[left], pixels.classes[left], pixels.weights[left])
        found.append(total)
    return candidates[int(np.argmax(found))]


def _fit(penalty: float, table: Floats, classes: npt.NDArray[np.int64], weights: Weights) -> Any:
    """Fit scikit-learn's model; it draws nothing."""
    model = LogisticRegression(C=penalty, max_iter=MAX_ITERATIONS, tol=1e-3)
    return model.fit(table, classes, sample_weight=weights)


def _log_likelihood(
    model: Any, table: Floats, classes: npt.NDArray[np.int64], weights: Weights
) -> float:
    """Return the weighted log-likelihood of labels; of unknown classes the least there is."""
    places = np.searchsorted(model.classes_, classes).clip(max=len(model.classes_) - 1)
    likely = model.predict_proba(table)[np.arange(len(classes)), places]
    likely = np.where(model.classes_[places] == classes, likely, 0)
    return float((weights * np.log(np.maximum(likely, _LEAST_PROBABILITY))).sum())
