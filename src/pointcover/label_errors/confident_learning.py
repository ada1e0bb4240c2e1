"""Confident learning: which labels are probably wrong, by out-of-sample probabilities.

Northcutt, Jiang, Chuang 2021 (Confident Learning: Estimating Uncertainty in Dataset Labels, Journal
of Artificial Intelligence Research 70).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def self_confidence(probabilities: Floats, labels: Ids) -> Floats:
    """Return (N,) the probability of each label's own class."""
    return np.asarray(probabilities[np.arange(len(labels)), labels])


def normalised_margin(probabilities: Floats, labels: Ids) -> Floats:
    """Return (N,) the probability of a label's class less that of the most probable other one.

    It is from -1 (surely wrong) to 1, and ranks labels.
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(self_confidence(probabilities, labels) - others.max(axis=1))


def class_thresholds(probabilities: Floats, labels: Ids) -> Floats:
    """Return (K,) the mean self-confidence of each class's labels; infinity where it has none.

    A label counts as of a class where that class's probability reaches its threshold. So classes
    of which a model is less sure than of others, such as rare ones, are not doubted for that.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    totals = np.bincount(labels, self_confidence(probabilities, labels), minlength=classes)
    return np.where(counts, totals / np.maximum(counts, 1), np.inf)


def confident_classes(probabilities: Floats, labels: Ids) -> Ids:
    """Return (N,) the most probable of the classes that reach their thresholds, -1 for none."""
    reaches = probabilities >= class_thresholds(probabilities, labels)
    best = np.where(reaches, probabilities, -1.0).argmax(axis=1)
    return np.where(reaches.any(axis=1), best, -1)


def estimate_joint(probabilities: Floats, labels: Ids) -> Floats:
    """Estimate how many labels of each class are truly of each class.

    The confident joint counts labels by class and by `confident_classes`; each row is scaled to the
    number of labels of its class.

    Returns:
        (K, K): given class, true class.
    """
    classes = probabilities.shape[1]
    confident = confident_classes(probabilities, labels)
    known = confident >= 0
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[known], confident[known]), 1)
    given = np.bincount(labels, minlength=classes)
    # A class without a confident label keeps its labels.
    unsure = counts.sum(axis=1) == 0
    counts[unsure, unsure] = 1
    return np.asarray(counts / counts.sum(axis=1, keepdims=True) * given[:, np.newaxis])


def by_noise_rate(probabilities: Floats, labels: Ids) -> Flags:
    """Return (N,) the labels to doubt: of each pair of classes as many as the joint says.

    These have the greatest differences of the other class's probability and their own.
    """
    joint = np.rint(estimate_joint(probabilities, labels)).astype(np.int64)
    own = self_confidence(probabilities, labels)
    doubted = np.zeros(len(labels), bool)
    for given, true in np.argwhere(joint):
        if given != true:
            members = np.flatnonzero(labels == given)
            margins = own[members] - probabilities[members, true]
            doubted[members[np.argsort(margins, kind="stable")[: joint[given, true]]]] = True
    return doubted


def by_class(probabilities: Floats, labels: Ids) -> Flags:
    """Return (N,) the labels to doubt: of each class as many as the joint says, the least sure."""
    joint = estimate_joint(probabilities, labels)
    own = self_confidence(probabilities, labels)
    doubted = np.zeros(len(labels), bool)
    for given, wrong in enumerate(np.rint(joint.sum(axis=1) - joint.diagonal()).astype(np.int64)):
        members = np.flatnonzero(labels == given)
        doubted[members[np.argsort(own[members], kind="stable")[:wrong]]] = True
    return doubted


def by_both(probabilities: Floats, labels: Ids) -> Flags:
    """Return (N,) the labels that `by_noise_rate` and `by_class` doubt."""
    return by_noise_rate(probabilities, labels) & by_class(probabilities, labels)


def by_confident_joint(probabilities: Floats, labels: Ids) -> Flags:
    """Return (N,) the labels that the confident joint counts as of another class."""
    confident = confident_classes(probabilities, labels)
    return np.asarray((confident >= 0) & (confident != labels))


def by_prediction(probabilities: Floats, labels: Ids) -> Flags:
    """Return (N,) the labels whose class is not the most probable one: no confident learning."""
    return np.asarray(probabilities.argmax(axis=1) != labels)


def rank(probabilities: Floats, labels: Ids, doubted: Flags) -> npt.NDArray[np.intp]:
    """Return the places of doubted labels, the most doubted first.

    A label whose class is the most probable one is not doubted.

    Args:
        probabilities: (N, K) of classes, from models that were not fitted on the label.
        labels: (N,) class ids.
        doubted: (N,) by one of the functions above.
    """
    places = np.flatnonzero(doubted & by_prediction(probabilities, labels))
    margins = normalised_margin(probabilities[places], labels[places])
    return places[np.argsort(margins, kind="stable")]
