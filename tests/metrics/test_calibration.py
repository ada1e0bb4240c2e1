"""Confidence is counted exactly, and its error is that of torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.calibration import (
    BINS,
    count_confidences,
    expected_calibration_error,
    no_counts,
    reliability,
)


def bins_of(confidence, is_right, labelled=None):
    """Bins of single pixels: class 0 is predicted, and true where the prediction is right."""
    confidence = torch.tensor(confidence, dtype=torch.float32).view(1, 1, -1)
    mask = torch.tensor([0 if right else 1 for right in is_right], dtype=torch.uint8).view(1, 1, -1)
    if labelled is not None:
        mask[~torch.tensor(labelled).view(1, 1, -1)] = IGNORE_INDEX
    return reliability(count_confidences(confidence, torch.zeros_like(mask), mask).numpy())


def drawn(seed, classes, sharpness, unlabelled=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(2, classes, 40, 40, generator=generator)
    mask = torch.randint(0, classes, (2, 40, 40), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < unlabelled] = IGNORE_INDEX
    return logits.softmax(dim=1), mask


@pytest.mark.parametrize("sharpness", [0.01, 0.5, 3, 100])
@pytest.mark.parametrize("classes", [2, 5, 12])
def test_the_error_is_that_of_torchmetrics(classes, sharpness):
    for seed, unlabelled in ((0, 0), (1, 0.5), (2, 0.99)):
        probability, mask = drawn(seed, classes, sharpness, unlabelled)
        confidence, prediction = probability.max(dim=1)
        counts = count_confidences(confidence, prediction.to(torch.uint8), mask).numpy()
        wanted = multiclass_calibration_error(
            probability, mask.long(), classes, n_bins=BINS, norm="l1", ignore_index=IGNORE_INDEX
        )
        ours = expected_calibration_error(reliability(counts))
        assert ours == pytest.approx(float(wanted), abs=2 / (2 * BINS * 1024))


def test_the_error_of_two_bins_by_hand():
    # Four pixels 0.9 sure, two right; one pixel 0.5 sure, and right: (4 · 0.4 + 1 · 0.5) / 5.
    bins = bins_of([0.9, 0.9, 0.9, 0.9, 0.5], [True, True, False, False, True])
    assert [(entry.pixels, entry.accuracy) for entry in bins] == [(1, 1), (4, 0.5)]
    assert [entry.confidence for entry in bins] == pytest.approx([0.5, 0.9], abs=1e-4)
    assert expected_calibration_error(bins) == pytest.approx(0.42, abs=1e-4)


def test_a_bin_holds_its_upper_end_and_not_its_lower_one():
    (entry,) = bins_of([3 / 15], [True])
    assert (entry.low, entry.high) == (2 / 15, 3 / 15)
    (entry,) = bins_of([3 / 15 + 1e-3], [True])
    assert (entry.low, entry.high) == (3 / 15, 4 / 15)
    low, high = bins_of([0.0, 1.0], [True, False])
    assert (low.low, low.accuracy) == (0, 1)
    assert (high.high, high.accuracy) == (1, 0)


def test_unlabelled_pixels_do_not_count_and_without_any_there_is_no_error():
    (entry,) = bins_of([0.5, 0.5, 0.9], [True, False, True], [True, True, False])
    assert (entry.pixels, entry.accuracy) == (2, 0.5)
    assert bins_of([0.5], [True], [False]) == []
    assert expected_calibration_error([]) is None
    assert reliability(no_counts()) == []
    nothing = torch.zeros((0, 4, 4))
    assert not count_confidences(nothing, nothing.to(torch.uint8), nothing.to(torch.uint8)).any()


def test_counts_add_up_over_batches():
    probability, mask = drawn(0, 4, 2)
    confidence, prediction = probability.max(dim=1)
    prediction = prediction.to(torch.uint8)
    whole = count_confidences(confidence, prediction, mask)
    parts = [
        count_confidences(confidence[k : k + 1], prediction[k : k + 1], mask[k : k + 1])
        for k in range(2)
    ]
    assert torch.equal(whole, parts[0] + parts[1])
    assert int(whole.sum()) == int((mask != IGNORE_INDEX).sum())
    assert whole.dtype == torch.int64


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_invalid_probabilities_are_refused(value):
    confidence = torch.full((1, 2, 2), 0.5)
    confidence[0, 1, 1] = value
    mask = torch.zeros((1, 2, 2), dtype=torch.uint8)
    with pytest.raises(ValueError, match="not numbers from 0 to 1: its weights are damaged"):
        count_confidences(confidence, mask, mask)


def test_a_mean_that_rounding_takes_above_one_counts_as_one():
    (entry,) = bins_of([1 + 1e-6], [True])
    assert entry.high == 1
