"""Scores of a split are those of scikit-learn and torchmetrics, with any classes left out."""

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.metrics.scores import (
    are_scored,
    check_left_out,
    cohen_kappa,
    frequency_weighted_iou,
    interval_of,
    split_scores,
    spread_of,
)
from tests.metrics.test_confusion import every_case

NAMES = ["field", "forest", "road", "water", "roof"]


def confusion_of(prediction, mask):
    return confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(mask), 5).numpy()


def labelled(prediction, mask):
    known = mask != IGNORE_INDEX
    return mask[known], prediction[known]


@every_case
def test_kappa_is_that_of_scikit_learn(prediction, mask):
    true, guessed = labelled(prediction, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one class on both sides
        wanted = reference.cohen_kappa_score(true, guessed, labels=range(5))
    ours = cohen_kappa(confusion_of(prediction, mask))
    if np.isnan(wanted):
        assert ours is None
    else:
        assert ours == pytest.approx(wanted, abs=1e-12)


@every_case
def test_iou_is_that_of_torchmetrics_but_for_absent_classes_which_have_none(prediction, mask):
    wanted = multiclass_jaccard_index(
        torch.from_numpy(prediction).long(),
        torch.from_numpy(mask).long(),
        5,
        average=None,
        ignore_index=IGNORE_INDEX,
        zero_division=float("nan"),
    ).double()
    ours = split_scores(confusion_of(prediction, mask), NAMES)
    ious = [np.nan if e["iou"] is None else e["iou"] for e in ours["by_class"].values()]
    np.testing.assert_allclose(ious, wanted.numpy(), rtol=1e-6)
    assert ours["miou"] == pytest.approx(float(wanted.nanmean()), rel=1e-6)


@every_case
def test_the_frequency_weighted_iou_is_the_mean_over_pixels_of_the_iou_of_their_class(
    prediction, mask
):
    true, guessed = labelled(prediction, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = reference.jaccard_score(true, guessed, labels=range(5), average="weighted")
    by_class = scores(confusion_of(prediction, mask), NAMES)["by_class"]
    assert frequency_weighted_iou(by_class) == pytest.approx(wanted)


@every_case
def test_without_anything_left_out_scores_are_those_of_metrics_and_two_more(prediction, mask):
    confusion = confusion_of(prediction, mask)
    ours = split_scores(confusion, NAMES)
    assert {key: ours.pop(key) for key in ("kappa", "fwiou")}.keys() == {"kappa", "fwiou"}
    assert ours == scores(confusion, NAMES)


@every_case
@pytest.mark.parametrize("left_out", [["roof"], ["field", "road"]])
def test_a_class_that_is_left_out_is_in_no_mean_and_its_predictions_are_wrong(
    prediction, mask, left_out
):
    ids = [place for place, name in enumerate(NAMES) if name not in left_out]
    mask = mask.copy()
    for name in left_out:
        mask[mask == NAMES.index(name)] = IGNORE_INDEX
    true, guessed = labelled(prediction, mask)
    result = split_scores(confusion_of(prediction, mask), NAMES, left_out)
    assert list(result["by_class"]) == [NAMES[place] for place in ids]
    assert result["pixels"] == len(true)
    if not len(true):
        assert (result["miou"], result["kappa"], result["fwiou"]) == (None, None, None)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"labels": ids, "average": None}
        iou = reference.jaccard_score(true, guessed, **options, zero_division=0)
        f1 = reference.f1_score(true, guessed, **options, zero_division=np.nan)
    known = [bool(((true == k) | (guessed == k)).any()) for k in ids]
    assert result["miou"] == pytest.approx(iou[known].mean())
    assert result["mean_f1"] == pytest.approx(np.nanmean(f1))
    assert result["absent_classes"] == known.count(False)
    # A pixel of another class that is called so is an error like any other.
    assert result["accuracy"] == pytest.approx((true == guessed).mean())
    json.dumps(result, allow_nan=False)


def test_kappa_by_hand_and_of_more_pixels_than_products_of_64_bits_hold():
    # Cohen's own form: (0.7 - 0.5) / (1 - 0.5), with 0.5 by chance.
    confusion = np.array([[20, 5], [10, 15]])
    assert cohen_kappa(confusion) == pytest.approx(0.4)
    assert cohen_kappa(confusion * 2**33) == pytest.approx(0.4)
    assert cohen_kappa(np.zeros((2, 2), int)) is None
    assert cohen_kappa(np.array([[7, 0], [0, 0]])) is None
    assert cohen_kappa(np.array([[0, 7], [0, 0]])) == 0


def test_left_out_classes_must_be_classes_and_leave_two():
    check_left_out([], NAMES)
    check_left_out(["roof", "water", "road"], NAMES)
    with pytest.raises(ValueError, match=r"names lava, wanted names among field, forest"):
        check_left_out(["lava"], NAMES)
    with pytest.raises(ValueError, match="fewer than two classes of a, b are scored"):
        check_left_out(["a"], ["a", "b"])
    assert are_scored(NAMES, ["road"]).tolist() == [True, True, False, True, True]


def test_few_regions_have_no_interval_but_a_reason():
    confusions = np.array([[[4, 1], [0, 3]], [[0, 0], [0, 0]]])
    scored = np.ones(2, bool)
    generator = np.random.default_rng(0)
    assert interval_of(confusions, scored, "region", generator) == {
        "low": None,
        "high": None,
        "reason": "1 region with labels, wanted 5",
    }
    assert interval_of(confusions[1:], scored, "tile", generator)["reason"].startswith("0 tiles")
    both = interval_of(np.concatenate([confusions] * 5), scored, "region", generator)
    assert set(both) == {"low", "high"}
    assert both["low"] <= both["high"]


def test_the_spread_of_regions_leaves_out_those_without_a_value():
    assert spread_of([0.5, None, 0.7]) == {
        "count": 2,
        "miou_lowest": 0.5,
        "miou_highest": 0.7,
        "miou_std": pytest.approx(0.02**0.5),
    }
    assert spread_of([0.5])["miou_std"] is None
    assert spread_of([None]) == {
        "count": 0,
        "miou_lowest": None,
        "miou_highest": None,
        "miou_std": None,
    }
