"""Fit a forest or gradient boosting."""

from typing import Any

import numpy as np
import torch
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from torch import Tensor

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.networks.pixel_classifiers.settings import TreesHeadSettings
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.sample_weights import balance_classes
from pointcover.training.classifiers.settings import TreesFitSettings
from pointcover.training.classifiers.tree_arrays import (
    Tree,
    count_active,
    of_boosting,
    of_forest,
    stack,
)


def fit_trees(
    settings: TreesFitSettings, pixels: LabelledPixels, classes: int, seed: int, jobs: int = 1
) -> tuple[TreesHeadSettings, dict[str, Tensor]]:
    """Fit trees; the same seed gives the same ones, however many jobs there are.

    Args:
        settings: of the fit.
        pixels: labelled ones, with all inputs.
        classes: of the class table; those without a label are never predicted.
        seed: draws samples and features.
        jobs: trees that are fitted side by side.

    Returns:
        The settings of the head, and its state dict.
    """
    weights = balance_classes(pixels.classes, pixels.weights, settings.class_balance)
    is_boosting = settings.kind == "gradient_boosting"
    base = np.zeros(classes, np.float32)
    known = np.unique(pixels.classes)
    if is_boosting and len(known) == 1:  # scikit-learn refuses to boost one class
        trees = [_single_leaf(classes)]
    else:
        model = _make(settings, seed, jobs)
        model.fit(pixels.table(settings.inputs), pixels.classes, sample_weight=weights)
        trees = of_boosting(model, classes) if is_boosting else of_forest(model, classes)
        if is_boosting:
            scored = known if len(known) > 2 else known[1:]
            base[scored] = model._baseline_prediction.ravel()
    if is_boosting:
        base[np.setdiff1d(np.arange(classes), known)] = NEVER
    state = {name: torch.from_numpy(values) for name, values in stack(trees).items()}
    head = TreesHeadSettings(
        inputs=settings.inputs,
        trees=len(trees),
        nodes=state["child"].shape[1],
        active=count_active(trees),
        output="score" if is_boosting else "probability",
    )
    return head, state | {"base": torch.from_numpy(base)}


def _make(settings: TreesFitSettings, seed: int, jobs: int) -> Any:
    if settings.kind == "gradient_boosting":
        return HistGradientBoostingClassifier(
            max_iter=settings.trees,
            learning_rate=settings.learning_rate,
            max_leaf_nodes=settings.max_leaves,
            max_depth=settings.max_depth,
            min_samples_leaf=settings.min_samples_leaf,
            early_stopping=False,
            random_state=seed,
        )
    kind = RandomForestClassifier if settings.kind == "random_forest" else ExtraTreesClassifier
    return kind(
        settings.trees,
        max_depth=settings.max_depth,
        min_samples_leaf=settings.min_samples_leaf,
        random_state=seed,
        n_jobs=jobs,
    )


def _single_leaf(classes: int) -> Tree:
    """Return a tree that adds nothing."""
    return Tree(
        np.zeros(1, np.int32),
        np.full(1, np.inf, np.float32),
        np.zeros(1, np.int32),
        np.zeros((1, classes), np.float32),
        depth=0,
    )
