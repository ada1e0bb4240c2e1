"""Clicks are what they claim to be: of the right class, without repeats, nested, and uniform."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chisquare

from pointcover.annotations import SAMPLERS, dense, per_class, tile_generator, uniform
from pointcover.labels import IGNORE_INDEX

Mask = npt.NDArray[np.uint8]

every_sampler = pytest.mark.parametrize("name", SAMPLERS)
drawing_sampler = pytest.mark.parametrize("sampler", [per_class, uniform])


def masks(max_side: int = 9) -> st.SearchStrategy[Mask]:
    """Tiny masks of few classes, the least and greatest id among them, and unlabelled pixels."""
    return hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side),
        elements=st.sampled_from([0, 1, 7, 254, IGNORE_INDEX]),
    )


seeds = st.integers(0, 2**32)
budgets = st.integers(1, 100)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clicked(mask: Mask) -> Mask:
    return mask != IGNORE_INDEX


# What every sampler promises


@every_sampler
@given(mask=masks(), points=budgets, seed=seeds)
def test_a_click_carries_the_class_of_its_pixel_and_nothing_else_is_labelled(
    name, mask, points, seed
):
    before = mask.copy()
    clicks = SAMPLERS[name](mask, points, generator(seed))
    assert clicks.dtype == np.uint8
    assert clicks.shape == mask.shape
    assert np.array_equal(clicks[clicked(clicks)], mask[clicked(clicks)])
    assert np.array_equal(mask, before)
    assert not np.shares_memory(clicks, mask)


@every_sampler
@given(mask=masks(), few=budgets, many=budgets, seed=seeds)
def test_the_clicks_of_a_smaller_budget_are_among_those_of_a_larger(name, mask, few, many, seed):
    few, many = sorted((few, many))
    smaller = SAMPLERS[name](mask, few, generator(seed))
    larger = SAMPLERS[name](mask, many, generator(seed))
    assert not (clicked(smaller) & ~clicked(larger)).any()


@every_sampler
@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (0, 3)])
def test_an_unlabelled_tile_gets_no_click(name, shape):
    mask = np.full(shape, IGNORE_INDEX, np.uint8)
    assert np.array_equal(SAMPLERS[name](mask, 10, generator()), mask)


@every_sampler
def test_the_same_generator_state_gives_the_same_clicks(name):
    mask = generator(1).integers(0, 4, (40, 50), np.uint8)
    first, second = (SAMPLERS[name](mask, 5, generator(7)) for _ in range(2))
    assert np.array_equal(first, second)


@every_sampler
def test_a_mask_that_is_not_contiguous_gives_the_same_clicks(name):
    mask = generator(1).integers(0, 4, (40, 50), np.uint8)
    strided = np.repeat(np.repeat(mask, 2, axis=0), 3, axis=1)[::2, ::3]
    assert not strided.flags["C_CONTIGUOUS"]
    clicks = [SAMPLERS[name](one, 5, generator(7)) for one in (mask, strided)]
    assert np.array_equal(*clicks)


@every_sampler
@pytest.mark.parametrize("points", [0, -3])
def test_a_budget_below_one_is_refused(name, points):
    with pytest.raises(ValueError, match=f"got points={points}, wanted 1 or more"):
        SAMPLERS[name](np.zeros((3, 3), np.uint8), points, generator())


@every_sampler
@pytest.mark.parametrize(
    "mask", [np.zeros((3, 3), np.int64), np.zeros((1, 3, 3), np.uint8), np.zeros(3, np.uint8)]
)
def test_what_is_no_mask_is_refused(name, mask):
    with pytest.raises(ValueError, match=r"wanted \(H, W\) uint8"):
        SAMPLERS[name](mask, 1, generator())


# Counts


@given(mask=masks(), points=budgets, seed=seeds)
def test_per_class_gives_every_class_its_budget_or_all_its_pixels(mask, points, seed):
    clicks = per_class(mask, points, generator(seed))
    for class_id in range(IGNORE_INDEX):
        wanted = min(points, np.count_nonzero(mask == class_id))
        assert np.count_nonzero(clicks == class_id) == wanted


@given(mask=masks(), points=budgets, seed=seeds)
def test_uniform_gives_the_tile_its_budget_or_all_its_pixels(mask, points, seed):
    clicks = uniform(mask, points, generator(seed))
    assert clicked(clicks).sum() == min(points, clicked(mask).sum())


@given(mask=masks(), points=budgets)
def test_dense_gives_every_labelled_pixel_whatever_the_budget(mask, points):
    assert np.array_equal(dense(mask, points, generator()), mask)


def test_a_class_of_one_pixel_is_found():
    mask = np.zeros((64, 64), np.uint8)
    mask[63, 63] = 3
    clicks = per_class(mask, 2, generator())
    assert clicks[63, 63] == 3
    assert np.count_nonzero(clicks == 0) == 2


def test_all_255_class_ids_are_found_in_one_tile():
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(per_class(mask, 1, generator()), mask)


# Nesting, step by step


@drawing_sampler
@settings(max_examples=50)
@given(mask=masks(max_side=5), seed=seeds)
def test_each_further_point_adds_at_most_one_click_a_class_and_takes_none_away(sampler, mask, seed):
    previous = np.zeros(mask.shape, bool)
    for points in range(1, mask.size + 2):
        clicks = sampler(mask, points, generator(seed))
        now = clicked(clicks)
        assert not (previous & ~now).any()
        added = np.bincount(mask[now & ~previous], minlength=256)
        assert added.max() <= 1
        previous = now
    assert np.array_equal(previous, clicked(mask))


@drawing_sampler
def test_budgets_nest_on_a_whole_tile(sampler):
    mask = (np.arange(512 * 512).reshape(512, 512) % 5).astype(np.uint8)
    small, large = (clicked(sampler(mask, points, generator(3))) for points in (100, 5000))
    assert small.sum() in (100, 500)
    assert not (small & ~large).any()


# Independence


@given(mask=masks(), points=budgets, seed=seeds, keep=st.sampled_from([0, 1, 7, 254]))
def test_per_class_clicks_of_a_class_stay_when_every_other_class_vanishes(mask, points, seed, keep):
    assume((mask == keep).any())
    alone = np.where(mask == keep, mask, IGNORE_INDEX).astype(np.uint8)
    together = per_class(mask, points, generator(seed))
    assert np.array_equal(per_class(alone, points, generator(seed)) == keep, together == keep)


def test_two_classes_of_the_same_size_are_not_clicked_in_the_same_pattern():
    left = np.zeros((20, 20), np.uint8)
    both = np.hstack([left, left + 1])
    clicks = per_class(both, 10, generator())
    assert not np.array_equal(clicked(clicks)[:, :20], clicked(clicks)[:, 20:])


@drawing_sampler
def test_a_generator_used_twice_clicks_elsewhere(sampler):
    mask = np.zeros((30, 30), np.uint8)
    one = generator()
    assert not np.array_equal(sampler(mask, 5, one), sampler(mask, 5, one))


# Uniformity


@pytest.mark.parametrize("points", [1, 3, 12, 15])
@drawing_sampler
def test_every_pixel_of_a_class_is_as_likely_as_any_other(
    sampler: Callable[..., Mask], points: int
):
    mask = np.full((5, 8), IGNORE_INDEX, np.uint8)
    mask[1:3] = 2
    draws = 4000
    one = generator(20)
    counts = sum(clicked(sampler(mask, points, one)).astype(int) for _ in range(draws))
    assert counts[mask == IGNORE_INDEX].sum() == 0
    observed = counts[mask == 2]
    assert observed.sum() == draws * points
    # Draws without replacement vary less than chisquare supposes, by (n - k) / (n - 1).
    statistic = chisquare(observed).statistic * (16 - 1) / (16 - points)
    assert 3.48 < statistic < 37.70  # 99.8 % of chi-square with 15 degrees of freedom


@drawing_sampler
def test_every_pair_of_pixels_is_as_likely_as_any_other(sampler):
    mask = np.zeros((1, 5), np.uint8)
    one = generator(4)
    pairs: dict[tuple[int, ...], int] = {}
    for _ in range(4000):
        pair = tuple(np.flatnonzero(clicked(sampler(mask, 2, one))))
        pairs[pair] = pairs.get(pair, 0) + 1
    assert len(pairs) == 10
    assert chisquare(list(pairs.values())).pvalue > 0.01


def test_uniform_clicks_follow_the_shares_of_the_land():
    mask = np.zeros((100, 100), np.uint8)
    mask[:, :10] = 1
    clicks = uniform(mask, 2000, generator())
    assert 160 < np.count_nonzero(clicks == 1) < 240  # 200 ± 3 standard deviations of 12


# The generator of a tile


def test_a_tile_generator_depends_on_seed_and_tile_id_and_on_nothing_else():
    def first(seed: int, tile_id: str) -> float:
        return float(tile_generator(seed, tile_id).random())

    assert first(0, "a_01") == first(0, "a_01")
    assert (
        len({first(seed, tile) for seed in (0, 1, 12) for tile in ("a", "b", "1:a", "2:a")}) == 12
    )


def test_a_tile_generator_is_the_same_on_every_machine():
    # blake2b("0:N-33-60-D-c-4-2_0001"), 16 bytes, little-endian, into PCG64; fixed on purpose:
    # a change here redraws every click of every experiment.
    value = tile_generator(0, "N-33-60-D-c-4-2_0001").integers(2**63)
    assert value == 9181070472081821638
