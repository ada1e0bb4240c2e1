"""Make the loss of a training, with class weights from the settings and the labels."""

from collections.abc import Sequence
from typing import Final

from pointcover.training.losses import LOSSES
from pointcover.training.losses.partial import Loss
from pointcover.training.settings import TrainSettings

POWERS: Final = {"none": 0.0, "square_root": 0.5, "balanced": 1.0}
"""Of the balanced class weights, by `class_weighting`."""


def balanced_weights(labelled: Sequence[int]) -> tuple[float, ...]:
    """Return balanced class weights: the labels of all classes have the same total weight.

    Like scikit-learn's `compute_class_weight("balanced", …)`: the number of all labels, divided by
    the number of classes times the number of the class's labels. A class without a label has 1.

    Args:
        labelled: pixels by class.
    """
    total, present = sum(labelled), sum(count > 0 for count in labelled)
    return tuple(total / (present * count) if count else 1.0 for count in labelled)


def make_loss(settings: TrainSettings, names: Sequence[str], labelled: Sequence[int]) -> Loss:
    """Return the loss that the settings choose.

    Args:
        settings: loss, its options, class_weighting and class_weights, which are multiplied.
        names: of the classes, in the order of their ids.
        labelled: pixels by class.

    Raises:
        ValueError: a class weight is of an unknown class.
    """
    unknown = sorted(set(settings.class_weights) - set(names))
    if unknown:
        raise ValueError(
            f"class_weights name {', '.join(unknown)}, wanted names among {', '.join(names)}"
        )
    weights: tuple[float, ...] | None = None
    if settings.class_weights:
        weights = tuple(settings.class_weights.get(one, 1.0) for one in names)
    power = POWERS[settings.class_weighting]
    if power:
        balanced = tuple(weight**power for weight in balanced_weights(labelled))
        weights = (
            tuple(a * b for a, b in zip(weights, balanced, strict=True)) if weights else balanced
        )
    return LOSSES[settings.loss].call(settings, weights)
