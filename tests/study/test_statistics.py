"""What a study's numbers say, against answers by hand and by other libraries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import auc

from pointcover.study.statistics import (
    area_under_curve,
    clicks_needed,
    compare,
    holm,
    mean_interval,
    noise_floor,
    ratio_interval,
)


def needed(scores, dense, fraction=0.9):
    return clicks_needed(scores, dense, fraction, np.random.default_rng(0))


def test_the_interval_of_a_mean_is_that_of_the_t_distribution():
    values = [0.41, 0.44, 0.52]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    # By hand: sd 0.0569, sem 0.0328, t 4.303
    assert found.half_width == pytest.approx(0.1412, abs=1e-4)


def test_one_value_has_no_interval_and_none_is_refused():
    assert mean_interval([0.5]).half_width is None
    with pytest.raises(ValueError, match="got no values"):
        mean_interval([])


def test_the_fraction_of_dense_is_computed_by_seed():
    found = ratio_interval({1: 0.4, 2: 0.6, 3: 0.9}, {1: 0.8, 2: 0.8})
    assert found.value == pytest.approx((0.5 + 0.75) / 2)
    assert found.count == 2
    assert ratio_interval({1: 0.4}, {2: 0.8}) is None


def test_the_noise_is_pooled_over_configurations_with_several_seeds():
    # Variances 0.0002 (one degree) and 0.0001 (two): (0.0002 + 2 × 0.0001) / 3
    floor = noise_floor([[0.50, 0.52], [0.60, 0.61, 0.62], [0.9]])
    assert floor == pytest.approx(math.sqrt(0.0004 / 3))
    assert noise_floor([[0.5], [0.6]]) is None


def test_clicks_for_a_fraction_of_dense_are_interpolated_in_log_clicks():
    scores = {10.0: {1: 0.4}, 100.0: {1: 0.6}, 1000.0: {1: 0.7}}
    found = needed(scores, {1: 0.5 / 0.9})
    assert found.clicks == pytest.approx(10**1.5)  # half way from 0.4 to 0.6
    assert found.low is None
    assert needed(scores, {1: 0.3}).clicks == 0
    assert needed(scores, {1: 0.9}).clicks == math.inf
    assert needed({10.0: {1: 0.4}}, {1: 0.5}) is None
    assert needed(scores, {}) is None


def test_a_dip_in_the_curve_does_not_count_as_reaching_the_fraction():
    scores = {10.0: {1: 0.4}, 100.0: {1: 0.7}, 1000.0: {1: 0.5}, 10_000.0: {1: 0.8}}
    # 0.7 and 0.5 become 0.6 each: 0.65 is met between 1000 and 10 000 clicks, a quarter of the way
    assert needed(scores, {1: 0.65 / 0.9}).clicks == pytest.approx(10**3.25)


def test_the_interval_of_clicks_holds_their_value_and_shrinks_to_it_without_noise():
    generator = np.random.default_rng(1)
    scores = {
        clicks: {seed: value + generator.normal(0, 0.02) for seed in range(8)}
        for clicks, value in ((10.0, 0.4), (100.0, 0.6), (1000.0, 0.7))
    }
    found = needed(scores, dict.fromkeys(range(8), 0.6))
    assert found.low < found.clicks < found.high
    still = {clicks: dict.fromkeys(range(8), seeds[0]) for clicks, seeds in scores.items()}
    found = needed(still, dict.fromkeys(range(8), 0.6))
    assert found.low == pytest.approx(found.clicks)
    assert found.high == pytest.approx(found.clicks)


def test_the_area_under_the_curve_is_that_of_scikit_learn_over_log_clicks():
    scores = {5.0: 0.3, 20.0: 0.5, 500.0: 0.62}
    places = np.log(list(scores))
    expected = auc(places, list(scores.values())) / (places[-1] - places[0])
    assert area_under_curve(scores) == pytest.approx(expected)
    assert area_under_curve({5.0: 0.3}) is None


def test_holm_corrects_a_known_example():
    # Holm's own rule by hand: 0.005 × 4, 0.01 × 3, 0.03 × 2 (rising: 0.06), 0.04 × 1 → 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_makes_a_p_value_smaller_nor_changes_their_order(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    for a, b in zip(np.argsort(p_values)[:-1], np.argsort(p_values)[1:], strict=True):
        assert corrected[a] <= corrected[b]


def test_methods_are_compared_over_the_budgets_and_seeds_that_both_have():
    scores = {
        "a": {10: {1: 0.50, 2: 0.55, 3: 0.60}, 50: {1: 0.6, 2: 0.6, 3: 0.7}, 99: {1: 0.9}},
        "b": {10: {1: 0.40, 2: 0.44, 3: 0.52}, 50: {1: 0.5, 2: 0.5, 3: 0.6}},
    }
    (found,) = compare(scores, [("a", "b"), ("a", "c")], floor=0.01)
    gaps = [0.10, (0.11 + 0.10) / 2, (0.08 + 0.10) / 2]
    assert found.difference.value == pytest.approx(np.mean(gaps))
    assert found.p_value == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    assert found.holm == pytest.approx(found.p_value)
    assert found.verdict == "better"
    assert found.floor == pytest.approx(0.01 * math.sqrt(2 / 6))


def test_a_difference_below_the_noise_is_not_significant_for_any_p_value():
    scores = {"a": {10: {1: 0.5001, 2: 0.5001001}}, "b": {10: {1: 0.5, 2: 0.5}}}
    (found,) = compare(scores, [("a", "b")], floor=0.02)
    assert found.p_value < 0.001
    assert found.verdict == "n.s. (below the noise)"
    (one_seed,) = compare({"a": {1: {1: 0.9}}, "b": {1: {1: 0.1}}}, [("a", "b")], None)
    assert one_seed.verdict == "one seed: not known"


def test_comparisons_are_corrected_for_their_number():
    generator = np.random.default_rng(0)
    base = {10: dict.fromkeys(range(4), 0.5)}
    scores = {"base": base} | {
        name: {10: {seed: 0.52 + generator.normal(0, 0.015) for seed in range(4)}}
        for name in "abcdefgh"
    }
    found = compare(scores, [(name, "base") for name in "abcdefgh"], 0.001)
    assert any(f.p_value < 0.05 <= f.holm for f in found)
    assert [f.holm for f in found] == pytest.approx(holm([f.p_value for f in found]))
