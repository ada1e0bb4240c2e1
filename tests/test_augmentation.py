"""Augmentation moves image and mask together, makes no label, and repeats itself by seed alone."""

import random

import numpy as np
import pytest

from pointcover.augmentation import Augmentation
from pointcover.labels import IGNORE_INDEX

SIZE = 64
ROWS, COLS = (grid.astype(np.uint8) for grid in np.indices((SIZE, SIZE)))


def class_at(rows, cols):
    """Give every place its class, 0 to 4; one in seven has a label."""
    row, col = rows.astype(int), cols.astype(int)
    return np.where((3 * row + col) % 7 == 0, (row + 2 * col) % 5, IGNORE_INDEX).astype(np.uint8)


def place_image(bands=3):
    """An image whose first bands say where each pixel came from: its row, its column."""
    return np.stack([ROWS, COLS, ROWS ^ COLS, 255 - ROWS][:bands])


MASK = class_at(ROWS, COLS)


def counts(mask):
    return np.bincount(mask.ravel(), minlength=256)


@pytest.mark.parametrize("crop_px", [32, SIZE])
def test_every_pixel_keeps_its_label_and_its_bands(crop_px):
    augmentation = Augmentation(crop_px, 0, 4)
    for seed in range(40):
        image, mask = augmentation(place_image(4), MASK, seed)
        assert (image.shape, mask.shape) == ((4, crop_px, crop_px), (crop_px, crop_px))
        rows, cols = image[0], image[1]
        assert np.array_equal(mask, class_at(rows, cols))
        assert np.array_equal(image[2], rows ^ cols)
        assert np.array_equal(image[3], 255 - rows)


@pytest.mark.parametrize("crop_px", [32, SIZE])
def test_a_crop_is_a_square_of_the_tile_with_each_pixel_once(crop_px):
    augmentation = Augmentation(crop_px, 0, 3)
    for seed in range(40):
        image, _ = augmentation(place_image(), MASK, seed)
        places = set(zip(image[0].ravel().tolist(), image[1].ravel().tolist(), strict=True))
        assert len(places) == crop_px**2
        for band in image[:2]:
            assert int(band.max()) - int(band.min()) == crop_px - 1


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("jitter", [0, 0.2, 1])
def test_no_transform_creates_or_loses_a_label(bands, jitter):
    augmentation = Augmentation(SIZE, jitter, bands)
    clicks = np.full((SIZE, SIZE), IGNORE_INDEX, np.uint8)
    generator = np.random.default_rng(0)
    clicks.ravel()[generator.choice(clicks.size, 20, replace=False)] = generator.integers(0, 5, 20)
    for seed in range(20):
        for mask in (clicks, MASK):
            assert np.array_equal(
                counts(augmentation(place_image(bands), mask, seed)[1]), counts(mask)
            )


def test_all_eight_symmetries_of_the_square_occur_and_no_other():
    augmentation = Augmentation(SIZE, 0, 3)
    seen = {augmentation(place_image(), MASK, seed)[1].tobytes() for seed in range(100)}
    turned = [np.rot90(one, turns) for one in (MASK, MASK.T) for turns in range(4)]
    assert seen == {one.tobytes() for one in turned}


def test_crops_reach_every_edge_of_the_tile():
    augmentation = Augmentation(48, 0, 3)
    starts = {
        (int(image[0].min()), int(image[1].min()))
        for image in (augmentation(place_image(), MASK, seed)[0] for seed in range(300))
    }
    for offsets in zip(*starts, strict=True):
        assert set(offsets) == set(range(SIZE - 48 + 1))


def test_without_colour_jitter_the_colours_stay():
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (3, SIZE, SIZE), np.uint8)
    augmentation = Augmentation(SIZE, 0, 3)
    for seed in range(10):
        moved, _ = augmentation(image, MASK, seed)
        assert sorted(map(tuple, moved.reshape(3, -1).T.tolist())) == sorted(
            map(tuple, image.reshape(3, -1).T.tolist())
        )


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_colour_jitter_moves_grey_and_only_as_far_as_it_says(bands):
    # Contrast times 0.9 to 1.1, brightness plus or minus a tenth of 255; saturation leaves grey.
    grey = np.full((bands, SIZE, SIZE), 128, np.uint8)
    augmentation = Augmentation(SIZE, 0.1, bands)
    seen = {int(augmentation(grey, MASK, seed)[0].max()) for seed in range(60)}
    assert len(seen) > 10
    assert min(seen) >= 128 - 12.8 - 25.5 - 1
    assert max(seen) <= 128 + 12.8 + 25.5 + 1


def test_all_bands_of_a_four_band_image_are_jittered_by_the_same_curve():
    grey = np.broadcast_to(ROWS * 4, (4, SIZE, SIZE)).copy()
    augmentation = Augmentation(SIZE, 0.3, 4)
    for seed in range(20):
        image, _ = augmentation(grey, MASK, seed)
        assert (image == image[0]).all()


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_same_seed_gives_the_same_sample_in_a_new_object_whatever_went_before(bands):
    image = np.random.default_rng(2).integers(0, 256, (bands, SIZE, SIZE), np.uint8)
    first, second = Augmentation(32, 0.3, bands), Augmentation(32, 0.3, bands)
    wanted = [first(image, MASK, seed) for seed in (7, 8, 2**32 - 1)]
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    for seed in (1, 2, 3):
        second(image, MASK, seed)
    for seed, (moved, mask) in zip((2**32 - 1, 8, 7), reversed(wanted), strict=True):
        again = second(image, MASK, seed)
        assert np.array_equal(again[0], moved)
        assert np.array_equal(again[1], mask)


def test_different_seeds_give_different_samples():
    augmentation = Augmentation(32, 0.3, 3)
    seen = {augmentation(place_image(), MASK, seed)[0].tobytes() for seed in range(50)}
    assert len(seen) >= 48


def test_augmentation_leaves_its_input_and_the_global_generators_alone():
    image, mask = place_image(), MASK.copy()
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in range(10):
        Augmentation(SIZE, 0.5, 3)(image, mask, seed)
    assert np.array_equal(image, place_image())
    assert np.array_equal(mask, MASK)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_what_comes_out_is_contiguous_uint8_that_torch_takes(bands):
    image, mask = Augmentation(32, 0.2, bands)(place_image(bands), MASK, 5)
    assert image.shape == (bands, 32, 32)
    for values in (image, mask):
        assert values.dtype == np.uint8
        assert values.flags.c_contiguous
