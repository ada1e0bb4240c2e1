"""From scikit-learn's trees to the tensors of a TreesHead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tree:
    """One binary tree; node 0 is its root, and the children of a node lie beside each other."""

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]
    """The left child of each node; a leaf itself."""
    value: npt.NDArray[np.float32]
    """(nodes, classes): of leaves, what the tree adds; zero elsewhere."""
    depth: int


@dataclass(frozen=True)
class _Links:
    """A tree as scikit-learn has it: -1 for the children of leaves."""

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]


def of_forest(forest: Any, classes: int) -> list[Tree]:
    """Return the trees of a fitted forest; their values add up to its probabilities."""
    trees = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        votes = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
        value = np.zeros((tree.node_count, classes))
        value[:, forest.classes_] = votes / len(forest.estimators_)
        links = _Links(tree.children_left, tree.children_right, tree.feature, tree.threshold, value)
        trees.append(_arrange(links))
    return trees


def of_boosting(boosting: Any, classes: int) -> list[Tree]:
    """Return the trees of a fitted HistGradientBoostingClassifier of at least two classes.

    Of two classes it has one score, that of the second one.
    """
    trees = []
    columns = boosting.classes_ if len(boosting.classes_) > 2 else boosting.classes_[1:]
    for step in boosting._predictors:
        for column, predictor in zip(columns, step, strict=True):
            nodes = predictor.nodes
            is_leaf = nodes["is_leaf"].astype(bool)
            value = np.zeros((len(nodes), classes))
            value[:, column] = nodes["value"]
            left, right = (
                np.where(is_leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right")
            )
            links = _Links(left, right, nodes["feature_idx"], nodes["num_threshold"], value)
            trees.append(_arrange(links))
    return trees


def count_active(trees: Sequence[Tree]) -> tuple[int, ...]:
    """Count the trees that are deeper than each level."""
    depths = np.array([tree.depth for tree in trees])
    return tuple(int((depths > level).sum()) for level in range(depths.max()))


def stack(trees: Sequence[Tree]) -> dict[str, npt.NDArray[Any]]:
    """Stack trees to arrays of one size, by the names of a TreesHead's buffers.

    The deepest trees come first.
    """
    trees = sorted(trees, key=lambda tree: -tree.depth)
    nodes = max(len(tree.child) for tree in trees)
    classes = trees[0].value.shape[1]
    stacked: dict[str, npt.NDArray[Any]] = {
        "feature": np.zeros((len(trees), nodes), np.int32),
        "threshold": np.full((len(trees), nodes), np.inf, np.float32),
        "child": np.zeros((len(trees), nodes), np.int32),
        "value": np.zeros((len(trees), nodes, classes), np.float32),
    }
    for number, tree in enumerate(trees):
        for name, values in stacked.items():
            values[number, : len(tree.child)] = getattr(tree, name)
    return stacked


def _arrange(links: _Links) -> Tree:
    """Number the nodes anew, level by level."""
    order = [0]
    depth, level = 0, [0]
    while True:
        parents = [node for node in level if links.left[node] >= 0]
        level = [int(side[node]) for node in parents for side in (links.left, links.right)]
        if not level:
            break
        order += level
        depth += 1
    places = np.empty(len(order), np.int64)
    old = np.array(order)
    places[old] = np.arange(len(order))
    is_leaf = links.left[old] < 0
    child = np.where(is_leaf, places[old], places[links.left[old]])
    return Tree(
        np.where(is_leaf, 0, links.feature[old]).astype(np.int32),
        np.where(is_leaf, np.float32(np.inf), _round_down(links.threshold[old])),
        child.astype(np.int32),
        np.where(is_leaf[:, None], links.value[old], 0).astype(np.float32),
        depth,
    )


def _round_down(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the largest float32 that is not above: the same float32 values are at most it."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded)
