"""Scores agree with scikit-learn, and what has no value is None instead of flattering."""

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.confusion import confusion_matrix, mean_of_known, scores


def confusion_of(prediction, mask, classes):
    return confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(mask), classes).numpy()


def names_of(classes):
    return [f"class {i}" for i in range(classes)]


def drawn(seed, *, true=(0, 1, 2, 3, 4), predicted=(0, 1, 2, 3, 4), unlabelled=0.3):
    """A random prediction and mask (2, 16, 16) that hold the given classes only."""
    generator = np.random.default_rng(seed)
    prediction = generator.choice(np.array(predicted, np.uint8), (2, 16, 16))
    mask = generator.choice(np.array(true, np.uint8), (2, 16, 16))
    mask[generator.random(mask.shape) < unlabelled] = IGNORE_INDEX
    return prediction, mask


CASES = {
    "random": drawn(0),
    "dense": drawn(1, unlabelled=0),
    "few labels": drawn(2, unlabelled=0.97),
    "a class neither true nor predicted": drawn(3, true=(0, 1, 3), predicted=(0, 1, 4)),
    "one true class": drawn(4, true=(2,)),
    "one predicted class": drawn(5, predicted=(2,)),
    "nothing in common": drawn(6, true=(0, 1), predicted=(3, 4)),
    "all right": (drawn(7)[0], drawn(7)[0]),
    "one class, all right": (np.full((1, 2, 2), 3, np.uint8), np.full((1, 2, 2), 3, np.uint8)),
    "one labelled pixel": (
        np.zeros((1, 2, 2), np.uint8),
        np.array([[[255, 255], [1, 255]]], np.uint8),
    ),
}
every_case = pytest.mark.parametrize(("prediction", "mask"), CASES.values(), ids=list(CASES))


def none_as_nan(values):
    return [np.nan if value is None else value for value in values]


@every_case
def test_the_confusion_matrix_is_that_of_scikit_learn(prediction, mask):
    labelled = mask != IGNORE_INDEX
    wanted = reference.confusion_matrix(mask[labelled], prediction[labelled], labels=range(5))
    ours = confusion_of(prediction, mask, 5)
    assert ours.dtype == np.int64
    assert np.array_equal(ours, wanted)


@every_case
def test_scores_by_class_and_overall_are_those_of_scikit_learn(prediction, mask):
    labelled = mask != IGNORE_INDEX
    true, guessed = mask[labelled], prediction[labelled]
    options = {"labels": range(5), "average": None, "zero_division": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of classes without a value
        precision, recall, f1, support = reference.precision_recall_fscore_support(
            true, guessed, **options
        )
    counts = reference.confusion_matrix(true, guessed, labels=range(5))
    known = counts.sum(axis=0) + counts.sum(axis=1) > 0
    # scikit-learn's jaccard_score knows no NaN: an absent class is 0 there.
    iou = reference.jaccard_score(true, guessed, labels=range(5), average=None, zero_division=0)
    iou = np.where(known, iou, np.nan)

    result = scores(confusion_of(prediction, mask, 5), names_of(5))

    by_class = result["by_class"].values()
    for name, wanted in (("iou", iou), ("precision", precision), ("recall", recall), ("f1", f1)):
        np.testing.assert_allclose(none_as_nan(entry[name] for entry in by_class), wanted)
    assert [entry["pixels"] for entry in by_class] == support.tolist()
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(true, guessed))
    assert result["miou"] == pytest.approx(np.nanmean(iou))
    assert result["mean_f1"] == pytest.approx(np.nanmean(f1))
    assert result["absent_classes"] == np.count_nonzero(~known)
    assert result["pixels"] == len(true)


def test_rows_are_true_classes_and_columns_predicted_ones():
    prediction, mask = np.array([[[1, 1, 2]]], np.uint8), np.array([[[0, 0, 1]]], np.uint8)
    assert confusion_of(prediction, mask, 3).tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_an_absent_class_has_no_value_and_is_counted():
    # Class 0: 1 hit of 1 + 1 missed; class 1: 2 hits, 1 false; class 2 is nowhere.
    result = scores(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]]), ["field", "road", "water"])
    assert result["by_class"]["water"] == {
        "iou": None,
        "precision": None,
        "recall": None,
        "f1": None,
        "pixels": 0,
    }
    assert result["by_class"]["field"]["iou"] == pytest.approx(1 / 2)
    assert result["by_class"]["road"]["iou"] == pytest.approx(2 / 3)
    assert result["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result["mean_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert result["absent_classes"] == 1


def test_a_class_only_predicted_scores_zero_and_is_not_absent():
    result = scores(np.array([[3, 1], [0, 0]]), ["field", "road"])
    assert result["by_class"]["road"]["iou"] == 0
    assert result["by_class"]["road"]["precision"] == 0
    assert result["by_class"]["road"]["recall"] is None
    assert result["miou"] == pytest.approx((3 / 4 + 0) / 2)
    assert result["absent_classes"] == 0


def test_without_labels_every_score_is_none():
    mask = np.full((1, 4, 4), IGNORE_INDEX, np.uint8)
    result = scores(confusion_of(np.zeros((1, 4, 4), np.uint8), mask, 3), names_of(3))
    assert (result["miou"], result["accuracy"], result["mean_f1"]) == (None, None, None)
    assert (result["absent_classes"], result["pixels"]) == (3, 0)
    json.dumps(result, allow_nan=False)


def test_scores_come_from_one_matrix_and_not_from_a_mean_over_batches():
    # Batch one: class 0 right 4 of 4. Batch two: class 0 right 0 of 1 (called 1), class 1 1 of 1.
    # By batch: mIoU 1 and (0 + 1/2) / 2 = 1/4, their mean 5/8. Of one matrix: 4/5 and 1/2, 13/20.
    first = confusion_of(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8), 2)
    second = confusion_of(np.ones((1, 1, 2), np.uint8), np.array([[[0, 1]]], np.uint8), 2)
    means = [scores(part, names_of(2))["miou"] for part in (first, second)]
    assert np.mean(means) == pytest.approx(5 / 8)
    assert scores(first + second, names_of(2))["miou"] == pytest.approx(13 / 20)


def test_counts_beyond_32_bits_are_exact():
    result = scores(np.array([[2**33, 1], [0, 2**33]]), names_of(2))
    assert result["pixels"] == 2**34 + 1
    assert result["by_class"]["class 0"]["recall"] == 2**33 / (2**33 + 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_of_predictions_counts_the_same_with_many_classes(dtype):
    prediction = torch.arange(200).reshape(1, 10, 20)
    confusion = confusion_matrix(prediction.to(dtype), prediction.to(torch.uint8), 200)
    assert torch.equal(confusion, torch.eye(200, dtype=torch.int64))


@pytest.mark.parametrize(("prediction", "true"), [(3, 0), (0, 3), (255, 2), (-1, 1)])
def test_an_id_that_is_not_a_class_is_refused(prediction, true):
    masks = torch.full((1, 2, 2), true, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"0 to 2"):
        confusion_matrix(torch.full((1, 2, 2), prediction), masks, 3)


def test_predictions_of_unlabelled_pixels_do_not_count():
    mask = torch.full((1, 2, 2), IGNORE_INDEX, dtype=torch.uint8)
    mask[0, 0, 0] = 1
    prediction = torch.full((1, 2, 2), 77)
    prediction[0, 0, 0] = 0
    assert confusion_matrix(prediction, mask, 2).tolist() == [[0, 0], [1, 0]]


def test_the_mean_of_known_values_leaves_out_the_unknown():
    assert mean_of_known([0.5, None, 1.0]) == 0.75
    assert mean_of_known([None, None]) is None
    assert mean_of_known([]) is None
    assert mean_of_known([0.0, None]) == 0
