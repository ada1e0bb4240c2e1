"""Pseudo-labels fill what is unlabelled and sure, and overwrite nothing."""

import numpy as np
import pytest

from pointcover.labels import IGNORE_INDEX
from pointcover.training.semi_supervised.pseudo_labels import label_confident

FIRST = np.array([[0.9, 0.8, 0.3, np.nan], [0.7, 0.95, 0.05, 0.5]])
PROBABILITIES = np.stack([FIRST, 1 - FIRST])
MASK = np.full((2, 4), IGNORE_INDEX, np.uint8)
MASK[0, 0] = 1


def test_sure_pixels_are_labelled_labels_stay_and_the_rest_is_ignored():
    before = MASK.copy()
    labelled = label_confident(PROBABILITIES, MASK, 0.75)
    assert labelled.tolist() == [[1, 0, 255, 255], [255, 0, 1, 255]]
    assert labelled.dtype == np.uint8
    assert np.array_equal(MASK, before)


def test_a_top_share_takes_the_surest_of_each_class_that_are_unlabelled():
    # Class 0 is predicted at four unlabelled pixels (0.8, 0.7, 0.95, 0.5), class 1 at two.
    labelled = label_confident(PROBABILITIES, MASK, 0, top_fraction=0.5)
    assert labelled.tolist() == [[1, 0, 255, 255], [255, 0, 1, 255]]
    assert label_confident(PROBABILITIES, MASK, 0.9, top_fraction=0.5)[0, 1] == IGNORE_INDEX


@pytest.mark.parametrize("settings", [(1.1,), (0.5, 0.0), (0.5, 2.0)])
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ValueError, match="give"):
        label_confident(PROBABILITIES, MASK, *settings)
