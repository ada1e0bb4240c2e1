"""Windows lie in the raster, overlap as they should, and their centres cover it once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointcover.prediction.windows import (
    ALIGNMENT_PX,
    MAX_OVERLAP,
    WindowNeeds,
    lay_axis,
    round_up,
    usual_window_px,
)

LENGTHS = st.integers(1, 3000)
WINDOWS = st.integers(4, 20).map(lambda n: n * ALIGNMENT_PX)
OVERLAPS = st.floats(0, MAX_OVERLAP)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_centres_cover_each_pixel_once_and_lie_in_their_windows(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    assert (axis.cuts[0], axis.cuts[-1]) == (0, length)
    for number, start in enumerate(axis.starts):
        left, right = axis.cuts[number : number + 2]
        assert start <= left < right <= min(start + axis.size, length)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_windows_have_valid_sizes_and_the_minimum_overlap(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    assert axis.size == min(window_px, round_up(length))
    assert axis.reach == round_up(length)
    assert (window_px - np.diff(axis.starts) >= round(overlap * window_px)).all()
    assert all(start % ALIGNMENT_PX == 0 for start in axis.starts)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_no_fewer_windows_would_do(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    fewer = len(axis.starts) - 1
    step = (window_px - round(overlap * window_px)) // ALIGNMENT_PX * ALIGNMENT_PX
    assert fewer == 0 or window_px + (fewer - 1) * step < round_up(length)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_weights_for_blending_are_above_0_everywhere(length, window_px, overlap):
    axis = lay_axis(length, window_px, overlap)
    assert axis.weights.shape == (axis.size,)
    assert axis.total_weights().shape == (length,)
    assert (axis.total_weights() > 0).all()


def test_a_quarter_of_overlap_is_laid_as_worked_out_by_hand():
    axis = lay_axis(210, 128, 0.25)  # up to 224, in steps of at most 96
    assert axis.starts == (0, 96)
    assert axis.cuts == (0, 112, 210)
    assert axis.ends == (128, 210)
    weights = axis.weights
    assert weights[:3].tolist() == [0.5 / 32, 1.5 / 32, 2.5 / 32]
    assert weights[32:96].tolist() == [1] * 64


@pytest.mark.parametrize(
    ("window_px", "overlap", "said"),
    [
        (100, 0.25, "window_px: got 100, wanted a multiple of 32"),
        (0, 0.25, "window_px: got 0"),
        (64, 0.8, "overlap: got 0.8, wanted a fraction from 0 to 0.75"),
        (64, -0.1, "overlap: got -0.1"),
        (64, 0.6, "so they are less than 32 px apart"),
    ],
)
def test_invalid_windows_are_refused(window_px, overlap, said):
    with pytest.raises(ValueError, match=said):
        lay_axis(1000, window_px, overlap)


@given(
    length=st.integers(1, 3000),
    margin_px=st.integers(0, 200),
    alignment_px=st.sampled_from([1, 16, 32, 64]),
)
def test_windows_have_the_margin_and_alignment_that_models_need(length, margin_px, alignment_px):
    axis = lay_axis(length, 512, 0.25, WindowNeeds(margin_px, alignment_px))
    assert all(start % alignment_px == 0 for start in axis.starts)
    for start, first, last in zip(axis.starts, axis.cuts, axis.cuts[1:], strict=False):
        assert first == 0 or first - start >= margin_px
        assert last == length or start + axis.size - last >= margin_px


def test_a_window_smaller_than_its_margins_is_refused():
    with pytest.raises(ValueError, match=r"needs 144 px around .* at least 320"):
        lay_axis(1000, 256, 0.25, WindowNeeds(144))
    assert lay_axis(200, 256, 0.25, WindowNeeds(144)).starts == (0,)


def test_windows_are_larger_where_margins_are():
    assert usual_window_px(256) == 512
    assert usual_window_px(256, WindowNeeds(96)) == 768
    assert usual_window_px(256, WindowNeeds(144)) == 896
