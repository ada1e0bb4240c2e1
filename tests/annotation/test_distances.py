"""Distances are those that whole numbers give, on every size of tile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from pointcover.annotation.distances import squared_distances


@given(height=st.integers(1, 12), width=st.integers(1, 12), data=st.data())
def test_squared_distances_are_those_that_are_measured_one_by_one(height, width, data):
    places = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    marked = np.zeros((height, width), bool)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        marked[place] = True
    rows, cols = np.nonzero(marked)
    own_rows, own_cols = np.indices(marked.shape)
    squared = (own_rows[..., None] - rows) ** 2 + (own_cols[..., None] - cols) ** 2
    assert np.array_equal(squared_distances(marked), squared.min(axis=2))


@pytest.mark.parametrize("shape", [(1024, 1024), (1024, 70), (2048, 1024), (60, 4096)])
def test_they_are_exact_on_large_tiles(shape):
    generator = np.random.default_rng(0)
    for count in (1, 4, 60):
        marked = np.zeros(shape, bool)
        marked.ravel()[generator.integers(0, marked.size, count)] = True
        wanted = np.rint(distance_transform_edt(~marked) ** 2)
        assert np.array_equal(squared_distances(marked), wanted)


def test_a_tile_without_a_mark_is_refused():
    with pytest.raises(ValueError, match="got no marked pixel, wanted one at least"):
        squared_distances(np.zeros((4, 5), bool))
