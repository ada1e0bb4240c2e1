"""Recipes: settings that go together, by name. A recipe is one entry of RECIPES."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pointcover.config.params import Params
from pointcover.config.params_text import with_values
from pointcover.runtime.atomic_files import publish_text
from pointcover.tracking.dvc_experiments import override
from pointcover.training.settings import NO_FILE
from pointcover.validation import validate


@dataclass(frozen=True)
class Recipe:
    """Settings that differ from those of params.yaml, by dotted key."""

    about: str
    settings: Mapping[str, Any]

    def options(self) -> list[str]:
        """Return the options of `dvc exp run` that choose this recipe, as words of a command."""
        return [
            word for key, value in self.settings.items() for word in ("-S", override(key, value))
        ]


_ENCODER: Final = {
    "train.encoder": "tu-tf_efficientnet_lite0",
    "train.weights": "imagenet",
    "train.weights_file": NO_FILE,
}
_CLASSIFIERS: Final = {
    "annotate.propagator": "none",
    "train.model": "classifier_mean",
    "train.class_weighting": "balanced",
    "train.propagated_loss_fraction": None,
    "train.self_training.rounds": 0,
}

_EVERYTHING: Final = ["filter_bank", "local_statistics", "encoder"]
_EIGHT_VIEWS: Final = {
    "train.classifier.scales": [2, 4],
    "train.classifier.encoder_views": 8,
    "train.classifier.smoothing_px": 0,
}
_SMOOTHED: Final = {"train.classifier.smoothing_px": 3}

RECIPES: Final[dict[str, Recipe]] = {
    "fast": Recipe(
        "Mean of a logistic regression on filters and a frozen ImageNet-pretrained encoder, and a "
        "random forest on filters: fitted in a minute.",
        {
            **_CLASSIFIERS,
            **_ENCODER,
            "train.classifier.mean_of": ["logistic_regression", "random_forest"],
            "train.classifier.scales": [2],
            "train.classifier.encoder_views": 1,
            **_SMOOTHED,
            "train.classifier.random_forest.inputs": ["filter_bank"],
        },
    ),
    "best": Recipe(
        "Mean of a linear discriminant analysis, a random forest and extra trees on filters and an "
        "encoder at two scales, averaged over eight views: accurate at few clicks and on other "
        "regions; maps take far longer than with fast.",
        {
            **_CLASSIFIERS,
            **_ENCODER,
            "train.classifier.mean_of": ["linear_discriminant", "random_forest", "extra_trees"],
            **_EIGHT_VIEWS,
            "train.classifier.random_forest.inputs": ["filter_bank", "encoder"],
            "train.classifier.extra_trees.inputs": _EVERYTHING,
        },
    ),
    "many": Recipe(
        "As best, with extra trees and a perceptron that also learns from unlabelled pixels, and "
        "class weights between none and balanced: the most accurate on images like the labelled "
        "ones, from 10 clicks a tile on.",
        {
            **_CLASSIFIERS,
            **_ENCODER,
            "train.class_weighting": "square_root",
            "train.classifier.mean_of": ["perceptron", "extra_trees"],
            **_EIGHT_VIEWS,
            "train.classifier.perceptron.inputs": _EVERYTHING,
            "train.classifier.perceptron.hidden": 256,
            "train.classifier.perceptron.steps": 2500,
            "train.classifier.perceptron.unlabelled_pixels": 100_000,
            "train.classifier.extra_trees.inputs": _EVERYTHING,
        },
    ),
    "filters": Recipe(
        "Mean of a random forest and extra trees on filters alone: no pretrained weights.",
        {
            **_CLASSIFIERS,
            "train.encoder": "none",
            "train.weights": "none",
            "train.weights_file": NO_FILE,
            "train.classifier.mean_of": ["random_forest", "extra_trees"],
            **_SMOOTHED,
            "train.classifier.random_forest.inputs": ["filter_bank"],
        },
    ),
    "network": Recipe(
        "A U-Net on an ImageNet-pretrained encoder, fine-tuned on the clicks: slower, for many "
        "clicks or dense masks.",
        {
            "annotate.propagator": "none",
            "train.model": "unet",
            **_ENCODER,
            "train.width": 0.5,
            "train.epochs": 12,
            "train.lr": 0.001,
            "train.schedule": "cosine",
            "train.class_weighting": "balanced",
            "train.augmentation": "weak",
            "train.keep": "last",
        },
    ),
}
"""All recipes. docs/studies and benchmarks/rivals.py have what they reach."""


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the settings of a recipe into params.yaml; its comments and other values stay.

    Raises:
        ValueError: a setting is not in the file, or the values do not go together.
        FileNotFoundError: there is no such file.
    """
    text, missing = with_values(path.read_text(encoding="utf-8"), recipe.settings)
    if missing:
        raise ValueError(
            f"{path} has no line for {', '.join(missing)}: restore it with `git checkout "
            f"{path.name}`"
        )
    validate(Params, yaml.safe_load(text), path)
    publish_text(path, text)
