"""Clicks are what they claim to be: of the right class, without repeats, nested, well placed."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label
from scipy.spatial import cKDTree
from scipy.stats import binom, chisquare

from pointcover.annotation import click as clicking
from pointcover.annotation.click import tile_generator
from pointcover.annotation.samplers import SAMPLERS, UNITS
from pointcover.annotation.samplers.annotator import Annotator, Clicks
from pointcover.annotation.samplers.drawing import draw_ranks
from pointcover.annotation.samplers.noise import add_noise
from pointcover.annotation.settings import AnnotateSettings
from pointcover.config.params import load_params
from pointcover.labels import IGNORE_INDEX, ClassTable
from tests.imagery import ROOT

Mask = npt.NDArray[np.uint8]

N = IGNORE_INDEX


OWN = load_params(ROOT / "params.yaml").annotate.model_dump()


def annotator(
    sampler: str = "uniform", unit: str = "per_tile", classes: int = 255, **changes: object
) -> Annotator:
    positive = "class 7" if sampler == "positive" else None
    own = {"sampler": sampler, "unit": unit, "positive_class": positive}
    values = {**OWN, "boundary_px": 2.0, "scribble_px": 5, **own, **changes}
    table = ClassTable(
        tuple(f"class {number}" for number in range(classes)),
        tuple((0, 0, number) for number in range(classes)),
    )
    return Annotator(AnnotateSettings(**values), table)


def click(mask: Mask, budget: int, who: Annotator, generator: np.random.Generator) -> Mask:
    return clicking.click(mask, budget, who.settings, who.classes, generator)


# Budgets of all units but per_class mean the same once a tile has its own.
WAYS = [(sampler, unit) for sampler in SAMPLERS for unit in ("per_tile", "per_class")]
every_sampler = pytest.mark.parametrize("name", SAMPLERS)
every_way = pytest.mark.parametrize(("name", "unit"), WAYS)
uniform_unit = pytest.mark.parametrize("unit", ["per_tile", "per_class"])


def masks(max_side: int = 9) -> st.SearchStrategy[Mask]:
    """Tiny masks of few classes, the least and greatest id among them, and unlabelled pixels."""
    return hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side),
        elements=st.sampled_from([0, 1, 7, 254, N]),
    )


seeds = st.integers(0, 2**32)
budgets = st.integers(0, 100)
few_examples = settings(max_examples=15)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clicked(mask: Mask) -> npt.NDArray[np.bool_]:
    return mask != N


def labelled(mask: Mask) -> npt.NDArray[np.intp]:
    return np.flatnonzero(clicked(mask))


def areas_of(mask: Mask) -> npt.NDArray[np.intp]:
    """Number the connected components of one class, class by class, from 1."""
    areas = np.zeros(mask.shape, np.intp)
    for class_id in set(mask[clicked(mask)].tolist()):
        found, _ = label(mask == class_id)
        areas[found > 0] = found[found > 0] + areas.max()
    return areas


def land(size: int = 48, seed: int = 0) -> Mask:
    """Blocks of eight pixels of classes 0 to 3, with an unlabelled corner."""
    mask = np.kron(generator(seed).integers(0, 4, (size // 8, size // 8)), np.ones((8, 8)))
    mask = mask.astype(np.uint8)
    mask[:5, :7] = N
    return mask


# What every sampler guarantees


@every_way
@few_examples
@given(mask=masks(), budget=budgets, seed=seeds)
def test_a_click_carries_the_class_of_its_pixel_and_nothing_else_is_labelled(
    name, unit, mask, budget, seed
):
    before = mask.copy()
    clicks = click(mask, budget, annotator(name, unit), generator(seed))
    assert clicks.dtype == np.uint8
    assert clicks.shape == mask.shape
    assert np.array_equal(clicks[clicked(clicks)], mask[clicked(clicks)])
    assert np.array_equal(mask, before)
    assert not np.shares_memory(clicks, mask)


@every_sampler
@few_examples
@given(mask=masks(), few=budgets, many=budgets, seed=seeds)
def test_the_clicks_of_a_smaller_budget_are_the_first_of_a_larger(name, mask, few, many, seed):
    few, many = sorted((few, many))
    smaller, larger = (
        SAMPLERS[name](mask, labelled(mask), budget, annotator(name), generator(seed))
        for budget in (few, many)
    )
    size = len(smaller.pixels)
    assert np.array_equal(smaller.pixels, larger.pixels[:size])
    assert np.array_equal(smaller.numbers, larger.numbers[:size])
    assert size == len(larger.pixels) or larger.numbers[size] == few or name == "dense"


@every_sampler
@few_examples
@given(mask=masks(), budget=budgets, seed=seeds)
def test_clicks_are_counted_from_zero_within_the_budget_and_no_pixel_is_clicked_twice(
    name, mask, budget, seed
):
    clicks = SAMPLERS[name](mask, labelled(mask), budget, annotator(name), generator(seed))
    assert len(set(clicks.pixels.tolist())) == len(clicks.pixels)
    numbers = sorted(set(clicks.numbers.tolist()))
    assert numbers == list(range(len(numbers)))
    assert (np.diff(clicks.numbers) >= 0).all()
    assert len(numbers) <= budget or name == "dense"


@every_way
@few_examples
@given(mask=masks(), few=budgets, many=budgets, seed=seeds, errs=st.booleans())
def test_budgets_nest_label_by_label_with_and_without_errors(
    name, unit, mask, few, many, seed, errs
):
    few, many = sorted((few, many))
    errors = {"position_noise_px": 2.5, "label_noise_rate": 0.4} if errs else {}
    who = annotator(name, unit, **errors)
    smaller, larger = (click(mask, budget, who, generator(seed)) for budget in (few, many))
    assert np.array_equal(larger[clicked(smaller)], smaller[clicked(smaller)])


@every_way
@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (0, 3)])
@pytest.mark.parametrize("position_noise_px", [0, 3])
def test_an_unlabelled_tile_gets_no_click(name, unit, shape, position_noise_px):
    mask = np.full(shape, N, np.uint8)
    who = annotator(name, unit, position_noise_px=position_noise_px)
    assert np.array_equal(click(mask, 10, who, generator()), mask)


@every_way
def test_the_same_generator_state_gives_the_same_clicks_in_any_memory_layout(name, unit):
    mask = land()
    strided = np.repeat(np.repeat(mask, 2, axis=0), 3, axis=1)[::2, ::3]
    assert not strided.flags["C_CONTIGUOUS"]
    who = annotator(name, unit, classes=8, position_noise_px=2, label_noise_rate=0.2)
    first, *others = (click(one, 5, who, generator(7)) for one in (mask, mask, strided))
    for other in others:
        assert np.array_equal(first, other)


@pytest.mark.parametrize(("name", "unit"), [way for way in WAYS if way[0] != "dense"])
def test_a_generator_used_twice_clicks_elsewhere(name, unit):
    mask, one = land() + np.uint8(7), generator()
    mask[:5, :7] = N
    who = annotator(name, unit)
    assert not np.array_equal(click(mask, 5, who, one), click(mask, 5, who, one))


@every_sampler
def test_a_budget_of_none_gives_no_click_and_one_below_is_refused(name):
    who = annotator(name)
    if name != "dense":
        assert not clicked(click(land(), 0, who, generator())).any()
    with pytest.raises(ValueError, match="got budget=-3, wanted 0 or more"):
        click(land(), -3, who, generator())


@every_sampler
@pytest.mark.parametrize(
    "mask", [np.zeros((3, 3), np.int64), np.zeros((1, 3, 3), np.uint8), np.zeros(3, np.uint8)]
)
def test_what_is_no_mask_is_refused(name, mask):
    with pytest.raises(ValueError, match=r"wanted \(H, W\) uint8"):
        click(mask, 1, annotator(name), generator())


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        (name, unit)
        for name, unit in WAYS
        if name in ("equal", "proportional", "interior", "scribbles", "dense")
        or (unit == "per_class" and name not in ("boundary", "positive"))
    ],
)
@few_examples
@given(mask=masks(), seed=seeds)
def test_no_class_goes_without_a_click_unless_the_budget_cannot_hold_it(name, unit, mask, seed):
    classes = set(mask[clicked(mask)].tolist())
    budget = 1 if unit == "per_class" else len(classes)
    clicks = click(mask, budget, annotator(name, unit), generator(seed))
    assert set(clicks[clicked(clicks)].tolist()) == classes


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"boundary"}))
@few_examples
@given(mask=masks(), budget=budgets, seed=seeds, keep=st.sampled_from([0, 1, 7, 254]))
def test_per_class_clicks_of_a_class_stay_when_every_other_class_vanishes(
    name, mask, budget, seed, keep
):
    assume((mask == keep).any())
    who = annotator(name, "per_class")
    alone = np.where(mask == keep, mask, N).astype(np.uint8)
    together = click(mask, budget, who, generator(seed))
    assert np.array_equal(click(alone, budget, who, generator(seed)) == keep, together == keep)


@pytest.mark.parametrize("name", ["uniform", "equal", "proportional", "spread", "interior"])
@few_examples
@given(mask=masks(), seed=seeds, spare=st.integers(0, 3))
def test_a_budget_of_all_pixels_or_more_clicks_on_them_all(name, mask, seed, spare):
    budget = np.count_nonzero(clicked(mask)) + spare
    assert np.array_equal(click(mask, budget, annotator(name), generator(seed)), mask)


# Uniform, and per class


@pytest.mark.parametrize(
    ("unit", "budget", "wanted"),
    [("per_tile", 5, [2, 10, 22, 27, 38]), ("per_class", 2, [5, 10, 28, 34, 38, 39])],
)
def test_uniform_clicks_are_those_of_earlier_versions(unit, budget, wanted):
    # What the first version's `uniform` and `per_class` drew; fixed on purpose: a change here
    # redraws every click of every experiment.
    mask = (np.arange(42) % 5 // 2).astype(np.uint8).reshape(6, 7)
    clicks = click(mask, budget, annotator("uniform", unit), tile_generator(0, "pinned"))
    assert labelled(clicks).tolist() == wanted


@few_examples
@given(mask=masks(), budget=budgets, seed=seeds)
def test_uniform_gives_the_tile_its_budget_or_all_its_pixels(mask, budget, seed):
    clicks = click(mask, budget, annotator(), generator(seed))
    assert clicked(clicks).sum() == min(budget, clicked(mask).sum())


@pytest.mark.parametrize("name", ["uniform", "equal", "proportional", "spread", "interior"])
@few_examples
@given(mask=masks(), budget=budgets, seed=seeds)
def test_per_class_gives_every_class_its_budget_or_all_its_pixels(name, mask, budget, seed):
    clicks = click(mask, budget, annotator(name, "per_class"), generator(seed))
    for class_id in range(N):
        wanted = min(budget, np.count_nonzero(mask == class_id))
        assert np.count_nonzero(clicks == class_id) == wanted


def test_all_255_class_ids_are_found_in_one_tile():
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name in ("uniform", "equal", "proportional", "interior"):
        assert np.array_equal(click(mask, 1, annotator(name, "per_class"), generator()), mask)


def test_two_classes_of_the_same_size_are_not_clicked_in_the_same_pattern():
    left = np.zeros((20, 20), np.uint8)
    both = np.hstack([left, left + 1])
    clicks = clicked(click(both, 10, annotator("uniform", "per_class"), generator()))
    assert not np.array_equal(clicks[:, :20], clicks[:, 20:])


@given(size=st.integers(0, 60), count=st.integers(0, 80), seed=seeds)
def test_ranks_are_those_of_a_shuffle_swap_by_swap(size, count, seed):
    ranks = draw_ranks(size, count, generator(seed))
    entries = list(range(size))
    draws = generator(seed).random(min(count, size))
    for step, draw in enumerate(draws):
        target = step + int(draw * (size - step))
        entries[step], entries[target] = entries[target], entries[step]
    assert ranks.tolist() == entries[: len(draws)]


@uniform_unit
@pytest.mark.parametrize("budget", [1, 3, 15])
def test_every_pixel_of_a_class_is_as_likely_as_any_other(unit, budget):
    mask = np.full((5, 8), N, np.uint8)
    mask[1:3] = 2
    draws = 2000
    one = generator(20)
    who = annotator("uniform", unit)
    counts = sum(clicked(click(mask, budget, who, one)).astype(int) for _ in range(draws))
    assert counts[mask == N].sum() == 0
    observed = counts[mask == 2]
    assert observed.sum() == draws * budget
    # Draws without replacement vary less than chisquare supposes, by (n - k) / (n - 1).
    statistic = chisquare(observed).statistic * (16 - 1) / (16 - budget)
    assert 3.48 < statistic < 37.70  # 99.8 % of chi-square with 15 degrees of freedom


@uniform_unit
def test_every_pair_of_pixels_is_as_likely_as_any_other(unit):
    mask = np.zeros((1, 5), np.uint8)
    one, who = generator(4), annotator("uniform", unit)
    pairs = Counter(tuple(labelled(click(mask, 2, who, one))) for _ in range(2000))
    assert len(pairs) == 10
    assert chisquare(list(pairs.values())).pvalue > 0.01


def test_uniform_clicks_of_a_class_are_proportional_to_its_area():
    mask = np.zeros((100, 100), np.uint8)
    mask[:, :10] = 1
    clicks = click(mask, 2000, annotator(), generator())
    assert 160 < np.count_nonzero(clicks == 1) < 240  # 200 ± 3 standard deviations of 12


# Budgets divided among the classes


def stripes(*areas: int) -> Mask:
    """One row with `areas[i]` pixels of class i."""
    return np.repeat(np.arange(len(areas)), areas).astype(np.uint8)[np.newaxis]


def divided(mask: Mask, budget: int, name: str, seed: int = 0) -> list[int]:
    clicks = click(mask, budget, annotator(name), generator(seed))
    return np.bincount(clicks[clicked(clicks)], minlength=mask.max() + 1).tolist()


@pytest.mark.parametrize(
    ("areas", "budget", "wanted"),
    [
        ((50, 50, 50), 30, [10, 10, 10]),
        ((100, 3, 100), 43, [20, 3, 20]),  # what class 1 cannot take goes to the others
        ((100, 1, 2), 60, [57, 1, 2]),
        ((4, 4), 100, [4, 4]),
    ],
)
def test_equal_budgets_are_as_by_hand(areas, budget, wanted):
    assert divided(stripes(*areas), budget, "equal") == wanted


def test_equal_divides_a_remainder_at_random():
    odd = [tuple(divided(stripes(50, 50, 50), 2, "equal", seed)) for seed in range(300)]
    counts = Counter(odd)
    assert set(counts) == {(1, 1, 0), (1, 0, 1), (0, 1, 1)}
    assert chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.parametrize(
    ("areas", "budget", "wanted"),
    [
        # One each, then 90/3 = 30, 90/5 = 18, 90/7 ≈ 12.9, 90/9 = 10, 90/11 ≈ 8.2 against 9/3 = 3.
        ((90, 9, 1), 8, [6, 1, 1]),
        ((90, 9, 1), 3, [1, 1, 1]),
        ((90, 9, 1), 2, [1, 1, 0]),  # the largest first
        ((1, 9, 90), 1, [0, 0, 1]),
        ((60, 40), 10, [6, 4]),
        # 50/3 ≈ 16.7, 50/5 = 10, 50/7 ≈ 7.1, then 19/3 ≈ 6.3 before 50/9 ≈ 5.6.
        ((50, 19), 6, [4, 2]),
        ((97, 1, 1, 1), 100, [97, 1, 1, 1]),
    ],
)
def test_proportional_budgets_are_as_by_hand(areas, budget, wanted):
    assert divided(stripes(*areas), budget, "proportional") == wanted


@settings(max_examples=40)
@given(areas=st.lists(st.integers(1, 40), min_size=1, max_size=5), data=st.data())
def test_no_other_division_gives_a_click_to_a_class_with_a_greater_quotient(areas, data):
    budget = data.draw(st.integers(len(areas), sum(areas)))
    given_out = divided(stripes(*areas), budget, "proportional")
    assert sum(given_out) == budget
    last, following = (
        [Fraction(area, 2 * n + 1 - back) for area, n in zip(areas, given_out, strict=True)]
        for back in (2, 0)
    )
    served = [claim for claim, n in zip(last, given_out, strict=True) if n > 1]
    assert min(given_out) >= 1
    assert not served or min(served) >= max(following)


def test_positive_clicks_on_its_class_alone():
    mask = stripes(30, 5, 30)
    for budget, wanted in ((3, 3), (50, 5)):
        clicks = click(mask, budget, annotator("positive", positive_class="class 1"), generator())
        assert Counter(clicks[clicked(clicks)].tolist()) == {1: wanted}
    nothing = click(mask, 9, annotator("positive", positive_class="class 3"), generator())
    assert not clicked(nothing).any()


# Spread


def neighbour_distance(clicks: Mask) -> float:
    """Mean distance from a click to the nearest other."""
    points = np.argwhere(clicked(clicks))
    return float(cKDTree(points).query(points, 2)[0][:, 1].mean())


@pytest.mark.parametrize("budget", [5, 10, 40, 150, 600])
def test_spread_clicks_lie_farther_apart_than_uniform_ones_at_every_budget(budget):
    mask = np.zeros((128, 160), np.uint8)
    mask[40:90, 30:100] = N
    distances = {
        name: np.mean(
            [
                neighbour_distance(click(mask, budget, annotator(name), generator(seed)))
                for seed in range(8)
            ]
        )
        for name in ("uniform", "spread")
    }
    assert distances["spread"] > (1.2 if budget == 5 else 1.4) * distances["uniform"]


@settings(max_examples=20)
@given(mask=masks(max_side=24), seed=seeds)
def test_every_spread_click_keeps_its_share_of_the_greatest_distance_there_was(mask, seed):
    candidates = labelled(mask)
    assume(candidates.size)
    clicks = SAMPLERS["spread"](mask, candidates, 40, annotator(), generator(seed)).pixels
    places = np.column_stack(np.unravel_index(candidates, mask.shape))
    points = np.column_stack(np.unravel_index(clicks, mask.shape))
    extent = np.ptp(places, axis=0) + 1
    room = np.full(len(places), math.hypot(*extent) / math.sqrt(8))
    for point, pixel in zip(points, clicks, strict=True):
        own = room[np.searchsorted(candidates, pixel)]
        assert own > 0.84 * room.max() or room.max() <= 2
        room = np.minimum(room, np.hypot(*(places - point).T))


def test_the_first_spread_clicks_are_apart_but_not_driven_to_the_corners():
    mask = np.zeros((60, 80), np.uint8)
    distances = [
        neighbour_distance(click(mask, 2, annotator("spread"), generator(seed)))
        for seed in range(60)
    ]
    assert min(distances) > 0.84 * 100 / math.sqrt(8)
    assert min(distances) < 40
    assert max(distances) > 60


def test_spread_clicks_on_a_narrow_strip_lie_apart_from_the_first_on():
    mask = np.full((64, 200), N, np.uint8)
    mask[30, :] = 0
    for seed in range(5):
        clicks = click(mask, 3, annotator("spread"), generator(seed))
        assert neighbour_distance(clicks) > 40


# Boundaries


@settings(max_examples=40)
@given(
    mask=masks(),
    distance=st.sampled_from([1, 1.42, 2, 2.5, 3, 5, 40]),
    unit=st.sampled_from(["per_tile", "per_class"]),
)
def test_boundary_clicks_are_all_pixels_near_another_class_and_no_others(mask, distance, unit):
    places = np.argwhere(clicked(mask))
    wanted = np.full_like(mask, N)
    for row, col in places:
        other = places[mask[tuple(places.T)] != mask[row, col]]
        if len(other) and np.hypot(*(other - (row, col)).T).min() <= distance:
            wanted[row, col] = mask[row, col]
    who = annotator("boundary", unit, boundary_px=distance)
    assert np.array_equal(click(mask, 100, who, generator()), wanted)


def test_boundary_clicks_are_fewer_where_boundaries_are_short_and_none_where_there_is_no_other():
    mask = np.zeros((20, 20), np.uint8)
    who = annotator("boundary", boundary_px=1)
    assert not clicked(click(mask, 50, who, generator())).any()
    mask[:5] = N
    assert not clicked(click(mask, 50, who, generator())).any()  # unlabelled is no class
    mask[10, 10] = 1
    assert clicked(click(mask, 50, who, generator())).sum() == 5
    assert clicked(click(mask, 3, who, generator())).sum() == 3


# Interiors


def rim_distances(mask: Mask) -> npt.NDArray[np.float64]:
    """Measure for each labelled pixel how far the rim of its own area is, one by one."""
    areas, depths = areas_of(mask), np.zeros(mask.shape)
    padded = np.pad(areas, 1, constant_values=-1)
    neighbours = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
    rim = np.any([other != areas for other in neighbours], axis=0)
    for row, col in np.argwhere(clicked(mask)):
        own = np.argwhere(rim & (areas == areas[row, col]))
        depths[row, col] = np.hypot(*(own - (row, col)).T).min()
    return depths


def test_interior_clicks_lie_in_the_middle_of_areas_the_deepest_first():
    mask = np.zeros((24, 24), np.uint8)
    mask[2:9, 2:9] = 1  # 7 × 7, the middle at (5, 5)
    mask[2:5, 14:17] = 1  # 3 × 3, the middle at (3, 15)
    mask[14:19, 3:8] = 2  # 5 × 5, the middle at (16, 5)
    mask[21, 21] = 3
    clicks = SAMPLERS["interior"](mask, labelled(mask), 5, annotator(), generator())
    rows, cols = np.divmod(clicks.pixels, 24)
    # The background's deepest pixels lie 6 from its rim; the first area of each class goes first.
    assert mask.ravel()[clicks.pixels].tolist() == [0, 1, 2, 3, 1]
    assert list(zip(rows, cols, strict=True))[1:] == [(5, 5), (16, 5), (21, 21), (3, 15)]


@few_examples
@given(mask=masks(max_side=14), seed=seeds)
def test_interior_clicks_once_on_the_deepest_pixel_of_each_area(mask, seed):
    # Doubled, so that there are areas with a depth.
    mask = np.kron(mask, np.ones((3, 3), np.uint8))
    areas, depths = areas_of(mask), rim_distances(mask)
    count = int(areas.max())
    clicks = SAMPLERS["interior"](mask, labelled(mask), count, annotator(), generator(seed)).pixels
    assert sorted(areas.ravel()[clicks]) == list(range(1, count + 1))
    for pixel in clicks:
        area = areas.ravel()[pixel]
        assert depths.ravel()[pixel] == depths[areas == area].max()
    classes = mask.ravel()[clicks]
    first = np.zeros(count, bool)
    first[np.unique(classes, return_index=True)[1]] = True
    assert first[: first.sum()].all()
    for part in (clicks[first], clicks[~first]):
        assert (np.diff(depths.ravel()[part]) <= 0).all()


def test_further_interior_clicks_keep_away_from_the_rim_and_from_each_other():
    mask = np.full((40, 60), N, np.uint8)
    mask[5:36, 5:56] = 0
    mask[10:20, 40:50] = 1
    depths = 1 + rim_distances(mask).ravel()[labelled(mask)]
    places = np.argwhere(clicked(mask))
    for seed in range(5):
        clicks = SAMPLERS["interior"](mask, labelled(mask), 25, annotator(), generator(seed))
        room = depths
        for number, point in enumerate(np.column_stack(np.divmod(clicks.pixels, 60))):
            own = room[(places == point).all(axis=1)]
            assert number < 2 or own > 0.84 * room.max() > 2
            room = np.minimum(room, np.hypot(*(places - point).T))


def test_interior_clicks_on_a_narrow_road_stay_on_its_middle_line():
    mask = np.full((9, 50), N, np.uint8)
    mask[3:6, 5:45] = 0
    clicks = click(mask, 30, annotator("interior"), generator())
    assert set(np.argwhere(clicked(clicks))[:, 0].tolist()) == {4}


# Scribbles


def strokes_of(clicks: Clicks) -> list[npt.NDArray[np.intp]]:
    return [clicks.pixels[clicks.numbers == n] for n in sorted(set(clicks.numbers.tolist()))]


@few_examples
@given(mask=masks(max_side=12), budget=st.integers(1, 30), length=st.integers(1, 9), seed=seeds)
def test_a_stroke_is_a_short_unbroken_line_within_one_area(mask, budget, length, seed):
    mask = np.kron(mask, np.ones((2, 2), np.uint8))
    who = annotator("scribbles", scribble_px=length)
    clicks = SAMPLERS["scribbles"](mask, labelled(mask), budget, who, generator(seed))
    areas = areas_of(mask)
    for stroke in strokes_of(clicks):
        assert 1 <= len(stroke) <= length
        assert len(set(areas.ravel()[stroke].tolist())) == 1
        steps = np.diff(np.column_stack(np.divmod(stroke, mask.shape[1])), axis=0)
        assert (np.abs(steps).max(axis=1, initial=0) == 1).all()
    once = min(budget, int(areas.max()))
    drawn = [areas.ravel()[stroke[0]] for stroke in strokes_of(clicks)[:once]]
    assert len(set(drawn)) == once  # every area has a stroke before any has a second


def test_a_stroke_runs_along_the_middle_of_a_field():
    mask = np.full((40, 90), N, np.uint8)
    mask[10:19, 5:85] = 2
    who = annotator("scribbles", scribble_px=200)
    (whole,) = strokes_of(SAMPLERS["scribbles"](mask, labelled(mask), 1, who, generator()))
    rows, cols = np.divmod(whole, 90)
    assert len(whole) >= 60
    inner = (cols > 15) & (cols < 75)
    assert inner.sum() == 59
    assert set(rows[inner].tolist()) <= {13, 14, 15}

    who = annotator("scribbles", scribble_px=20)
    starts = set()
    for seed in range(5):
        (stroke,) = strokes_of(SAMPLERS["scribbles"](mask, labelled(mask), 1, who, generator(seed)))
        assert len(stroke) == 20
        assert set(stroke.tolist()) <= set(whole.tolist())
        starts.add(int(stroke[0]))
    assert len(starts) > 1


def test_a_stroke_takes_the_longest_way_through_a_crossing_and_none_twice():
    mask = np.full((31, 61), N, np.uint8)
    mask[15, 5:56] = 0  # 51 long
    mask[5:26, 20] = 0  # 21 long, crossing it
    who = annotator("scribbles", scribble_px=100)
    clicks = SAMPLERS["scribbles"](mask, labelled(mask), 10, who, generator())
    first, *others = strokes_of(clicks)
    rows, cols = np.divmod(first, 61)
    assert sorted(cols) == list(range(5, 56))
    assert set(rows) <= {14, 15, 16}  # the crossing may be cut short
    assert len(others) == 2
    assert sum(len(other) for other in others) == 20


def test_larger_areas_get_their_stroke_before_smaller_ones_of_the_same_class():
    mask = np.full((30, 60), N, np.uint8)
    mask[2, 5:15] = mask[10, 5:55] = mask[20, 5:35] = 0
    mask[28, 5:9] = 1
    clicks = SAMPLERS["scribbles"](mask, labelled(mask), 4, annotator("scribbles"), generator())
    rows = [stroke[0] // 60 for stroke in strokes_of(clicks)]
    assert sorted(rows[:2]) == [10, 28]  # the first of each class
    assert rows[2:] == [20, 2]


def test_the_smallest_areas_get_their_stroke():
    mask = np.zeros((12, 12), np.uint8)
    mask[3:5, 3:5] = 1  # plain thinning leaves nothing of it
    mask[8, 8] = mask[9, 9] = 2  # two areas that touch at a corner
    clicks = click(mask, 4, annotator("scribbles"), generator())
    assert np.count_nonzero(clicks == 1) >= 1
    assert np.count_nonzero(clicks == 2) == 2


# Units


def test_budgets_of_units_are_as_by_hand():
    tiles = {"b": 1000, "a": 250, "c": 0, "d": 19}
    wanted = {
        "per_tile": {"b": 10, "a": 10, "c": 10, "d": 10},
        "per_class": {"b": 10, "a": 10, "c": 10, "d": 10},
        "percent": {"b": 100, "a": 25, "c": 1, "d": 1},
        # 1000/1, /3, /5, then 250/1 = 250, 1000/7 ≈ 143, …, 1000/15 ≈ 67 before 250/5 = 50.
        "total": {"b": 8, "a": 2, "c": 0, "d": 0},
    }
    assert set(wanted) == set(UNITS)
    for unit, budget in wanted.items():
        assert UNITS[unit](10, tiles) == budget


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=8), points=st.integers(1, 110))
def test_a_total_is_divided_as_by_giving_click_by_click_to_the_greatest_quotient(sizes, points):
    tiles = {f"tile {number}": size for number, size in enumerate(sizes)}
    wanted = dict.fromkeys(tiles, 0)
    for _ in range(min(points, sum(sizes))):
        # The first id of the greatest quotient.
        tile = max(sorted(tiles), key=lambda one: Fraction(tiles[one], 2 * wanted[one] + 1))
        wanted[tile] += 1
    backwards = dict(reversed(tiles.items()))
    for order in (tiles, backwards):
        assert UNITS["total"](points, order) == wanted


def test_a_large_total_is_spent_to_the_last_click_and_nests_in_every_tile():
    sizes = generator().integers(1, 512 * 512, 500)
    tiles = {str(number): int(size) for number, size in enumerate(sizes)}
    before = dict.fromkeys(tiles, 0)
    for points in (1, 499, 500, 20_000, 20_001, 1_000_003):
        now = UNITS["total"](points, tiles)
        assert sum(now.values()) == points
        assert all(before[tile] <= now[tile] <= tiles[tile] for tile in tiles)
        before = now
    fractions = np.array(list(now.values())) / points
    assert np.abs(fractions - sizes / sizes.sum()).max() < 1 / points  # within one click each


def test_a_total_beyond_all_pixels_gives_every_tile_its_pixels():
    tiles = {"a": 3, "b": 0, "c": 8}
    assert UNITS["total"](99, tiles) == tiles


@pytest.mark.parametrize("percent", [1, 10, 70, 100])
def test_percent_labels_that_percentage_of_the_labelled_pixels(percent):
    mask = land(80)
    who = annotator("uniform", "percent")
    known = np.count_nonzero(clicked(mask))
    clicks = click(mask, UNITS["percent"](percent, {"a": known})["a"], who, generator())
    assert np.count_nonzero(clicked(clicks)) == known * percent // 100


# Errors of annotators


def meant(count: int, mask: Mask, sampler: str = "uniform") -> Clicks:
    return SAMPLERS[sampler](mask, labelled(mask), count, annotator(), generator(5))


@every_way
@few_examples
@given(mask=masks(), budget=budgets, seed=seeds)
def test_errors_too_small_to_show_change_nothing(name, unit, mask, budget, seed):
    # Within half a pixel there is only the pixel itself.
    plain, shaky = (
        click(mask, budget, annotator(name, unit, position_noise_px=jitter), generator(seed))
        for jitter in (0.0, 0.5)
    )
    assert np.array_equal(plain, shaky)


def test_a_moved_click_lands_on_any_pixel_of_the_disc_alike():
    mask = np.zeros((81, 81), np.uint8)
    mask[40, 40] = 3
    clicks = Clicks.single(np.full(20_000, 40 * 81 + 40))
    landed, ids = add_noise(clicks, mask, annotator(position_noise_px=2), generator())
    offsets = Counter(zip(*(part.tolist() for part in np.divmod(landed, 81)), strict=True))
    assert set(offsets) == {
        (40 + row, 40 + col) for row in range(-2, 3) for col in range(-2, 3) if row**2 + col**2 <= 4
    }
    assert chisquare(list(offsets.values())).pvalue > 0.01
    assert (ids == 3).all()  # the class that was meant, not the one that it landed on


def test_a_click_at_the_edge_is_mirrored_into_the_tile():
    mask = np.zeros((1, 4), np.uint8)
    landed, _ = add_noise(
        Clicks.single(np.zeros(10_000, np.intp)), mask, annotator(position_noise_px=1), generator()
    )
    # Up, down, left and nowhere lead back to column 0; right leads to column 1.
    assert Counter(landed.tolist()).keys() == {0, 1}
    assert chisquare([(landed == 0).sum(), (landed == 1).sum()], [8000, 2000]).pvalue > 0.01


@settings(max_examples=40)
@given(mask=masks(4), position_noise_px=st.floats(0, 50), seed=seeds)
def test_clicks_stay_in_the_tile_and_within_their_distance(mask, position_noise_px, seed):
    clicks = Clicks.single(labelled(mask))
    landed, _ = add_noise(
        clicks, mask, annotator(position_noise_px=position_noise_px), generator(seed)
    )
    rows, cols = np.divmod(landed, mask.shape[1])
    assert ((rows >= 0) & (rows < mask.shape[0])).all()
    was_row, was_col = np.divmod(clicks.pixels, mask.shape[1])
    assert (np.hypot(rows - was_row, cols - was_col) <= position_noise_px).all()


def test_wrong_labels_are_as_many_as_asked_and_any_other_class_alike():
    mask = land(160)
    count, rate = 8000, 0.3
    clicks = meant(count, mask)
    _, ids = add_noise(clicks, mask, annotator(classes=6, label_noise_rate=rate), generator())
    right = mask.ravel()[clicks.pixels]
    wrong = ids != right
    low, high = binom.interval(0.999, count, rate)
    assert low <= wrong.sum() <= high
    for class_id in range(4):
        named = np.bincount(ids[wrong & (right == class_id)], minlength=6)
        assert named[class_id] == 0
        assert chisquare(np.delete(named, class_id)).pvalue > 0.001


@pytest.mark.parametrize("classes", [2, 255])
def test_a_label_noise_rate_of_one_leaves_no_right_label(classes):
    mask = (np.arange(60 * 60).reshape(60, 60) % classes).astype(np.uint8)
    who = annotator(classes=classes, label_noise_rate=1)
    clicks = click(mask, 2000, who, generator())
    assert clicked(clicks).sum() == 2000
    assert not (clicks == mask).any()
    assert clicks[clicked(clicks)].max() == classes - 1


def test_errors_move_no_click_that_is_meant_and_only_add_up():
    mask = land(64)
    plain, some, more = (
        click(mask, 300, annotator(classes=4, label_noise_rate=rate), generator(2))
        for rate in (0, 0.2, 0.6)
    )
    assert np.array_equal(clicked(plain), clicked(some))
    wrong = some != plain
    assert 0 < wrong.sum() < (more != plain).sum()
    assert np.array_equal(more[wrong], some[wrong])


def test_of_two_clicks_on_one_pixel_the_earlier_counts():
    mask = np.array([[0, 1]], np.uint8)
    seen = set()
    for seed in range(40):
        who = annotator(position_noise_px=1, classes=2)
        first = click(mask, 1, who, generator(seed))
        both = click(mask, 2, who, generator(seed))
        assert np.array_equal(both[clicked(first)], first[clicked(first)])
        seen.add(int(clicked(both).sum()))
    assert seen == {1, 2}


def test_a_stroke_moves_and_errs_as_a_whole():
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 25:34] = 1
    who = annotator("scribbles", classes=5, scribble_px=9)
    clicks = SAMPLERS["scribbles"](mask, labelled(mask), 4, who, generator())
    who = annotator("scribbles", classes=5, position_noise_px=3, label_noise_rate=0.5)
    landed, ids = add_noise(clicks, mask, who, generator(1))
    rows, cols = np.divmod(landed, 60)
    was_row, was_col = np.divmod(clicks.pixels, 60)
    moves = set()
    for number in range(4):
        own = clicks.numbers == number
        assert own.sum() == 9
        (move,) = {*zip(rows[own] - was_row[own], cols[own] - was_col[own], strict=True)}
        moves.add(move)
        assert len(set(ids[own].tolist())) == 1
    assert len(moves) > 1


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
