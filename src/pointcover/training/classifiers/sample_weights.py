"""How much each labelled pixel counts: class balance, and labels that nobody clicked."""

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]


def balance_classes(classes: npt.NDArray[np.int64], weights: Weights, power: float) -> Weights:
    """Weight labels by 1 / frequency ** power of their class; the mean weight is one.

    Args:
        classes: (P,) class ids.
        weights: (P,) of the labels so far.
        power: 0 leaves frequencies as they are, 1 has all classes count the same together, 0.5
            lies between.
    """
    totals = np.bincount(classes, weights)
    with np.errstate(divide="ignore"):
        factors = np.where(totals > 0, totals, 1.0) ** -power
    balanced = weights * factors[classes]
    return np.asarray(balanced / balanced.mean())


def fix_fraction(weights: Weights, is_clicked: npt.NDArray[np.bool_], fraction: float) -> Weights:
    """Give propagated labels together this fraction of the weight, clicks the rest.

    Where there are clicks alone or none, the weights are returned as they are.
    """
    propagated, clicked = weights[~is_clicked].sum(), weights[is_clicked].sum()
    if not propagated or not clicked:
        return weights
    factors = np.where(is_clicked, (1 - fraction) / clicked, fraction / propagated)
    return np.asarray(weights * factors * len(weights))
