"""Each propagator gives the labels of its rule, of clicked classes, and changes no click."""

import heapq
import math
from itertools import product
from typing import get_type_hints

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import random_walker

from pointcover.annotation.propagation import PROPAGATORS, linking, propagate, tell_sources
from pointcover.annotation.propagation.base import ClickedTile, Proposal
from pointcover.annotation.settings import AnnotateSettings
from pointcover.config.params import load_params
from pointcover.labels import IGNORE_INDEX, ClassTable
from tests.imagery import ROOT

Mask = npt.NDArray[np.uint8]

every_propagator = pytest.mark.parametrize("name", PROPAGATORS)

CLASSES = ClassTable(tuple(map(str, range(255))), tuple((0, 0, i) for i in range(255)))
"""The name of each class is its id."""

OWN = load_params(ROOT / "params.yaml").annotate


def of(name, **values):
    """Return the settings of a propagator: those of params.yaml with values changed."""
    return getattr(OWN, name).model_copy(update=values)


SETTINGS = {
    "none": None,
    "link": of("link", distance_px=6),
    "nearest": of("nearest", radius_px=2.5, class_radius_px={"1": 4}),
    "superpixel": of("superpixel", side_px=3, min_fraction=0.6),
    "geodesic": of("geodesic", limit_px=8, contrast_px=10),
    "random_walker": of("random_walker", beta=1, range_px=20, min_probability=0.55),
}
"""Such that much is propagated on tiles of a dozen pixels."""


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


def propagated(name, clicks, image=None, valid=None, settings=None):
    """Propagate clicks; without an image on a black one, with data everywhere."""
    image = np.zeros((3, *clicks.shape), np.uint8) if image is None else image
    valid = np.ones(clicks.shape, bool) if valid is None else valid
    settings = SETTINGS[name] if settings is None else settings
    return propagate(ClickedTile(clicks, image, valid, CLASSES), name, settings)


def link(clicks: Mask, *, distance_px: float) -> Mask:
    return propagated("link", clicks, settings=of("link", distance_px=distance_px)).mask


@st.composite
def tiles(draw):
    """Clicks, an image of one to four bands with few or many colours, and where it has data."""
    clicks = draw(masks())
    bands = draw(st.sampled_from([1, 3, 4]))
    colours = st.sampled_from([0, 40, 255]) if draw(st.booleans()) else st.integers(0, 255)
    image = draw(hnp.arrays(np.uint8, (bands, *clicks.shape), elements=colours))
    valid = draw(hnp.arrays(bool, clicks.shape, fill=st.just(True)))
    return clicks, image, valid


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
    found = clicks.copy()
    for place, classes in claims.items():
        if place not in at and len(classes) == 1:
            found[place] = classes.pop()
    return found


# What every propagator guarantees


def check_guarantees(name, clicks, image, valid):
    before = [array.copy() for array in (clicks, image, valid)]
    found = propagated(name, clicks, image, valid)
    for array, copy in zip((clicks, image, valid), before, strict=True):
        assert np.array_equal(array, copy)
        assert not np.shares_memory(found.mask, array)
    for array in (found.mask, found.confidence):
        assert array.dtype == np.uint8
        assert array.shape == clicks.shape
    clicked = clicks != IGNORE_INDEX
    labelled = found.mask != IGNORE_INDEX
    assert np.array_equal(found.mask[clicked], clicks[clicked])
    assert np.array_equal(labelled[~valid], clicked[~valid])
    assert np.array_equal(found.confidence > 0, labelled)
    assert (found.confidence[clicked] == 255).all()
    assert set(np.unique(found.mask[~clicked])) <= {*np.unique(clicks[valid]), IGNORE_INDEX}
    again = propagated(name, clicks, image, valid)
    assert np.array_equal(found.mask, again.mask)
    assert np.array_equal(found.confidence, again.confidence)
    return found


@every_propagator
@settings(max_examples=40, deadline=None)
@given(tile=tiles())
def test_every_guarantee_holds_on_tiny_tiles(name, tile):
    check_guarantees(name, *tile)


@every_propagator
@pytest.mark.parametrize("shape", [(61, 47), (1, 40), (40, 1), (2, 33)])
@pytest.mark.parametrize("classes", [[3], [0, 7, 254]])
def test_every_guarantee_holds_on_tiles_of_odd_shapes_and_of_one_class(name, shape, classes):
    generator = np.random.default_rng(1)
    clicks = np.full(shape, IGNORE_INDEX, np.uint8)
    places = generator.choice(clicks.size, max(12, clicks.size // 20), replace=False)
    clicks.ravel()[places] = generator.choice(classes, places.size)
    image = generator.integers(0, 60, (3, *shape), np.uint8)
    image[:, :, shape[1] // 2 :] += 150
    check_guarantees(name, clicks, image, generator.random(shape) < 0.9)


@every_propagator
def test_a_single_click_is_propagated_around_itself_or_not_at_all(name):
    clicks = np.full((21, 21), IGNORE_INDEX, np.uint8)
    clicks[10, 10] = 4
    found = check_guarantees(name, clicks, np.full((3, 21, 21), 90, np.uint8), clicks != 9)
    alone = name in ("none", "link")
    assert ((found.mask == 4).sum() == 1) == alone
    assert (found.mask[10, 11] == 4) != alone


@every_propagator
@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (0, 3)])
def test_a_tile_without_clicks_gets_no_labels(name, shape):
    found = propagated(name, np.full(shape, IGNORE_INDEX, np.uint8))
    assert np.array_equal(found.mask, np.full(shape, IGNORE_INDEX, np.uint8))
    assert not found.confidence.any()


@every_propagator
def test_a_fully_labelled_tile_stays_as_it_is(name):
    clicks = np.random.default_rng(0).integers(0, 5, (512, 512), np.uint8)
    found = propagated(name, clicks)
    assert np.array_equal(found.mask, clicks)
    assert (found.confidence == 255).all()


@every_propagator
@settings(max_examples=30, deadline=None)
@given(tile=tiles())
def test_a_click_without_data_below_it_changes_nothing_but_itself(name, tile):
    clicks, image, valid = tile
    without = np.where(valid, clicks, np.uint8(IGNORE_INDEX))
    expected = np.where(valid, propagated(name, without, image, valid).mask, clicks)
    assert np.array_equal(propagated(name, clicks, image, valid).mask, expected)


@every_propagator
def test_arrays_that_are_not_contiguous_give_the_same_labels(name):
    generator = np.random.default_rng(0)
    clicks = generator.choice(np.array([0, 1, 255, 255, 255], np.uint8), (20, 30))
    image = generator.integers(0, 256, (3, 20, 30), np.uint8)
    valid = generator.random((20, 30)) < 0.8
    found = propagated(name, clicks, image, valid)
    turned = propagated(name, *(np.asfortranarray(array) for array in (clicks, image, valid)))
    assert np.array_equal(found.mask, turned.mask)
    assert np.array_equal(found.confidence, turned.confidence)


@every_propagator
def test_what_is_no_mask_no_image_of_it_or_no_validity_is_refused(name):
    clicks, image = np.zeros((3, 4), np.uint8), np.zeros((3, 3, 4), np.uint8)
    valid = np.ones((3, 4), bool)
    for wrong in (clicks.astype(np.int64), clicks[np.newaxis]):
        with pytest.raises(ValueError, match=r"wanted \(H, W\) uint8"):
            propagated(name, wrong, image, valid)
    for wrong in (image.astype(np.float32), image[0], image[:, :, :3]):
        with pytest.raises(ValueError, match=r"wanted \(bands, 3, 4\) uint8"):
            propagated(name, clicks, wrong, valid)
    for wrong in (valid.astype(np.uint8), valid[:2]):
        with pytest.raises(ValueError, match=r"wanted \(3, 4\) bool"):
            propagated(name, clicks, image, wrong)


@pytest.mark.parametrize("name", PROPAGATORS)
def test_a_propagator_gets_the_settings_that_it_is_written_for(name):
    wanted = get_type_hints(PROPAGATORS[name])["settings"]
    chosen = OWN.model_copy(update={"propagator": name}).of_propagator
    assert isinstance(chosen, wanted)


def test_every_setting_of_a_propagator_is_of_one_that_exists():
    sections = {
        key
        for key, field in AnnotateSettings.model_fields.items()
        if field.annotation.__module__ == "pointcover.annotation.propagation.settings"
    }
    assert sections <= set(PROPAGATORS)


def test_of_a_proposal_only_what_the_guarantees_allow_is_accepted(monkeypatch):
    def flood(tile, settings):
        shape = tile.clicks.shape
        return Proposal(np.full(shape, 1, np.uint8), np.full(shape, 1e-6, np.float32))

    monkeypatch.setitem(PROPAGATORS, "flood", flood)
    valid = np.array([[True, True, False, True]])
    image = np.zeros((1, 1, 4), np.uint8)
    found = propagate(ClickedTile(drawn("2..."), image, valid, CLASSES), "flood", None)
    assert found.mask.tolist() == [[2, 1, IGNORE_INDEX, 1]]
    # However low the confidence of a label is, it is not 0.
    assert found.confidence.tolist() == [[255, 1, 0, 1]]


def test_none_propagates_nothing():
    clicks = drawn("1.1 .2. 1.1")
    assert np.array_equal(propagated("none", clicks).mask, clicks)


# Sources of labels


def test_sources_are_none_clicked_or_propagated():
    sources = tell_sources(drawn("1.. ..2"), drawn("11. .22"))
    assert sources.dtype == np.uint8
    assert sources.tolist() == [[1, 2, 0], [0, 2, 1]]


@pytest.mark.parametrize("mask", ["1.. ...", "1.. ..3", "1... ...2"])
def test_sources_of_a_mask_that_was_not_propagated_from_the_clicks_are_refused(mask):
    with pytest.raises(ValueError, match="was not propagated from these clicks"):
        tell_sources(drawn("1.. ..2"), drawn(mask))


# Nearest clicks


def nearest_one_by_one(clicks, radii):
    """Return each pixel its nearest click's class, in whole numbers; radii are squared."""
    found = clicks.copy()
    places = [(*place, int(clicks[tuple(place)])) for place in np.argwhere(clicks != IGNORE_INDEX)]
    for row, col in np.argwhere(clicks == IGNORE_INDEX):
        reaching = [
            (square, class_id)
            for r, c, class_id in places
            if (square := (r - row) ** 2 + (c - col) ** 2) <= radii[class_id]
        ]
        least = min(reaching, default=(0, IGNORE_INDEX))[0]
        classes = {class_id for square, class_id in reaching if square == least}
        if len(classes) == 1:
            found[row, col] = classes.pop()
    return found


@settings(max_examples=200, deadline=None)
@given(clicks=masks(), common=st.integers(1, 90), of_class=st.integers(0, 90))
def test_nearest_agrees_with_measuring_one_by_one(clicks, common, of_class):
    chosen = of("nearest", radius_px=math.sqrt(common), class_radius_px={"1": math.sqrt(of_class)})
    expected = nearest_one_by_one(clicks, {0: common, 1: of_class, 254: common})
    assert np.array_equal(propagated("nearest", clicks, settings=chosen).mask, expected)


@pytest.mark.parametrize(
    ("clicks", "radius_px", "radii", "expected"),
    [
        pytest.param("1....", 2, {}, "111..", id="up to the radius, and with it"),
        pytest.param("1....", 1.999, {}, "11...", id="not beyond"),
        pytest.param("1...2", 9, {}, "11.22", id="a tie stays unlabelled"),
        pytest.param("1...1", 9, {}, "11111", id="no tie within one class"),
        pytest.param("1....2", 1, {"2": 4}, "112222", id="further, but with a radius that reaches"),
        pytest.param("1....2", 9, {"1": 0}, "122222", id="radius 0 labels nothing"),
        pytest.param("... .1. ...", 1, {}, ".1. 111 .1.", id="a disc"),
    ],
)
def test_discs_are_those_worked_out_by_hand(clicks, radius_px, radii, expected):
    found = propagated(
        "nearest", drawn(clicks), settings=of("nearest", radius_px=radius_px, class_radius_px=radii)
    )
    assert np.array_equal(found.mask, drawn(expected))


def test_confidence_of_the_nearest_falls_from_the_click_to_half_at_the_radius():
    found = propagated("nearest", drawn("1......"), settings=of("nearest", radius_px=4))
    assert found.confidence.tolist() == [[255, 223, 191, 159, 128, 0, 0]]


# Superpixels


def halves(height, width, left=0, right=255, bands=3, edge=None):
    """Draw an image of two even parts with a sharp edge between them, in the middle if not said."""
    image = np.full((bands, height, width), left, np.uint8)
    image[:, :, width // 2 if edge is None else edge :] = right
    return image


@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("edge", [7, 9])
def test_superpixels_stop_at_the_edge(bands, edge):
    clicks = np.full((8, 18), IGNORE_INDEX, np.uint8)
    clicks[3, 2], clicks[3, 14] = 1, 2
    image = halves(8, 18, bands=bands, edge=edge)
    found = propagated("superpixel", clicks, image, settings=of("superpixel", side_px=9))
    assert np.array_equal(found.mask, np.where(np.arange(18) < edge, 1, 2) + np.zeros((8, 1)))
    assert (found.confidence == 255).all()


@pytest.mark.parametrize(
    ("right", "min_fraction", "expected", "confidence"),
    [
        ([2, 2, 1], 0.6, 2, 170),
        ([2, 2, 1], 0.7, IGNORE_INDEX, 0),
        ([2, 2, 1, 1], 0, IGNORE_INDEX, 0),
        ([2, 2, 1, 1, 0], 0, IGNORE_INDEX, 0),
        ([2, 2, 1, 0], 0.5, 2, 128),
        ([], 0, IGNORE_INDEX, 0),
    ],
)
def test_clicks_in_a_superpixel_vote(right, min_fraction, expected, confidence):
    clicks = np.full((8, 16), IGNORE_INDEX, np.uint8)
    clicks[0, 0] = 3
    clicks[2, 10 : 10 + len(right)] = right
    chosen = of("superpixel", side_px=8, min_fraction=min_fraction)
    found = propagated("superpixel", clicks, halves(8, 16), settings=chosen)
    free = clicks == IGNORE_INDEX
    free[:, :8] = False
    assert (found.mask[free] == expected).all()
    assert (found.confidence[free] == confidence).all()
    assert (found.mask[:, :8] == 3).all()


# Geodesic paths


def ways_one_by_one(starts, image, valid, contrast_px):
    """Find the shortest way to every pixel, step by step, with a heap."""
    height, width = valid.shape
    colour = image.astype(float) / 255
    known = {}
    heap = [(0.0, start) for start in starts]
    while heap:
        length, (row, col) = heapq.heappop(heap)
        if (row, col) in known:
            continue
        known[row, col] = length
        for down, right in product((-1, 0, 1), repeat=2):
            r, c = row + down, col + right
            if 0 <= r < height and 0 <= c < width and valid[r, c] and (down or right):
                change = np.mean((colour[:, r, c] - colour[:, row, col]) ** 2)
                step = math.sqrt(down**2 + right**2 + contrast_px**2 * change)
                heapq.heappush(heap, (length + step, (r, c)))
    return known


@settings(max_examples=40, deadline=None)
@given(tile=tiles())
def test_geodesic_propagation_agrees_with_going_every_way(tile):
    clicks, image, valid = tile
    # No sum of roots comes near this limit.
    chosen = of("geodesic", limit_px=6.12345, contrast_px=9, cell_px=1)
    found = propagated("geodesic", clicks, image, valid, chosen)
    ways = {
        class_id: ways_one_by_one(
            map(tuple, np.argwhere((clicks == class_id) & valid)), image, valid, 9
        )
        for class_id in (0, 1, 254)
    }
    for place in map(tuple, np.argwhere(valid & (clicks == IGNORE_INDEX))):
        lengths = {class_id: way[place] for class_id, way in ways.items() if place in way}
        least = min(lengths.values(), default=math.inf)
        if least > 6.12345:
            assert found.mask[place] == IGNORE_INDEX
        else:
            assert lengths[int(found.mask[place])] == pytest.approx(least)
            trust = 1 - least / (2 * 6.12345)
            assert found.confidence[place] == pytest.approx(255 * trust, abs=0.51)


@pytest.mark.parametrize("cell_px", [1, 2])
def test_geodesic_propagation_stops_at_the_edge(cell_px):
    clicks = np.full((20, 40), IGNORE_INDEX, np.uint8)
    clicks[10, 16] = 1
    chosen = of("geodesic", limit_px=30, contrast_px=100, cell_px=cell_px)
    found = propagated("geodesic", clicks, halves(20, 40), settings=chosen)
    assert np.array_equal(found.mask == 1, np.broadcast_to(np.arange(40) < 20, (20, 40)))


def test_geodesic_propagation_goes_around_what_has_no_data():
    clicks = drawn("1..... ...... ......")
    valid = np.array([[1, 1, 0, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
    chosen = of("geodesic", limit_px=3 * math.sqrt(2) + 0.01, cell_px=1)
    # (0, 0) → (1, 1) → (2, 2) → (1, 3): three diagonals.
    assert np.array_equal(
        propagated("geodesic", clicks, valid=valid, settings=chosen).mask,
        drawn("11.... 11.1.. 1111.."),
    )


# Random walkers


def even_walkers(**values):
    """Make settings for walkers who hardly tire and go from pixel to pixel."""
    return of("random_walker", **{"range_px": 1e6, "min_probability": 0.51, "cell_px": 1} | values)


def test_a_walker_between_two_clicks_is_a_gambler_who_is_ruined():
    # The chance of reaching one end of a line first is the distance from the other.
    found = propagated("random_walker", drawn("1.........2"), settings=even_walkers())
    assert np.array_equal(found.mask, drawn("11111.22222"))
    expected = 255 * np.abs(np.arange(11) - 5) / 10 + 127.5
    expected[5] = 0
    assert found.confidence[0] == pytest.approx(expected, abs=1)


def test_a_walker_who_tires_meets_the_only_click_less_often_the_further_away_he_is():
    # With 2 cosh k = 2 + leak, and the far end a mirror half a pixel behind the last one.
    found = propagated("random_walker", drawn("3" + 19 * "."), settings=even_walkers(range_px=8))
    k = math.acosh(1 + 8**-2 / 2)
    expected = np.cosh(k * (19.5 - np.arange(20))) / math.cosh(k * 19.5)
    labelled = expected >= 0.51
    assert 2 < labelled.sum() < 19
    assert np.array_equal(found.mask[0] == 3, labelled)
    assert found.confidence[0] == pytest.approx(255 * expected * labelled, abs=1)


@pytest.mark.parametrize("cell_px", [1, 2])
def test_walkers_stop_at_the_edge(cell_px):
    clicks = np.full((20, 40), IGNORE_INDEX, np.uint8)
    clicks[3, 19], clicks[16, 38] = 1, 2
    # Faint noise: two halves without any would have one change of colour, of the mean size.
    image = halves(20, 40, 50, 200) + np.random.default_rng(0).integers(0, 9, (20, 40), np.uint8)
    chosen = even_walkers(cell_px=cell_px, min_probability=0.9)
    found = propagated("random_walker", clicks, image, settings=chosen)
    assert np.array_equal(found.mask, np.where(np.arange(40) < 20, 1, 2) + np.zeros((20, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_walkers_who_do_not_tire_agree_with_scikit_image(seed):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (3, 24, 31), np.uint8)
    clicks = np.full((24, 31), IGNORE_INDEX, np.uint8)
    clicks.ravel()[generator.choice(clicks.size, 12, replace=False)] = [0, 1, 254] * 4
    colour = image.transpose(1, 2, 0) / 255
    squares = [np.square(np.diff(colour, axis=axis)).mean(axis=-1) for axis in (0, 1)]
    mean = np.concatenate([square.ravel() for square in squares]).mean()
    # Its beta is in other units: divided by ten deviations and the root of the bands, for a sum.
    beta = 2 / (3 * mean) * 10 * colour.std() * math.sqrt(3)
    labels = np.select([clicks == 0, clicks == 1, clicks == 254], [1, 2, 3], 0)
    theirs = random_walker(
        colour, labels, beta=beta, mode="bf", return_full_prob=True, channel_axis=-1
    )
    found = propagated("random_walker", clicks, image, settings=even_walkers(beta=2))
    most = theirs.max(axis=0)
    clear = np.abs(most - 0.51) > 0.01
    expected = np.where(most > 0.51, np.array([0, 1, 254])[theirs.argmax(axis=0)], IGNORE_INDEX)
    assert np.array_equal(found.mask[clear], expected[clear])
    assert 0.1 < (most > 0.51).mean() < 0.99
    labelled = found.mask != IGNORE_INDEX
    assert found.confidence[labelled] == pytest.approx(255 * most[labelled], abs=3)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_even_image_lets_walkers_cross_everywhere(value):
    clicks = drawn("1..... ...... ...... .....2")
    image = np.full((1, 4, 6), value, np.uint8)
    found = propagated("random_walker", clicks, image, settings=even_walkers())
    # Turned by half a circle, the tile is its own mirror with the classes swapped.
    assert np.array_equal(found.mask == 1, found.mask[::-1, ::-1] == 2)
    assert (found.mask != IGNORE_INDEX).sum() >= 20


def test_walkers_do_not_enter_a_part_that_no_click_can_reach():
    clicks = drawn("1.....2. ........")
    valid = np.ones((2, 8), bool)
    valid[:, 3] = False
    found = propagated("random_walker", clicks, valid=valid, settings=even_walkers())
    assert np.array_equal(found.mask, drawn("111.2222 111.2222"))
    clicks[0, 6] = IGNORE_INDEX
    found = propagated("random_walker", clicks, valid=valid, settings=even_walkers())
    assert np.array_equal(found.mask, drawn("111..... 111....."))


# Cells


@pytest.mark.parametrize("name", ["geodesic", "random_walker"])
def test_clicks_of_two_classes_in_one_cell_cancel_out_and_stay(name):
    clicks = drawn("12.......1 ..........")
    expected = propagated(name, drawn(".........1 ..........")).mask
    expected[0, :2] = [1, 2]
    assert np.array_equal(propagated(name, clicks).mask, expected)
    both = drawn("12 ..")
    assert np.array_equal(propagated(name, both).mask, both)


@pytest.mark.parametrize("name", ["geodesic", "random_walker"])
@pytest.mark.parametrize("shape", [(9, 13), (10, 13), (9, 12), (1, 7)])
def test_cells_are_pixels_of_the_reduced_tile(name, shape):
    generator = np.random.default_rng(3)
    small = (-(-shape[0] // 2), -(-shape[1] // 2))
    cells = generator.integers(0, 256, (3, *small), np.uint8)
    marks = np.full(small, IGNORE_INDEX, np.uint8)
    marks[0, 0], marks[-1, -1] = 1, 2
    image = cells.repeat(2, axis=1).repeat(2, axis=2)[:, : shape[0], : shape[1]]
    clicks = np.full(shape, IGNORE_INDEX, np.uint8)
    clicks[0, 0], clicks[-1, -1] = 1, 2
    coarse, fine = (
        {
            "geodesic": of("geodesic", limit_px=3.1 * px, contrast_px=2 * px, cell_px=px),
            "random_walker": of(
                "random_walker", beta=1, range_px=40 * px, min_probability=0.51, cell_px=px
            ),
        }[name]
        for px in (2, 1)
    )
    expected = propagated(name, marks, cells, settings=fine)
    found = propagated(name, clicks, image, settings=coarse)
    for reduced, full in ((expected.mask, found.mask), (expected.confidence, found.confidence)):
        large = reduced.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
        free = (clicks == IGNORE_INDEX) & (large != 255)
        assert full[free] == pytest.approx(large[free], abs=1)
    assert (found.mask != IGNORE_INDEX).sum() > 2


@pytest.mark.parametrize("name", ["superpixel", "geodesic", "random_walker"])
def test_values_where_there_is_no_data_change_nothing(name):
    clicks = drawn("1.......2. ..........")
    image = np.random.default_rng(0).integers(0, 99, (2, 2, 10), np.uint8)
    valid = np.ones((2, 10), bool)
    valid[1, ::2] = False
    other = np.where(valid, image, 255 - image).astype(np.uint8)
    first, second = (propagated(name, clicks, one, valid) for one in (image, other))
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.confidence, second.confidence)


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
        assert linking.square_reach(exact) == squared
        assert linking.square_reach(math.nextafter(exact, 0)) == squared - 1


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
        patch.setattr(linking, "_MAX_PAIRS", limit)
        found = link(clicks, distance_px=distance_px)
    assert np.array_equal(found, linked_one_by_one(clicks, distance_px))


@pytest.mark.parametrize("distance_px", [9.5, 40])
@pytest.mark.parametrize("line_pixels", [1, 100, 1 << 17])
def test_many_long_links_drawn_in_parts_agree_with_linking_one_by_one(
    distance_px, line_pixels, monkeypatch
):
    monkeypatch.setattr(linking, "_LINE_PIXELS", line_pixels)
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
