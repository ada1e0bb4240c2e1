"""Windows lie in the raster, share what they should, and their centres cover it once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointcover.windows import MAX_OVERLAP, STRIDE_PX, lay_axis

LENGTHS = st.integers(1, 3000)
WINDOWS = st.integers(1, 20).map(lambda n: n * STRIDE_PX)
OVERLAPS = st.floats(0, MAX_OVERLAP)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_centres_cover_each_pixel_once_and_lie_in_their_windows(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    assert (axis.cuts[0], axis.cuts[-1]) == (0, length)
    for number, start in enumerate(axis.starts):
        left, right = axis.cuts[number : number + 2]
        assert start <= left < right <= min(start + axis.size, length)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_windows_have_a_size_that_networks_take_and_share_what_was_asked_for(
    length, window_px, overlap
):
    axis = lay_axis(length, window_px, overlap)
    assert axis.size % STRIDE_PX == 0
    assert axis.size <= window_px
    if len(axis.starts) == 1:
        assert length <= axis.size < length + STRIDE_PX or length == axis.size == window_px
    steps = np.diff(axis.starts)
    assert (window_px - steps >= round(overlap * window_px)).all()
    assert axis.starts[-1] + axis.size == max(length, axis.size)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_no_fewer_windows_would_do(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    fewer = len(axis.starts) - 1
    step = window_px - round(overlap * window_px)
    assert fewer == 0 or window_px + (fewer - 1) * step < length


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_weights_for_blending_are_above_0_everywhere(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    assert axis.weights.shape == (axis.size,)
    assert axis.total_weights().shape == (length,)
    assert (axis.total_weights() > 0).all()


def test_a_quarter_of_overlap_is_laid_as_worked_out_by_hand():
    axis = lay_axis(100, 64, 0.25)  # steps of at most 48, over the 36 px that are left
    assert axis.starts == (0, 36)
    assert axis.cuts == (0, 50, 100)
    weights = axis.weights
    assert weights[:3].tolist() == [0.5 / 16, 1.5 / 16, 2.5 / 16]
    assert weights[16:48].tolist() == [1] * 32


@pytest.mark.parametrize(
    ("window_px", "overlap", "said"),
    [
        (100, 0.25, "window_px: got 100, wanted a multiple of 32"),
        (0, 0.25, "window_px: got 0"),
        (64, 0.8, "overlap: got 0.8, wanted a share from 0 to 0.75"),
        (64, -0.1, "overlap: got -0.1"),
    ],
)
def test_a_window_that_cannot_be_is_refused(window_px, overlap, said):
    with pytest.raises(ValueError, match=said):
        lay_axis(1000, window_px, overlap)
