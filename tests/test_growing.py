"""Links are the pixels that the rule names, of one class, and never at a click's expense."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pointcover import growing
from pointcover.growing import GROWERS, link, none
from pointcover.labels import IGNORE_INDEX

Mask = npt.NDArray[np.uint8]

every_grower = pytest.mark.parametrize("name", GROWERS)


def masks(max_side: int = 12) -> st.SearchStrategy[Mask]:
    """Tiny masks with clicks of three classes, mostly unlabelled but sometimes crowded."""
    return hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side),
        elements=st.sampled_from([0, 1, 254]),
        fill=st.just(IGNORE_INDEX),
    )


distances = st.one_of(
    st.integers(1, 20).map(float),
    st.integers(1, 300).map(math.sqrt),
    st.floats(0.1, 20),
)


def drawn(text: str) -> Mask:
    """Turn rows of digits, with dots where unlabelled, into a mask."""
    rows = text.split()
    values = [[IGNORE_INDEX if sign == "." else int(sign) for sign in row] for row in rows]
    return np.array(values, np.uint8)


def linked_one_by_one(clicks: Mask, distance_px: float) -> Mask:
    """Link as the docstring says, pair by pair, pixel by pixel, without NumPy or a tree."""
    height, width = clicks.shape
    at = {
        (r, c): int(clicks[r, c])
        for r in range(height)
        for c in range(width)
        if clicks[r, c] != IGNORE_INDEX
    }
    claims: dict[tuple[int, int], set[int]] = {}
    for (r, c), class_id in at.items():
        for (end_r, end_c), other in at.items():
            down, right = end_r - r, end_c - c
            if other != class_id or (down, right) <= (0, 0):
                continue
            if math.hypot(down, right) > distance_px:
                continue
            n = max(abs(down), abs(right))
            for t in range(1, n):
                row, rest = divmod(t * down, n)
                row += 2 * rest >= n
                col, rest = divmod(t * right, n)
                col += 2 * rest >= n
                claims.setdefault((r + row, c + col), set()).add(class_id)
    grown = clicks.copy()
    for place, classes in claims.items():
        if place not in at and len(classes) == 1:
            grown[place] = classes.pop()
    return grown


# What every grower promises


@every_grower
@given(clicks=masks(), distance_px=distances)
def test_clicks_are_kept_and_no_class_appears(name, clicks, distance_px):
    before = clicks.copy()
    grown = GROWERS[name](clicks, distance_px=distance_px)
    assert grown.dtype == np.uint8
    assert grown.shape == clicks.shape
    assert np.array_equal(grown[clicks != IGNORE_INDEX], clicks[clicks != IGNORE_INDEX])
    assert set(np.unique(grown)) <= set(np.unique(clicks))
    assert np.array_equal(clicks, before)
    assert not np.shares_memory(grown, clicks)


@every_grower
@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (0, 3)])
def test_nothing_grows_from_no_clicks(name, shape):
    clicks = np.full(shape, IGNORE_INDEX, np.uint8)
    assert np.array_equal(GROWERS[name](clicks, distance_px=30), clicks)


@every_grower
def test_a_fully_labelled_tile_stays_as_it_is(name):
    clicks = np.random.default_rng(0).integers(0, 5, (512, 512), np.uint8)
    assert np.array_equal(GROWERS[name](clicks, distance_px=64), clicks)


@every_grower
def test_clicks_that_are_not_contiguous_grow_the_same(name):
    clicks = np.random.default_rng(0).choice(np.array([0, 1, 255, 255, 255], np.uint8), (20, 30))
    turned = np.asfortranarray(clicks)
    grown = [GROWERS[name](one, distance_px=5) for one in (clicks, turned)]
    assert np.array_equal(*grown)


@every_grower
@pytest.mark.parametrize("distance_px", [0, -1.5, math.inf, math.nan])
def test_a_distance_that_is_not_above_zero_and_finite_is_refused(name, distance_px):
    with pytest.raises(ValueError, match=f"got distance_px={distance_px}, wanted a finite number"):
        GROWERS[name](np.zeros((3, 3), np.uint8), distance_px=distance_px)


@every_grower
@pytest.mark.parametrize("clicks", [np.zeros((3, 3), np.int64), np.zeros((1, 3, 3), np.uint8)])
def test_what_is_no_mask_is_refused(name, clicks):
    with pytest.raises(ValueError, match=r"wanted \(H, W\) uint8"):
        GROWERS[name](clicks, distance_px=5)


@given(clicks=masks(), distance_px=distances)
def test_none_grows_nothing(clicks, distance_px):
    assert np.array_equal(none(clicks, distance_px=distance_px), clicks)


# Links worked out by hand


@pytest.mark.parametrize(
    ("clicks", "distance_px", "linked"),
    [
        pytest.param("1...1", 4, "11111", id="a row at exactly the distance"),
        pytest.param("1...1", 3.999, "1...1", id="a row just beyond the distance"),
        pytest.param("1 . . 1", 3, "1 1 1 1", id="a column"),
        pytest.param("1.. ... ..1", 3, "1.. .1. ..1", id="a diagonal"),
        pytest.param("..1 ... 1..", 3, "..1 .1. 1..", id="the other diagonal"),
        pytest.param("1.. ..1", 3, "1.. .11", id="half a row rounds down the rows"),
        pytest.param("..1 1..", 3, "..1 11.", id="half a row rounds down, going left too"),
        pytest.param("1. .. .1", 3, "1. .1 .1", id="half a column rounds to the right"),
        pytest.param(".1 .. 1.", 3, ".1 .1 1.", id="half a column rounds right, going left too"),
        pytest.param("1..2", 9, "1..2", id="two classes are not joined"),
        pytest.param("1.2.1", 9, "11211", id="a line passes over a foreign click"),
        pytest.param("0..0", 9, "0000", id="class 0 is a class"),
        pytest.param("1.2 ... 2.1", 9, "1.2 ... 2.1", id="crossing lines leave the pixel alone"),
        pytest.param(
            "..2.. 1...1 ..2..", 9, "..2.. 11.11 ..2..", id="only the contested pixel is left out"
        ),
        pytest.param(
            ".2. 1.1 .2. 3.3", 2, ".2. 1.1 .2. 333", id="a third class elsewhere is not disturbed"
        ),
    ],
)
def test_links_are_those_worked_out_by_hand(clicks, distance_px, linked):
    assert np.array_equal(link(drawn(clicks), distance_px=distance_px), drawn(linked))


def test_a_pixel_claimed_by_three_classes_stays_unlabelled():
    clicks = drawn("1.2.3 ..... ..... ..... 3.2.1")
    assert link(clicks, distance_px=9)[2, 2] == IGNORE_INDEX


@pytest.mark.parametrize(("down", "right"), [(2, 3), (3, 4), (1, 2), (5, 12), (0, 7), (6, 0)])
def test_the_distance_itself_is_included_whatever_its_rounding(down, right):
    clicks = np.full((14, 14), IGNORE_INDEX, np.uint8)
    clicks[0, 0] = clicks[down, right] = 1
    exact = math.sqrt(down**2 + right**2)
    assert np.count_nonzero(link(clicks, distance_px=exact) == 1) == max(down, right) + 1
    assert np.array_equal(link(clicks, distance_px=math.nextafter(exact, 0)), clicks)


def test_the_distance_is_exact_for_every_length_on_a_tile():
    for squared in range(1, 2 * 512**2, 7):
        exact = math.sqrt(squared)
        assert growing._squared(exact) == squared
        assert growing._squared(math.nextafter(exact, 0)) == squared - 1


def test_a_distance_beyond_any_tile_links_all_of_a_class():
    clicks = np.full((30, 40), IGNORE_INDEX, np.uint8)
    clicks[0, 0] = clicks[29, 39] = 1
    assert np.count_nonzero(link(clicks, distance_px=1e300) == 1) == 40


# Links against the reference


@settings(max_examples=300)
@given(clicks=masks(), distance_px=distances)
def test_links_agree_with_linking_one_by_one(clicks, distance_px):
    assert np.array_equal(
        link(clicks, distance_px=distance_px), linked_one_by_one(clicks, distance_px)
    )


@pytest.mark.parametrize("limit", [0, 5, 400])
@settings(max_examples=100)
@given(clicks=masks(), distance_px=distances)
def test_crowded_classes_agree_with_linking_one_by_one(limit, clicks, distance_px):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "_MAX_PAIRS", limit)
        grown = link(clicks, distance_px=distance_px)
    assert np.array_equal(grown, linked_one_by_one(clicks, distance_px))


@pytest.mark.parametrize("distance_px", [9.5, 40])
@pytest.mark.parametrize("line_pixels", [1, 100, 1 << 17])
def test_many_long_links_drawn_in_parts_agree_with_linking_one_by_one(
    distance_px, line_pixels, monkeypatch
):
    monkeypatch.setattr(growing, "_LINE_PIXELS", line_pixels)
    generator = np.random.default_rng(5)
    clicks = np.full((90, 120), IGNORE_INDEX, np.uint8)
    places = generator.choice(clicks.size, 150, replace=False)
    clicks.ravel()[places] = generator.integers(0, 4, places.size)
    assert np.array_equal(
        link(clicks, distance_px=distance_px), linked_one_by_one(clicks, distance_px)
    )


def test_every_class_id_can_be_linked_in_one_tile():
    clicks = np.full((255, 5), IGNORE_INDEX, np.uint8)
    clicks[:, 0] = clicks[:, 4] = np.arange(255)
    assert np.array_equal(link(clicks, distance_px=4), np.repeat(clicks[:, :1], 5, axis=1))


def test_dense_clicks_are_linked_across_a_gap():
    # Some 20 million pairs up to 8 px: more than are held at a time.
    clicks = np.zeros((400, 512), np.uint8)
    clicks[:, 200:206] = IGNORE_INDEX
    assert (link(clicks, distance_px=8) == 0).all()
    assert np.array_equal(link(clicks, distance_px=6), clicks)
