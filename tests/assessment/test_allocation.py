"""Allocations add up, and keep the minimum of rare strata."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointcover.assessment.allocation import ALLOCATIONS, equal, neyman, proportional
from pointcover.assessment.points_of_strata import allocate

WEIGHTS = np.array([0.7, 0.25, 0.05])


@pytest.mark.parametrize(
    ("allocation", "expected"),
    [(proportional, [70, 25, 5]), (equal, [33, 33, 34]), (neyman, [62, 33, 5])],
)
def test_an_allocation_follows_its_rule(allocation, expected):
    wished = allocation(WEIGHTS, np.array([0.3, 0.45, 0.35]))
    found = allocate(wished, [10_000] * 3, 100, 2)
    assert sorted(found) == sorted(expected) if allocation is equal else list(found) == expected


def test_the_minimum_is_taken_from_the_others_in_proportion():
    assert allocate(WEIGHTS, [10_000] * 3, 100, 20).tolist() == [59, 21, 20]


def test_a_small_stratum_is_taken_whole_and_an_empty_one_not():
    assert allocate(WEIGHTS, [1_000, 5, 0], 50, 10).tolist() == [45, 5, 0]


def test_what_cannot_be_allocated_is_refused():
    with pytest.raises(ValueError, match=r"29 points are too few for 3 strata .* which are 30"):
        allocate(WEIGHTS, [100] * 3, 29, 10)
    with pytest.raises(ValueError, match="31 points are more than the 30 units"):
        allocate(WEIGHTS, [10] * 3, 31, 2)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 500)), min_size=1, max_size=12),
    st.integers(1, 30),
    st.floats(0, 1),
)
def test_points_add_up_within_what_strata_may_have(strata, minimum, part):
    wished, units = np.array([one[0] for one in strata]), [one[1] for one in strata]
    least = np.minimum(units, minimum)
    points = int(least.sum() + part * (sum(units) - least.sum()))
    found = allocate(np.where(np.array(units) > 0, wished, 0), units, points, minimum)
    assert found.sum() == points
    assert (found >= least).all()
    assert (found <= units).all()


def test_every_allocation_takes_weights_and_deviations():
    for allocation in ALLOCATIONS.values():
        assert allocation(WEIGHTS, np.full(3, 0.4)).shape == (3,)
