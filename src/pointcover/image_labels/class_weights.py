"""Weights of labelled pixels by the class weights of the settings."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.sample_weights import weight_classes
from pointcover.training.losses.make import make_loss
from pointcover.training.settings import TrainSettings


def weight_pixels(
    settings: TrainSettings, names: Sequence[str], pixels: LabelledPixels
) -> LabelledPixels:
    """Return pixels with weights by class; balanced ones depend on how many there are of each.

    Args:
        settings: class_weighting and class_weights.
        names: of the classes.
        pixels: labelled ones.

    Raises:
        ValueError: a class weight is of an unknown class.
    """
    counts = np.bincount(pixels.classes, minlength=len(names)).tolist()
    weights = make_loss(settings, names, counts).class_weights
    return replace(pixels, weights=weight_classes(pixels.classes, pixels.weights, weights))
