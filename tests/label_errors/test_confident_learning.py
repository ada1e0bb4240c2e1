"""Confident learning finds the labels that were made wrong, and counts them."""

import numpy as np
import pytest

from pointcover.label_errors.confident_learning import (
    by_both,
    by_class,
    by_confident_joint,
    by_noise_rate,
    class_thresholds,
    confident_classes,
    estimate_joint,
    normalised_margin,
)
from pointcover.label_errors.filters import FILTERS, find_doubted

PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.7, 0.3, 0.0],
        [0.2, 0.8, 0.0],  # given 0
        [0.1, 0.9, 0.0],
        [0.3, 0.6, 0.1],
        [0.0, 0.1, 0.9],
        [0.5, 0.1, 0.4],  # given 2
    ]
)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])


def test_thresholds_are_the_mean_self_confidence_of_a_class():
    assert class_thresholds(PROBABILITIES, LABELS) == pytest.approx([0.6, 0.75, 0.65])


def test_a_class_without_labels_is_never_confident():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.2, 0.6, 0.2], [0.9, 0.1, 0.0]])
    labels = np.array([0, 1, 0])
    assert class_thresholds(probabilities, labels)[2] == np.inf
    assert confident_classes(probabilities, labels).tolist() == [-1, 1, 0]


def test_the_joint_by_hand():
    # Confident: 0, 0, 1 of class 0; 1 and none of class 1; 2 and none of class 2.
    assert confident_classes(PROBABILITIES, LABELS).tolist() == [0, 0, 1, 1, -1, 2, -1]
    assert estimate_joint(PROBABILITIES, LABELS) == pytest.approx(
        np.array([[2, 1, 0], [0, 2, 0], [0, 0, 2]])
    )


def test_the_filters_by_hand():
    wanted = [False, False, True, False, False, False, False]
    for filter_by in (by_noise_rate, by_class, by_both, by_confident_joint):
        assert filter_by(PROBABILITIES, LABELS).tolist() == wanted, filter_by
    assert find_doubted(PROBABILITIES, LABELS, "prediction").tolist() == [2, 6]


def test_the_margin_ranks_labels():
    assert normalised_margin(PROBABILITIES, LABELS) == pytest.approx(
        [0.8, 0.4, -0.6, 0.8, 0.3, 0.8, -0.1]
    )


def test_a_label_whose_class_is_the_most_probable_is_never_doubted():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([0.5, 0.5, 0.5], 300)
    labels = generator.integers(0, 3, 300)
    for name in FILTERS:
        found = find_doubted(probabilities, labels, name)
        assert len(found)
        assert (probabilities[found].argmax(axis=1) != labels[found]).all()
        margins = normalised_margin(probabilities, labels)[found]
        assert (np.diff(margins) >= 0).all()


def simulate(rate: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return calibrated probabilities, labels of which some are wrong, and which are."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(4, 4000, p=[0.5, 0.3, 0.15, 0.05])
    scores = generator.normal(0, 1, (4000, 4))
    scores[np.arange(4000), truth] += 4
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    wrong = generator.random(4000) < rate
    labels = np.where(wrong, (truth + generator.integers(1, 4, 4000)) % 4, truth)
    return probabilities, labels, wrong


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_number_of_wrong_labels_is_estimated_and_most_are_found(rate):
    probabilities, labels, wrong = simulate(rate)
    joint = estimate_joint(probabilities, labels)
    assert joint.sum() == pytest.approx(len(labels))
    estimated = 1 - np.trace(joint) / joint.sum()
    assert estimated == pytest.approx(rate, abs=0.015)
    found = find_doubted(probabilities, labels, "both")
    assert wrong[found].mean() > 0.85
    assert wrong[found].sum() / wrong.sum() > 0.75


def test_classes_that_a_model_is_unsure_of_are_not_doubted_as_a_whole():
    """A model that gives a rare class half the probability at its own labels: all are right."""
    probabilities = np.array([[0.95, 0.05]] * 90 + [[0.55, 0.45]] * 10)
    labels = np.array([0] * 90 + [1] * 10)
    assert len(find_doubted(probabilities, labels, "prediction")) == 10
    assert len(find_doubted(probabilities, labels, "both")) == 0


def test_the_same_as_cleanlab_where_it_is_installed():
    cleanlab = pytest.importorskip("cleanlab.filter")
    probabilities, labels, _ = simulate(0.2)
    for name, theirs in (
        ("noise_rate", "prune_by_noise_rate"),
        ("class", "prune_by_class"),
        ("both", "both"),
        ("confident_joint", "confident_learning"),
        ("prediction", "predicted_neq_given"),
    ):
        wanted = cleanlab.find_label_issues(
            labels,
            probabilities,
            filter_by=theirs,
            return_indices_ranked_by="normalized_margin",
            min_examples_per_class=0,
            n_jobs=1,
        )
        found = find_doubted(probabilities, labels, name)
        same = len(np.intersect1d(found, wanted)) / max(len(found), len(wanted))
        assert same > 0.99, (name, len(found), len(wanted), same)
