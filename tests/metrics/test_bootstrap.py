"""Intervals hold what they say: drawn again by a plain loop, they are the same."""

import numpy as np
import pytest

from pointcover.metrics.bootstrap import miou_interval
from pointcover.metrics.confusion import scores

ALL = np.ones(4, bool)


def drawn(seed, units, classes=4, pixels=500):
    generator = np.random.default_rng(seed)
    fractions = generator.dirichlet(np.ones(classes * classes) / 2, units)
    counts = [generator.multinomial(pixels, fraction) for fraction in fractions]
    return np.array(counts).reshape(units, classes, classes)


def interval_by_loop(confusions, seed, resamples):
    generator = np.random.default_rng(seed)
    names = [str(k) for k in range(confusions.shape[1])]
    mious = []
    for _ in range(resamples):
        chosen = generator.integers(0, len(confusions), len(confusions))
        mious.append(scores(confusions[chosen].sum(axis=0), names)["miou"])
    return np.percentile(mious, [2.5, 97.5])


@pytest.mark.parametrize("units", [5, 7, 40])
def test_the_interval_is_that_of_a_loop_that_draws_adds_and_scores(units):
    confusions = drawn(units, units)
    ours = miou_interval(confusions, ALL, np.random.default_rng(3), 300)
    assert ours == pytest.approx(interval_by_loop(confusions, 3, 300), rel=1e-12)


def test_resamples_are_drawn_in_parts_with_the_same_result(monkeypatch):
    confusions = drawn(0, 20)
    whole = miou_interval(confusions, ALL, np.random.default_rng(1), 100)
    monkeypatch.setattr("pointcover.metrics.bootstrap._CELLS", 130)  # six at a time
    assert miou_interval(confusions, ALL, np.random.default_rng(1), 100) == whole


def test_classes_that_a_resample_lacks_and_those_left_out_are_not_in_its_mean():
    confusions = np.zeros((6, 4, 4), np.int64)
    confusions[:, 0, 0] = 10
    confusions[0, 1, 2] = 5  # in one unit alone
    ours = miou_interval(confusions, ALL, np.random.default_rng(0), 400)
    assert ours == pytest.approx(interval_by_loop(confusions, 0, 400))
    assert ours[1] == 1
    kept = np.array([True, False, False, True])
    assert miou_interval(confusions, kept, np.random.default_rng(0)) == (1, 1)


def test_more_units_of_a_kind_give_a_narrower_interval_around_the_score():
    few, many = drawn(0, 10), drawn(0, 200)
    widths = []
    for confusions in (few, many):
        low, high = miou_interval(confusions, ALL, np.random.default_rng(0))
        assert low < scores(confusions.sum(axis=0), list("abcd"))["miou"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # 1 / √20 of it, but for the luck of the few


def test_units_without_labels_are_ignored_and_one_unit_has_no_interval():
    confusions = drawn(0, 5)
    padded = np.concatenate([confusions, np.zeros((4, 4, 4), np.int64)])
    ours = miou_interval(padded, ALL, np.random.default_rng(0))
    assert ours == miou_interval(confusions, ALL, np.random.default_rng(0))
    assert miou_interval(confusions[:1], ALL, np.random.default_rng(0)) is None
    assert miou_interval(padded[4:], ALL, np.random.default_rng(0)) is None
    assert miou_interval(np.zeros((0, 4, 4), np.int64), ALL, np.random.default_rng(0)) is None


def test_equal_units_have_an_interval_without_width():
    confusions = np.tile(drawn(0, 1), (8, 1, 1))
    miou = scores(confusions[0], list("abcd"))["miou"]
    ours = miou_interval(confusions, ALL, np.random.default_rng(0))
    assert ours == pytest.approx((miou, miou))
