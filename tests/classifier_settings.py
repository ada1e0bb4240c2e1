"""Settings of pixel classifiers that are fitted in milliseconds."""

from typing import Any

import yaml

from pointcover.training.classifiers.settings import ClassifierSettings
from tests.imagery import ROOT, change

FILTERS_ALONE = {
    f"{head}.inputs": ["filter_bank"]
    for head in (
        "logistic_regression",
        "perceptron",
        "random_forest",
        "extra_trees",
        "gradient_boosting",
    )
}

SMALL: dict[str, Any] = FILTERS_ALONE | {
    "logistic_regression.inverse_penalties": [0.01],
    "perceptron.hidden": 8,
    "perceptron.steps": 200,
    "random_forest.trees": 12,
    "extra_trees.trees": 12,
    "gradient_boosting.rounds": 8,
}
"""Changes of `train.classifier` in params.yaml."""


def classifier_settings(**changes: Any) -> ClassifierSettings:
    """Return `train.classifier` of params.yaml, made small, with further changes."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return ClassifierSettings.model_validate(change(values["train"]["classifier"], SMALL | changes))
