"""Weights of labelled pixels: of their classes, and of labels that are not point labels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]


def weight_classes(
    classes: npt.NDArray[np.int64], weights: Weights, class_weights: Sequence[float] | None
) -> Weights:
    """Multiply the weights of labels by those of their classes; the mean weight becomes one.

    Args:
        classes: (P,) class ids.
        weights: (P,) of the labels so far.
        class_weights: one a class; None is 1 each.
    """
    if class_weights is not None:
        weights = weights * np.array(class_weights)[classes]
    return np.asarray(weights / weights.mean())


def fix_fraction(weights: Weights, is_clicked: npt.NDArray[np.bool_], fraction: float) -> Weights:
    """Scale weights so that propagated labels have this fraction of the total, clicks the rest.

    Where there are clicks alone or none, the weights are returned as they are.
    """
    propagated, clicked = weights[~is_clicked].sum(), weights[is_clicked].sum()
    if not propagated or not clicked:
        return weights
    factors = np.where(is_clicked, (1 - fraction) / clicked, fraction / propagated)
    return np.asarray(weights * factors * len(weights))


def weight_fractions(
    classes: npt.NDArray[np.int64], weights: Weights, count: int
) -> tuple[float, ...]:
    """Return each class's fraction of the weight: the class priors that a classifier learns.

    Args:
        classes: (P,) class ids.
        weights: (P,) of the labels.
        count: of the classes.
    """
    totals = np.bincount(classes, weights, minlength=count)
    return tuple((totals / totals.sum()).tolist())
