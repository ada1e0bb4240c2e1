"""Heads of pixel classifiers: one function and one line of HEADS each.

scikit-learn and torch load when one is fitted.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

    from pointcover.networks.pixel_classifiers.settings import LinearHeadSettings, TreesHeadSettings
    from pointcover.training.classifiers.labelled_pixels import LabelledPixels

    FittedHead = tuple[LinearHeadSettings | TreesHeadSettings, dict[str, Tensor]]


def logistic_regression(
    settings: Any, pixels: "LabelledPixels", classes: int, seed: int
) -> "FittedHead":
    """Fit a multinomial logistic regression."""
    from pointcover.training.classifiers.linear import fit_linear

    return fit_linear(settings, pixels, classes)


def linear_discriminant(
    settings: Any, pixels: "LabelledPixels", classes: int, seed: int
) -> "FittedHead":
    """Fit a linear discriminant analysis with a shrunk covariance."""
    from pointcover.training.classifiers.discriminant import fit_discriminant

    return fit_discriminant(settings, pixels, classes)


def perceptron(settings: Any, pixels: "LabelledPixels", classes: int, seed: int) -> "FittedHead":
    """Fit a perceptron with one hidden layer."""
    from pointcover.training.classifiers.perceptron import fit_perceptron

    return fit_perceptron(settings, pixels, classes, seed)


def random_forest(settings: Any, pixels: "LabelledPixels", classes: int, seed: int) -> "FittedHead":
    """Fit a random forest (Breiman 2001)."""
    from sklearn.ensemble import RandomForestClassifier

    from pointcover.training.classifiers.trees import fit_forest

    return fit_forest(RandomForestClassifier, settings, pixels, classes, seed)


def extra_trees(settings: Any, pixels: "LabelledPixels", classes: int, seed: int) -> "FittedHead":
    """Fit extremely randomised trees (Geurts, Ernst, Wehenkel 2006)."""
    from sklearn.ensemble import ExtraTreesClassifier

    from pointcover.training.classifiers.trees import fit_forest

    return fit_forest(ExtraTreesClassifier, settings, pixels, classes, seed)


def gradient_boosting(
    settings: Any, pixels: "LabelledPixels", classes: int, seed: int
) -> "FittedHead":
    """Fit gradient boosting of trees on histograms (Ke et al. 2017, LightGBM)."""
    from pointcover.training.classifiers.trees import fit_boosting

    return fit_boosting(settings, pixels, classes, seed)


HeadFitter = Callable[[Any, "LabelledPixels", int, int], "FittedHead"]
"""Takes the head's own settings, labelled pixels, the number of classes and a seed. Returns the
settings of the head and its state dict."""

HEADS: Final[dict[str, HeadFitter]] = {
    "logistic_regression": logistic_regression,
    "linear_discriminant": linear_discriminant,
    "perceptron": perceptron,
    "random_forest": random_forest,
    "extra_trees": extra_trees,
    "gradient_boosting": gradient_boosting,
}
"""All heads. Each has settings of its name in `ClassifierSettings`, and is a key of MODELS."""
