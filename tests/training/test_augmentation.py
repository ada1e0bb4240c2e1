"""Augmentation moves image and mask together, makes no label, and repeats itself by seed alone."""

import random
from dataclasses import replace

import numpy as np
import pytest

from pointcover.labels import IGNORE_INDEX
from pointcover.training.augmentation import Augmentation, scale_labels
from pointcover.training.augmentation_levels import AUGMENTATIONS, AugmentationLevel

SIZE = 64
ROWS, COLS = (grid.astype(np.uint8) for grid in np.indices((SIZE, SIZE)))


def class_at(rows, cols):
    """Return every place its class, 0 to 4; one in seven has a label."""
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
    augmentation = Augmentation(crop_px, AugmentationLevel(), 4)
    for seed in range(40):
        image, mask = augmentation(place_image(4), MASK, augmentation.crop_px, seed)
        assert (image.shape, mask.shape) == ((4, crop_px, crop_px), (crop_px, crop_px))
        rows, cols = image[0], image[1]
        assert np.array_equal(mask, class_at(rows, cols))
        assert np.array_equal(image[2], rows ^ cols)
        assert np.array_equal(image[3], 255 - rows)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("side_px", [24, 48, SIZE])
def test_further_masks_move_as_the_first_and_change_nothing_about_it(name, side_px):
    """Where one pixel in two was clicked: the clicks are labels of the first mask's classes."""
    augmentation = Augmentation(48, AUGMENTATIONS[name], 3)
    clicks = np.where((ROWS // 2 + COLS) % 2 == 0, MASK, IGNORE_INDEX).astype(np.uint8)
    for seed in range(30):
        alone = augmentation(place_image(), MASK, side_px, seed)
        image, mask, moved, again = augmentation(place_image(), MASK, side_px, seed, clicks, MASK)
        assert np.array_equal(image, alone[0])
        assert np.array_equal(mask, alone[1])
        assert np.array_equal(again, mask)
        wanted = augmentation(place_image(), clicks, side_px, seed)[1]
        assert np.array_equal(moved, wanted)
        if side_px <= 48:  # where pixels meet, clicks of one class may stay where labels of two go
            assert np.array_equal(moved[moved != IGNORE_INDEX], mask[moved != IGNORE_INDEX])
        assert 0 < counts(moved)[:255].sum() < counts(mask)[:255].sum()


@pytest.mark.parametrize("crop_px", [32, SIZE])
def test_a_crop_is_a_square_of_the_tile_with_each_pixel_once(crop_px):
    augmentation = Augmentation(crop_px, AugmentationLevel(), 3)
    for seed in range(40):
        image, _ = augmentation(place_image(), MASK, augmentation.crop_px, seed)
        places = set(zip(image[0].ravel().tolist(), image[1].ravel().tolist(), strict=True))
        assert len(places) == crop_px**2
        for band in image[:2]:
            assert int(band.max()) - int(band.min()) == crop_px - 1


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("jitter", [0, 0.2, 1])
def test_no_transform_creates_or_loses_a_label(bands, jitter):
    augmentation = Augmentation(SIZE, AugmentationLevel(colour_jitter=jitter), bands)
    clicks = np.full((SIZE, SIZE), IGNORE_INDEX, np.uint8)
    generator = np.random.default_rng(0)
    clicks.ravel()[generator.choice(clicks.size, 20, replace=False)] = generator.integers(0, 5, 20)
    for seed in range(20):
        for mask in (clicks, MASK):
            assert np.array_equal(
                counts(augmentation(place_image(bands), mask, augmentation.crop_px, seed)[1]),
                counts(mask),
            )


def test_all_eight_symmetries_of_the_square_occur_and_no_other():
    augmentation = Augmentation(SIZE, AugmentationLevel(), 3)
    seen = {
        augmentation(place_image(), MASK, augmentation.crop_px, seed)[1].tobytes()
        for seed in range(100)
    }
    turned = [np.rot90(one, turns) for one in (MASK, MASK.T) for turns in range(4)]
    assert seen == {one.tobytes() for one in turned}


def test_crops_reach_every_edge_of_the_tile():
    augmentation = Augmentation(48, AugmentationLevel(), 3)
    starts = {
        (int(image[0].min()), int(image[1].min()))
        for image in (
            augmentation(place_image(), MASK, augmentation.crop_px, seed)[0] for seed in range(300)
        )
    }
    for offsets in zip(*starts, strict=True):
        assert set(offsets) == set(range(SIZE - 48 + 1))


def test_without_colour_jitter_the_colours_stay():
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (3, SIZE, SIZE), np.uint8)
    augmentation = Augmentation(SIZE, AugmentationLevel(), 3)
    for seed in range(10):
        moved, _ = augmentation(image, MASK, augmentation.crop_px, seed)
        assert sorted(map(tuple, moved.reshape(3, -1).T.tolist())) == sorted(
            map(tuple, image.reshape(3, -1).T.tolist())
        )


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_colour_jitter_moves_grey_and_only_as_far_as_it_says(bands):
    # Contrast times 0.9 to 1.1, brightness plus or minus a tenth of 255; saturation leaves grey.
    grey = np.full((bands, SIZE, SIZE), 128, np.uint8)
    augmentation = Augmentation(SIZE, AugmentationLevel(colour_jitter=0.1), bands)
    seen = {
        int(augmentation(grey, MASK, augmentation.crop_px, seed)[0].max()) for seed in range(60)
    }
    assert len(seen) > 10
    assert min(seen) >= 128 - 12.8 - 25.5 - 1
    assert max(seen) <= 128 + 12.8 + 25.5 + 1


def test_all_bands_of_a_four_band_image_are_jittered_by_the_same_curve():
    grey = np.broadcast_to(ROWS * 4, (4, SIZE, SIZE)).copy()
    augmentation = Augmentation(SIZE, AugmentationLevel(colour_jitter=0.3), 4)
    for seed in range(20):
        image, _ = augmentation(grey, MASK, augmentation.crop_px, seed)
        assert (image == image[0]).all()


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_same_seed_gives_the_same_sample_in_a_new_object_whatever_went_before(bands):
    image = np.random.default_rng(2).integers(0, 256, (bands, SIZE, SIZE), np.uint8)
    first, second = (
        Augmentation(32, AugmentationLevel(colour_jitter=0.3), bands),
        Augmentation(32, AugmentationLevel(colour_jitter=0.3), bands),
    )
    wanted = [first(image, MASK, 40, seed) for seed in (7, 8, 2**32 - 1)]
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    for seed in (1, 2, 3):
        second(image, MASK, 40, seed)
    for seed, (moved, mask) in zip((2**32 - 1, 8, 7), reversed(wanted), strict=True):
        again = second(image, MASK, 40, seed)
        assert np.array_equal(again[0], moved)
        assert np.array_equal(again[1], mask)


def test_different_seeds_give_different_samples():
    augmentation = Augmentation(32, AugmentationLevel(colour_jitter=0.3), 3)
    seen = {
        augmentation(place_image(), MASK, augmentation.crop_px, seed)[0].tobytes()
        for seed in range(50)
    }
    assert len(seen) >= 48


def test_augmentation_leaves_its_input_and_the_global_generators_alone():
    image, mask = place_image(), MASK.copy()
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in range(10):
        Augmentation(SIZE, AugmentationLevel(colour_jitter=0.5), 3)(image, mask, SIZE, seed)
    assert np.array_equal(image, place_image())
    assert np.array_equal(mask, MASK)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_what_comes_out_is_contiguous_uint8_that_torch_takes(bands):
    image, mask = Augmentation(32, AugmentationLevel(colour_jitter=0.2), bands)(
        place_image(bands), MASK, 32, 5
    )
    assert image.shape == (bands, 32, 32)
    for values in (image, mask):
        assert values.dtype == np.uint8
        assert values.flags.c_contiguous


# Scale


@pytest.mark.parametrize(("side_px", "crop_px"), [(32, 64), (40, 64), (33, 35), (64, 32), (47, 32)])
def test_a_scaled_label_lies_on_what_it_was_given_for(side_px, crop_px):
    augmentation = Augmentation(crop_px, AugmentationLevel(), 3)
    step = side_px / crop_px
    for seed in range(20):
        image, mask = augmentation(place_image(), MASK, side_px, seed)
        assert (image.shape, mask.shape) == ((3, crop_px, crop_px), (crop_px, crop_px))
        labelled = mask != IGNORE_INDEX
        # Where the pixel came from, to the neighbour that interpolation or rounding can mix in.
        rows, cols = (image[band][labelled].astype(float) for band in (0, 1))
        reach = 1 + int(np.ceil(step))
        offsets = range(-reach, reach + 1)
        near = np.array(
            [class_at(np.rint(rows) + i, np.rint(cols) + j) for i in offsets for j in offsets]
        )
        assert labelled.any()
        assert (near == mask[labelled]).any(axis=0).all()


def test_a_click_stays_one_click_when_its_crop_is_enlarged():
    clicks = np.full((32, 32), IGNORE_INDEX, np.uint8)
    clicks.ravel()[np.random.default_rng(0).choice(1024, 200, replace=False)] = 3
    for side_px in (32, 33, 47, 64, 96):
        assert counts(scale_labels(clicks, side_px))[3] == 200


def test_labels_move_to_the_pixel_that_holds_their_centre():
    mask = np.full((4, 4), IGNORE_INDEX, np.uint8)
    mask[0, 0], mask[1, 2], mask[3, 3] = 1, 2, 0
    doubled = scale_labels(mask, 8)  # centres ½, 1½, 2½, 3½ become 1, 3, 5, 7
    assert {(r, c): doubled[r, c] for r, c in np.argwhere(doubled != IGNORE_INDEX).tolist()} == {
        (1, 1): 1,
        (3, 5): 2,
        (7, 7): 0,
    }
    halved = scale_labels(mask, 2)
    assert halved.tolist() == [[1, 2], [255, 0]]
    assert np.array_equal(scale_labels(mask, 4), mask)


def test_labels_of_two_classes_that_meet_in_a_pixel_leave_it_without_one():
    mask = np.array([[0, 1, 2, 2], [0, 0, 2, 2], [1, 255, 255, 255], [1, 1, 255, 3]], np.uint8)
    assert scale_labels(mask, 2).tolist() == [[255, 2], [1, 3]]


def test_a_flat_image_keeps_its_colour_at_every_scale():
    image = np.full((4, SIZE, SIZE), 201, np.uint8)
    for side_px in (17, 48, SIZE):
        assert (Augmentation(32, AugmentationLevel(), 4)(image, MASK, side_px, 1)[0] == 201).all()


# Levels


def test_medium_and_weak_are_what_colour_jitter_was():
    assert AUGMENTATIONS["medium"] == AugmentationLevel(colour_jitter=0.1)
    assert AUGMENTATIONS["weak"] == AugmentationLevel()


def test_with_no_augmentation_a_crop_is_a_part_of_the_tile_as_it_lies():
    augmentation = Augmentation(32, AUGMENTATIONS["none"], 3)
    for seed in range(20):
        image, mask = augmentation(place_image(), MASK, 32, seed)
        row, col = int(image[0, 0, 0]), int(image[1, 0, 0])
        assert np.array_equal(image, place_image()[:, row : row + 32, col : col + 32])
        assert np.array_equal(mask, MASK[row : row + 32, col : col + 32])


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("side_px", [48, SIZE])
def test_where_there_is_no_data_there_is_none_in_other_colours_too(name, side_px):
    image = np.full((3, SIZE, SIZE), 170, np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    image[:, :, : SIZE // 2] = 0
    mask[:, : SIZE // 2] = IGNORE_INDEX
    augmentation = Augmentation(32, replace(AUGMENTATIONS[name], cutout=0), 3)
    emptied = 0
    for seed in range(20):
        out, labels = augmentation(image, mask, side_px, seed)
        empty = ~out.any(axis=0)
        emptied += empty.sum()
        # Where sizes change, the pixels at the border hold a bit of both.
        assert (labels[empty] == IGNORE_INDEX).all()
        assert (labels[~empty] == IGNORE_INDEX).sum() <= 2 * 32
    assert 0.3 < emptied / (20 * 32 * 32) < 0.7


def holes(augmentation, seeds, bands=3, side_px=SIZE):
    """Augment MASK, and say where labels differ from those without a hole (the same seed)."""
    plain = Augmentation(augmentation.crop_px, AugmentationLevel(), bands)
    for seed in seeds:
        image, mask = augmentation(place_image(bands), MASK, side_px, seed)
        _, wanted = plain(place_image(bands), MASK, side_px, seed)
        yield image, mask, wanted


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("side_px", [48, 64])
def test_strong_makes_no_label_moves_none_and_loses_those_in_one_hole_alone(bands, side_px):
    augmentation, cut = Augmentation(48, AUGMENTATIONS["strong"], bands), 0
    for image, mask, wanted in holes(augmentation, range(60), bands, side_px):
        assert (image.dtype, image.shape) == (np.uint8, (bands, 48, 48))
        lost = np.argwhere(mask != wanted)
        if not len(lost):
            continue
        cut += 1
        top, left, bottom, right = *lost.min(axis=0), *(lost.max(axis=0) + 1)
        assert max(bottom - top, right - left) <= round(0.4 * 48)
        assert (mask[top:bottom, left:right] == IGNORE_INDEX).all()
        inside = np.count_nonzero(wanted[top:bottom, left:right] != IGNORE_INDEX)
        assert counts(wanted)[:5].sum() - counts(mask)[:5].sum() == inside == len(lost)
    assert 15 < cut < 45


def test_a_hole_has_the_mean_colour_and_all_else_stays():
    augmentation, cut = Augmentation(SIZE, AugmentationLevel(cutout=0.5), 3), 0
    for image, mask, wanted in holes(augmentation, range(40)):
        filled = (image[0] ^ image[1]) != image[2]
        rows, cols = np.nonzero(filled)
        outside = ~filled
        assert np.array_equal(mask[outside], class_at(image[0][outside], image[1][outside]))
        if not len(rows):
            assert np.array_equal(mask, wanted)
            continue
        cut += 1
        hole = image[:, filled]
        assert (hole == hole[:, :1]).all()
        assert (mask[filled] == IGNORE_INDEX).all()
        mean = place_image().mean(axis=(1, 2))
        assert np.abs(hole[:, 0] - mean).max() <= 0.5 + 1e-9
        full = np.zeros_like(filled)
        full[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] = True
        # A pixel whose own colour is as the mean's would not be told from its surroundings.
        assert filled.sum() >= 0.9 * full.sum()
    assert 10 < cut < 30


def test_blur_and_noise_change_pixels_and_no_label_and_keep_the_mean():
    image = np.random.default_rng(3).integers(100, 156, (3, SIZE, SIZE), np.uint8)
    for level, rougher in (
        (AugmentationLevel(blur_px=1.5), False),
        (AugmentationLevel(noise=0.2), True),
    ):
        augmentation, changed = Augmentation(SIZE, level, 3), 0
        plain = Augmentation(SIZE, AugmentationLevel(), 3)
        for seed in range(30):
            moved, mask = augmentation(image, MASK, SIZE, seed)
            same, wanted = plain(image, MASK, SIZE, seed)
            assert np.array_equal(mask, wanted)
            if not np.array_equal(moved, same):
                changed += 1
                assert abs(moved.mean() - same.mean()) < 2
                assert (moved.std() > same.std()) == rougher
        assert 5 < changed < 25


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_every_strength_repeats_itself_by_seed_alone(name, bands):
    first, second = (Augmentation(32, AUGMENTATIONS[name], bands) for _ in range(2))
    image = np.random.default_rng(2).integers(0, 256, (bands, SIZE, SIZE), np.uint8)
    wanted = [first(image, MASK, 40, seed) for seed in range(12)]
    assert len({one[0].tobytes() for one in wanted}) == 12
    for seed in reversed(range(12)):
        again = second(image, MASK, 40, seed)
        assert np.array_equal(again[0], wanted[seed][0])
        assert np.array_equal(again[1], wanted[seed][1])


def test_a_stronger_one_moves_colours_further():
    image = np.random.default_rng(3).integers(80, 176, (3, SIZE, SIZE), np.uint8)
    moved = []
    for name in ("weak", "medium", "strong"):
        augmentation = Augmentation(SIZE, AUGMENTATIONS[name], 3)
        samples = [augmentation(image, MASK, SIZE, seed)[0] for seed in range(40)]
        moved.append(np.mean([abs(one.mean() - image.mean()) for one in samples]))
    assert moved[0] == 0
    assert moved[2] > 1.5 * moved[1] > 0
