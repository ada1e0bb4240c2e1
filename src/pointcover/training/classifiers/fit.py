"""Fit a pixel classifier on labelled pixels, and write it into a module."""

import torch
from torch import Tensor

from pointcover.networks.pixel_classifiers.classifier import PixelClassifier
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    HeadSettings,
    LinearHeadSettings,
    MeanHeadSettings,
    PixelClassifierSettings,
    TreesHeadSettings,
)
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.linear import fit_linear
from pointcover.training.classifiers.perceptron import fit_perceptron
from pointcover.training.classifiers.settings import (
    ClassifierFitSettings,
    LinearFitSettings,
    PerceptronFitSettings,
)
from pointcover.training.classifiers.trees import fit_trees


def fit_classifier(
    settings: ClassifierFitSettings,
    features: PixelFeatures,
    pixels: LabelledPixels,
    classes: int,
    seed: int,
) -> PixelClassifier:
    """Fit the heads on features that were collected, and join them with what computes these.

    Args:
        settings: of the fit.
        features: computed `pixels`; becomes part of the classifier.
        pixels: labelled ones.
        classes: of the class table.
        seed: draws what trees draw.

    Returns:
        The classifier. Its settings belong into model.json, its state dict into model.pt.
    """
    heads: list[LinearHeadSettings | TreesHeadSettings] = []
    states: list[dict[str, Tensor]] = []
    for one in settings.heads:
        if isinstance(one, LinearFitSettings):
            linear, state = fit_linear(one, pixels, classes)
            heads.append(linear)
        elif isinstance(one, PerceptronFitSettings):
            perceptron, state = fit_perceptron(one, pixels, classes, seed)
            heads.append(perceptron)
        else:
            trees, state = fit_trees(one, pixels, classes, seed)
            heads.append(trees)
        states.append(state)
    head: HeadSettings = heads[0]
    if len(heads) > 1:
        head = MeanHeadSettings(heads=tuple(heads), average=settings.average)
        states = [
            {f"heads.{number}.{name}": values}
            for number, state in enumerate(states)
            for name, values in state.items()
        ] + [{"weights": torch.full((len(heads),), 1 / len(heads))}]
    classifier = PixelClassifier(
        PixelClassifierSettings(
            bands=features.bands, classes=classes, features=features.settings, head=head
        )
    )
    classifier.features = features
    merged = {name: values for state in states for name, values in state.items()}
    classifier.head.load_state_dict(merged, strict=True)
    return classifier
