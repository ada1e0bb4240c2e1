import hashlib
from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import confusion_matrix

from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.datasets.synthetic.sheet import BACKGROUND, BUILDING, GSD_M, ROAD, WATER, WOODLAND

CLASSES = (BACKGROUND, BUILDING, WOODLAND, WATER, ROAD)
SIZE = 512
SEEDS = range(6)


@cache
def drawn(seed, size=SIZE):
    return draw_orthophoto(size, np.random.default_rng(seed))


def pixels(seeds, count=8000):
    """Colours (n, 3) and ids (n,) of pixels drawn evenly from some pictures."""
    colours, ids = [], []
    for seed in seeds:
        image, mask = drawn(seed)
        chosen = np.random.default_rng(seed).choice(mask.size, count, replace=False)
        colours.append(image.reshape(3, -1).T[chosen])
        ids.append(mask.ravel()[chosen])
    return np.concatenate(colours), np.concatenate(ids)


def test_the_same_seed_draws_the_same_bytes():
    first, second = (draw_orthophoto(256, np.random.default_rng(7)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert hashlib.sha256(a.tobytes()).digest() == hashlib.sha256(b.tobytes()).digest()


def test_numpys_global_random_state_neither_matters_nor_moves():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    image, _ = draw_orthophoto(128, np.random.default_rng(3))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(99)  # noqa: NPY002
    assert np.array_equal(draw_orthophoto(128, np.random.default_rng(3))[0], image)


def test_a_generator_moves_on_so_that_its_next_picture_is_another():
    generator = np.random.default_rng(5)
    first, second = (draw_orthophoto(128, generator)[1] for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_different_seeds_lay_out_different_landscapes():
    masks = [drawn(seed)[1] for seed in SEEDS]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert np.mean(a != b) > 0.25


@pytest.mark.parametrize("size", [64, 300, SIZE])
def test_image_and_mask_have_the_promised_shape_and_type_at_any_size(size):
    image, mask = drawn(0, size)
    assert (image.shape, image.dtype) == ((3, size, size), np.uint8)
    assert (mask.shape, mask.dtype) == ((size, size), np.uint8)
    assert image.flags.c_contiguous
    assert mask.flags.c_contiguous
    assert set(np.unique(mask)) <= set(CLASSES)


@pytest.mark.parametrize("size", [300, SIZE])
def test_no_band_is_constant_or_saturated(size):
    for band in drawn(1, size)[0]:
        assert band.std() > 15
        assert 50 < band.mean() < 170
        assert np.mean((band == 0) | (band == 255)) < 0.03


def test_a_sheet_too_small_for_a_house_is_refused_with_the_size_to_use():
    with pytest.raises(ValueError, match=r"size_px is 63.*512"):
        draw_orthophoto(63, np.random.default_rng(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_class_occurs_with_a_plausible_share(seed):
    fraction = np.bincount(drawn(seed)[1].ravel(), minlength=len(CLASSES)) / SIZE**2
    assert 0.35 < fraction[BACKGROUND] < 0.72
    assert 0.015 < fraction[BUILDING] < 0.065
    assert 0.10 < fraction[WOODLAND] < 0.42
    assert 0.03 < fraction[WATER] < 0.16
    assert 0.03 < fraction[ROAD] < 0.14


def test_a_classifier_of_single_colours_beats_chance_but_fails_on_other_pictures():
    colours, ids = pixels((0, 1, 2))
    classifier = HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(colours, ids)
    colours, ids = pixels((3, 4, 5))
    counts = confusion_matrix(ids, classifier.predict(colours), labels=CLASSES)
    hits = np.diag(counts)
    iou = hits / (counts.sum(axis=0) + counts.sum(axis=1) - hits)
    assert 0.2 < iou.mean() < 0.55


@pytest.mark.parametrize(
    ("one", "other"), [(WATER, WOODLAND), (WATER, BACKGROUND), (BUILDING, ROAD), (ROAD, BACKGROUND)]
)
def test_two_classes_share_most_of_their_colours(one, other):
    """Of the colours (in 16 steps a band) of a class, the greater part occurs in another too."""
    colours, ids = pixels(SEEDS)
    steps = (colours // 16).astype(int) @ [256, 16, 1]
    shared = np.isin(steps[ids == one], steps[ids == other])
    assert shared.mean() > 0.5


def test_buildings_stand_along_roads():
    for seed in SEEDS:
        mask = drawn(seed)[1]
        to_road_m = ndimage.distance_transform_edt(mask != ROAD) * GSD_M
        houses, count = ndimage.label(mask == BUILDING)
        nearest_m = ndimage.minimum(to_road_m, houses, np.arange(1, count + 1))
        # A street may pass outside the picture, beside a house that is inside.
        assert np.median(nearest_m) < 10
        assert np.mean(np.asarray(nearest_m) < 20) >= 0.6
        assert to_road_m[mask == BUILDING].mean() < to_road_m[mask == BACKGROUND].mean()


def test_buildings_are_compact_and_roads_are_long_and_thin():
    for seed in SEEDS:
        mask = drawn(seed)[1]
        half_width_m = {
            class_id: ndimage.distance_transform_edt(mask == class_id).max() * GSD_M
            for class_id in (BUILDING, ROAD)
        }
        assert 2.5 < half_width_m[BUILDING] < 8
        roads, _ = ndimage.label(mask == ROAD, structure=np.ones((3, 3)))
        extents = [max(s.stop - s.start for s in found) for found in ndimage.find_objects(roads)]
        assert max(extents) > SIZE / 2
        assert np.median(ndimage.distance_transform_edt(mask == ROAD)[mask == ROAD]) * GSD_M < 2.5


def test_woodland_is_rougher_than_water():
    """Crowns and the shadows between them against a smooth sheet: deviation within 2 m."""
    for seed in SEEDS:
        image, mask = drawn(seed)
        green = image[1].astype(float)
        mean = ndimage.uniform_filter(green, 9)
        deviation = np.sqrt(np.maximum(ndimage.uniform_filter(green**2, 9) - mean**2, 0))
        inner = {c: ndimage.binary_erosion(mask == c, iterations=6) for c in (WOODLAND, WATER)}
        assert np.median(deviation[inner[WOODLAND]]) > 2 * np.median(deviation[inner[WATER]])


def test_the_mask_lies_exactly_on_the_picture():
    """Where roofs end the picture steps: the edge is steeper on the mask's line than beside it."""
    for seed in SEEDS:
        image, mask = drawn(seed)
        steepness = sum(ndimage.gaussian_gradient_magnitude(b.astype(float), 0.7) for b in image)
        roof = mask == BUILDING
        on_line = roof & ~ndimage.binary_erosion(roof, border_value=1)
        moved = np.zeros_like(on_line)
        moved[4:, 4:] = on_line[:-4, :-4]
        assert steepness[on_line].mean() > 1.25 * steepness[moved & ~on_line].mean()
