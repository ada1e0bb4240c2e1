"""Which labels are doubted, by name: one function and one line of FILTERS each.

numpy loads when one is called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pointcover.label_errors.confident_learning import Flags, Floats, Ids


def noise_rate(probabilities: "Floats", labels: "Ids") -> "Flags":
    """Doubt as many labels of each pair of classes as are estimated to be wrong (PBNR)."""
    from pointcover.label_errors.confident_learning import by_noise_rate

    return by_noise_rate(probabilities, labels)


def of_class(probabilities: "Floats", labels: "Ids") -> "Flags":
    """Doubt as many labels of each class as are estimated to be wrong (PBC)."""
    from pointcover.label_errors.confident_learning import by_class

    return by_class(probabilities, labels)


def both(probabilities: "Floats", labels: "Ids") -> "Flags":
    """Doubt the labels that noise_rate and class doubt (C+NR)."""
    from pointcover.label_errors.confident_learning import by_both

    return by_both(probabilities, labels)


def confident_joint(probabilities: "Floats", labels: "Ids") -> "Flags":
    """Doubt the labels that are confidently of another class."""
    from pointcover.label_errors.confident_learning import by_confident_joint

    return by_confident_joint(probabilities, labels)


def prediction(probabilities: "Floats", labels: "Ids") -> "Flags":
    """Doubt all labels that are predicted otherwise."""
    from pointcover.label_errors.confident_learning import by_prediction

    return by_prediction(probabilities, labels)


FILTERS: Final[dict[str, Callable[["Floats", "Ids"], "Flags"]]] = {
    "noise_rate": noise_rate,
    "class": of_class,
    "both": both,
    "confident_joint": confident_joint,
    "prediction": prediction,
}
"""All filters."""


def find_doubted(probabilities: "Floats", labels: "Ids", filter_by: str) -> "npt.NDArray[np.intp]":
    """Return the places of labels that are probably wrong, the most doubted first.

    Args:
        probabilities: (N, K) of classes, from models that were not fitted on the label.
        labels: (N,) class ids.
        filter_by: a key of FILTERS.
    """
    from pointcover.label_errors.confident_learning import rank

    return rank(probabilities, labels, FILTERS[filter_by](probabilities, labels))
