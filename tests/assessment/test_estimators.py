"""Estimators give the printed digits of their papers, and intervals that hold the truth."""

import numpy as np
import pytest

from pointcover.assessment.estimators import NO_DATA, StratumSample, estimate

# Table 8 of Olofsson et al. (2014): rows by map class, columns by reference class.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = (200_000, 150_000, 3_200_000, 6_450_000)
PIXEL_HA = 30 * 30 / 10_000


def stratum(units, map_ids, reference_ids, name="a", areas=None, area=None):
    map_ids = np.asarray(map_ids, np.int64)
    weights = np.ones(len(map_ids)) if areas is None else np.asarray(areas, np.float64)
    reference = np.asarray(reference_ids, np.int64)
    return StratumSample(
        name, units, float(units if area is None else area), map_ids, reference, weights
    )


def strata_of(counts, units):
    """Strata that are the map's classes, of a table of counts."""
    return [
        stratum(units[row], [row] * sum(counts[row]), np.repeat(range(len(counts)), counts[row]))
        for row in range(len(counts))
    ]


def said(one, digits):
    return f"{one.value:.{digits}f} ± {one.half_width:.{digits}f}"


@pytest.fixture(scope="module")
def olofsson():
    """The worked example of Olofsson et al. (2014), section 5, as printed: no finite population."""
    return estimate(strata_of(OLOFSSON, PIXELS), 4, finite_population=False)


def test_the_error_matrix_of_olofsson_is_the_printed_one(olofsson):
    printed = [  # Table 9, four digits
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    assert olofsson.proportions.round(4).tolist() == printed
    assert (olofsson.counts == OLOFSSON).all()


def test_the_accuracies_of_olofsson_are_the_printed_ones(olofsson):
    users = ["0.88 ± 0.07", "0.73 ± 0.10", "0.93 ± 0.04", "0.96 ± 0.02"]
    assert [said(one, 2) for one in olofsson.users] == users
    assert said(olofsson.overall, 2) == "0.95 ± 0.02"
    assert [round(one.value, 2) for one in olofsson.producers] == [0.75, 0.85, 0.93, 0.96]
    # The paper prints ± 0.21, 0.23, 0.03 and 0.01. Its own equation 7 gives 0.25 and 0.02 for the
    # second and the last, as the R package mapaccuracy does.
    halves = [round(one.half_width, 2) for one in olofsson.producers]
    assert halves == [0.21, 0.25, 0.03, 0.02]


def test_the_areas_of_olofsson_are_the_printed_ones(olofsson):
    assert said(olofsson.areas[0], 0) == "235086 ± 68418"  # pixels
    hectares = [said(one.scaled(PIXEL_HA), 0) for one in olofsson.areas]
    assert hectares == ["21158 ± 6158", "11686 ± 3756", "285770 ± 15510", "581386 ± 16282"]


# The numerical example of Stehman (2014), Table 2: 10 units of each of four strata.
STEHMAN_MAP = "AAAAAAABBB ABBBBBBBBB BBCCCCCCBB DDDDDDDDDD"
STEHMAN_REFERENCE = "AAAAACBABC ABBBBBAABB CCCCCDDBBA DDDDDDDCCB"


def letters(text):
    return ["ABCD".index(letter) for letter in text]


@pytest.fixture(scope="module")
def stehman():
    pairs = zip(STEHMAN_MAP.split(), STEHMAN_REFERENCE.split(), strict=True)
    units = (40_000, 30_000, 20_000, 10_000)
    strata = [
        stratum(count, letters(mapped), letters(labelled))
        for count, (mapped, labelled) in zip(units, pairs, strict=True)
    ]
    return estimate(strata, 4)


def test_the_numbers_of_stehman_are_the_printed_ones(stehman):
    whole = 100_000
    assert round(stehman.areas[0].value / whole, 2) == 0.35
    assert round(stehman.areas[2].value / whole, 2) == 0.20
    assert round(stehman.overall.value, 2) == 0.63
    assert round(stehman.users[1].value, 3) == 0.574
    assert round(stehman.producers[1].value, 3) == 0.794
    assert round(stehman.proportions[1, 2], 2) == 0.08
    assert round(stehman.areas[0].standard_error / whole, 3) == 0.082
    assert round(stehman.areas[2].standard_error / whole, 3) == 0.064
    assert round(stehman.overall.standard_error, 3) == 0.085
    assert round(stehman.users[1].standard_error, 3) == 0.125
    # The paper prints 0.114; its own equation 28 gives 0.117, as the R package mapaccuracy does.
    assert round(stehman.producers[1].standard_error, 3) == 0.117


def test_a_simple_random_sample_of_one_stratum_has_the_textbook_interval():
    one = estimate([stratum(1_000_000, [0] * 80 + [1] * 20, [0] * 90 + [1] * 10)], 2)
    assert one.overall.value == pytest.approx(0.9)
    assert one.overall.standard_error == pytest.approx((0.9 * 0.1 / 99) ** 0.5, rel=1e-3)


def test_f1_lies_between_both_accuracies(olofsson):
    for user, producer, both in zip(olofsson.users, olofsson.producers, olofsson.f1, strict=True):
        low, high = sorted((user.value, producer.value))
        assert low <= both.value <= high
        assert both.value == pytest.approx(2 * user.value * producer.value / (low + high))


def test_a_stratum_that_was_labelled_whole_has_no_variance():
    strata = [stratum(4, [0] * 4, [0, 0, 1, 1]), stratum(1, [1], [1])]
    one = estimate(strata, 2, strata_of_classes={0: 0, 1: 1})
    assert one.overall.value == pytest.approx(3 / 5)
    assert one.overall.half_width == 0


def test_one_point_of_a_stratum_leaves_the_interval_unknown():
    strata = [stratum(100, [0] * 4, [0, 0, 1, 1]), stratum(100, [1], [1])]
    one = estimate(strata, 2, strata_of_classes={0: 0, 1: 1})
    assert one.overall.half_width is None
    assert one.users[0].half_width > 0
    assert one.users[1].half_width is None


def test_units_are_weighted_by_their_area():
    one = estimate([stratum(100, [0, 0], [0, 1], areas=[3, 1], area=400)], 2)
    assert [area.value for area in one.areas] == [pytest.approx(300), pytest.approx(100)]
    assert one.overall.value == pytest.approx(0.75)


def test_points_where_the_map_has_no_data_count_for_no_class():
    mapped = [0, 0, NO_DATA, NO_DATA]
    one = estimate([stratum(100, mapped, [0, 1, 0, 0])], 2)
    assert [area.value for area in one.areas] == [25, 25]
    assert one.overall.value == pytest.approx(0.5)
    assert one.counts.sum() == 2


def test_a_stratum_without_a_point_and_a_map_without_data_are_refused():
    with pytest.raises(ValueError, match="no labelled point in stratum 'b', so nothing is known"):
        estimate([stratum(9, [0], [0]), stratum(9, [], [], "b")], 1)
    with pytest.raises(ValueError, match="no data at any labelled point"):
        estimate([stratum(9, [NO_DATA], [0])], 1)


def test_a_class_that_no_point_names_has_no_accuracy():
    one = estimate([stratum(9, [0, 0], [0, 0])], 2)
    assert (one.users[1], one.producers[1], one.f1[1]) == (None, None, None)
    assert one.areas[1].value == 0


# What the ground holds: units of each map class (rows) by true class.
TRUTH = np.array([[40_000, 3_000, 1_000], [4_000, 30_000, 2_000], [500, 1_500, 18_000]])


def drawn(generator, rows, points):
    return [
        stratum(
            rows[k].sum(),
            [k] * points[k],
            np.repeat(range(3), generator.multivariate_hypergeometric(rows[k], points[k])),
        )
        for k in range(3)
    ]


def holds(one, truth):
    return abs(one.value - truth) <= one.half_width


@pytest.mark.slow
def test_intervals_hold_the_truth_in_95_of_100_samples():
    generator = np.random.default_rng(3)
    right = np.trace(TRUTH) / TRUTH.sum()
    users, producers = np.diag(TRUTH) / TRUTH.sum(1), np.diag(TRUTH) / TRUTH.sum(0)
    f1 = 2 * np.diag(TRUTH) / (TRUTH.sum(0) + TRUTH.sum(1))
    held = np.zeros(13)
    for _ in range(1000):
        one = estimate(
            drawn(generator, TRUTH, (600, 500, 500)), 3, strata_of_classes={0: 0, 1: 1, 2: 2}
        )
        pairs = [(one.overall, right)]
        pairs += list(zip(one.users, users, strict=True))
        pairs += list(zip(one.producers, producers, strict=True))
        pairs += list(zip(one.f1, f1, strict=True))
        pairs += list(zip(one.areas, TRUTH.sum(0), strict=True))
        held += [holds(*pair) for pair in pairs]
    assert ((held >= 930) & (held <= 970)).all(), held


@pytest.mark.slow
@pytest.mark.parametrize("poststratified", [False, True])
def test_intervals_of_simple_random_samples_hold_the_truth(poststratified):
    generator = np.random.default_rng(5)
    right, areas = np.trace(TRUTH) / TRUTH.sum(), TRUTH.sum(0)
    held = np.zeros(4)
    for _ in range(1000):
        found = generator.multivariate_hypergeometric(TRUTH.ravel(), 500).reshape(3, 3)
        if poststratified:
            strata = strata_of(found, TRUTH.sum(1))
        else:
            mapped, labelled = np.repeat(np.indices((3, 3)).reshape(2, 9), found.ravel(), axis=1)
            strata = [stratum(TRUTH.sum(), mapped, labelled)]
        one = estimate(strata, 3)
        held += [holds(one.overall, right), *map(holds, one.areas, areas)]
    assert ((held >= 930) & (held <= 970)).all(), held


@pytest.mark.slow
def test_intervals_hold_the_truth_where_strata_are_of_another_map():
    """Stehman (2014): the strata of an old map, the accuracy of a new one."""
    generator = np.random.default_rng(7)
    cube = generator.integers(200, 9_000, (3, 3, 3))  # old class, new class, true class
    right = np.einsum("hkk->", cube) / cube.sum()
    users = np.einsum("hkk->k", cube) / cube.sum((0, 2))
    producers = np.einsum("hkk->k", cube) / cube.sum((0, 1))
    held = np.zeros(10)
    for _ in range(1000):
        strata = []
        for old in cube:
            found = generator.multivariate_hypergeometric(old.ravel(), 200)
            mapped, labelled = np.repeat(np.indices((3, 3)).reshape(2, 9), found, axis=1)
            strata.append(stratum(old.sum(), mapped, labelled))
        one = estimate(strata, 3)
        pairs = [(one.overall, right), *zip(one.users, users, strict=True)]
        pairs += [*zip(one.producers, producers, strict=True)]
        pairs += [*zip(one.areas, cube.sum((0, 1)), strict=True)]
        held += [holds(*pair) for pair in pairs]
    assert ((held >= 930) & (held <= 970)).all(), held
