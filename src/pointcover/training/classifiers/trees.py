"""Fit a forest or gradient boosting."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.networks.pixel_classifiers.settings import BlockName, TreesHeadSettings
from pointcover.training.classifiers.head_settings import BoostingSettings, TreesSettings
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.tree_arrays import (
    Tree,
    count_active,
    of_boosting,
    of_forest,
    stack,
)


def fit_forest(
    kind: type[Any], settings: TreesSettings, pixels: LabelledPixels, classes: int, seed: int
) -> tuple[TreesHeadSettings, dict[str, Tensor]]:
    """Fit a forest of one of scikit-learn's classes; the same seed gives the same one.

    Args:
        kind: RandomForestClassifier or ExtraTreesClassifier.
        settings: of the fit.
        pixels: labelled ones, with all inputs.
        classes: of the class table; those without a label are never predicted.
        seed: of the samples and features that are drawn.

    Returns:
        The settings of the head, and its state dict.
    """
    model = kind(
        settings.trees,
        max_depth=settings.max_depth,
        min_samples_leaf=settings.min_samples_leaf,
        random_state=seed,
        n_jobs=1,
    )
    model.fit(pixels.table(settings.inputs), pixels.classes, sample_weight=pixels.weights)
    base = np.zeros(classes, np.float32)
    return _head(settings.inputs, of_forest(model, classes), base, "probability")


def fit_boosting(
    settings: BoostingSettings, pixels: LabelledPixels, classes: int, seed: int
) -> tuple[TreesHeadSettings, dict[str, Tensor]]:
    """Fit gradient boosting; arguments and result as of `fit_forest`."""
    base = np.zeros(classes, np.float32)
    known = np.unique(pixels.classes)
    if len(known) == 1:  # scikit-learn refuses to boost one class
        trees = [_single_leaf(classes)]
    else:
        model = HistGradientBoostingClassifier(
            max_iter=settings.rounds,
            learning_rate=settings.learning_rate,
            max_leaf_nodes=settings.max_leaves,
            min_samples_leaf=settings.min_samples_leaf,
            early_stopping=False,
            random_state=seed,
        )
        model.fit(pixels.table(settings.inputs), pixels.classes, sample_weight=pixels.weights)
        trees = of_boosting(model, classes)
        scored = known if len(known) > 2 else known[1:]
        base[scored] = model._baseline_prediction.ravel()
    base[np.setdiff1d(np.arange(classes), known)] = NEVER
    return _head(settings.inputs, trees, base, "score")


def _head(
    inputs: tuple[BlockName, ...],
    trees: list[Tree],
    base: npt.NDArray[np.float32],
    output: Literal["probability", "score"],
) -> tuple[TreesHeadSettings, dict[str, Tensor]]:
    state = {name: torch.from_numpy(values) for name, values in stack(trees).items()}
    head = TreesHeadSettings(
        inputs=inputs,
        trees=len(trees),
        nodes=state["child"].shape[1],
        active=count_active(trees),
        output=output,
    )
    return head, state | {"base": torch.from_numpy(base)}


def _single_leaf(classes: int) -> Tree:
    """Return a tree that adds nothing."""
    return Tree(
        np.zeros(1, np.int32),
        np.full(1, np.inf, np.float32),
        np.zeros(1, np.int32),
        np.zeros((1, classes), np.float32),
        depth=0,
    )
