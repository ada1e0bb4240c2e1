"""Boundaries are counted as distances by SciPy say, and eroded masks as its erosion makes them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.boundaries import boundary_f1, count_boundaries, erode_classes

N = IGNORE_INDEX


def count(prediction, mask, classes, distances_px=(1, 3, 5)):
    """Counts of one tile, or of a batch."""
    alone = mask.ndim == 2
    batch = [torch.from_numpy(ids[None] if alone else ids) for ids in (prediction, mask)]
    counts = count_boundaries(*batch, classes, distances_px).numpy()
    return counts[0] if alone else counts


def areas(seed, classes, shape=(48, 61), unlabelled=0.0):
    """A mask of areas some pixels wide."""
    generator = np.random.default_rng(seed)
    fields = [gaussian_filter(generator.normal(size=shape), 3) for _ in range(classes)]
    mask = np.argmax(fields, axis=0).astype(np.uint8)
    mask[generator.random(shape) < unlabelled] = N
    return mask


def edge_by_loop(ids, labelled):
    edge = np.zeros_like(labelled)
    for row, col in zip(*np.nonzero(labelled), strict=True):
        for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
            inside = 0 <= r < ids.shape[0] and 0 <= c < ids.shape[1]
            if inside and labelled[r, c] and ids[r, c] != ids[row, col]:
                edge[row, col] = True
    return edge


def count_simply(prediction, mask, classes, distances_px):
    labelled = mask != N
    true_edge, guessed_edge = (edge_by_loop(ids, labelled) for ids in (mask, prediction))
    counts = np.zeros((len(distances_px), classes, 4), np.int64)
    for class_id in range(classes):
        true = true_edge & (mask == class_id)
        guessed = guessed_edge & (prediction == class_id)
        for number, distance_px in enumerate(distances_px):
            met = [
                (one & (distance_transform_edt(~other) <= distance_px)).sum() if other.any() else 0
                for one, other in ((true, guessed), (guessed, true))
            ]
            counts[number, class_id] = true.sum(), met[0], guessed.sum(), met[1]
    return counts


CASES = {
    "two classes": (areas(0, 2), areas(1, 2), 2),
    "five classes with unlabelled pixels": (areas(2, 5), areas(3, 5, unlabelled=0.2), 5),
    "twenty classes": (areas(4, 20), areas(5, 20, unlabelled=0.02), 20),
    "a class that is only predicted": (areas(6, 3), areas(7, 2), 3),
    "all right": (areas(8, 3), areas(8, 3), 3),
    "one class": (np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 2),
    "nothing labelled": (areas(9, 3), np.full((48, 61), N, np.uint8), 3),
    "a tile lower than the distance": (areas(10, 3, (2, 30)), areas(11, 3, (2, 30)), 3),
    "a tile narrower than the distance": (areas(12, 3, (30, 3)), areas(13, 3, (30, 3)), 3),
    "noise": (
        np.random.default_rng(0).integers(0, 4, (20, 20), np.uint8),
        np.random.default_rng(1).choice(np.array([0, 1, 2, 3, N], np.uint8), (20, 20)),
        4,
    ),
}


@pytest.mark.parametrize(("prediction", "mask", "classes"), CASES.values(), ids=list(CASES))
def test_counts_are_those_of_a_loop_over_pixels_and_of_scipys_distances(prediction, mask, classes):
    distances = (1, 2, 3, 5, 7)
    wanted = count_simply(prediction, mask, classes, distances)
    assert np.array_equal(count(prediction, mask, classes, distances), wanted)


def test_tiles_of_a_batch_are_counted_each_by_itself():
    masks = np.stack([areas(seed, 9, unlabelled=0.1) for seed in (0, 1, 2)])
    predictions = np.stack([areas(seed, 9) for seed in (3, 1, 5)])
    wanted = [count(*pair, 9) for pair in zip(predictions, masks, strict=True)]
    assert np.array_equal(count(predictions, masks, 9), np.stack(wanted))


def test_a_boundary_two_pixels_off_matches_at_three_and_not_at_one():
    mask, prediction = (np.zeros((8, 20), np.uint8) for _ in range(2))
    mask[:, 10:] = 1
    prediction[:, 12:] = 1
    counts = count(prediction, mask, 2)
    # Eight rows, one pixel of each class in each: at columns 9 and 10, predicted at 11 and 12.
    assert counts[0].tolist() == [[8, 0, 8, 0], [8, 0, 8, 0]]
    assert counts[1].tolist() == [[8, 8, 8, 8], [8, 8, 8, 8]]
    assert boundary_f1(counts) == [[0, 0], [1, 1], [1, 1]]


def test_f1_is_the_harmonic_mean_of_the_matched_fractions():
    # Class 0: precision 1/2, recall 3/4; class 1: a boundary on one side alone; class 2: none.
    counts = np.array([[[4, 3, 6, 3], [5, 0, 0, 0], [0, 0, 0, 0]]])
    assert boundary_f1(counts) == [[pytest.approx(3 / 5), 0, None]]


def test_counts_are_summed_over_tiles_before_they_are_divided():
    good, bad = np.array([[[2, 2, 2, 2]] * 2]), np.array([[[98, 0, 98, 0]] * 2])
    assert boundary_f1(good + bad) == [[pytest.approx(2 / 100)] * 2]


def test_neither_a_tiles_edge_nor_the_border_of_what_is_labelled_is_a_boundary():
    mask = np.full((10, 10), N, np.uint8)
    mask[:, :5] = 1
    prediction = np.ones((10, 10), np.uint8)
    prediction[:, 5:] = 0  # where nobody says what is there
    assert not count(prediction, mask, 2).any()


def test_where_masks_show_no_boundary_there_is_no_boundary_f1():
    mask = erode_classes(areas(0, 3), 2)
    prediction = np.random.default_rng(0).integers(0, 3, mask.shape, np.uint8)
    counts = count(prediction, mask, 3)
    assert counts[..., 2].any()
    assert boundary_f1(counts) == [[None] * 3] * 3


def disc(radius):
    rows, cols = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + cols**2 <= radius**2


@pytest.mark.parametrize("radius", [1, 2, 3, 8])
@pytest.mark.parametrize("classes", [2, 5, 19])
def test_each_class_is_eroded_by_a_disc(classes, radius):
    mask = areas(classes, classes)
    wanted = np.full_like(mask, N)
    for class_id in range(classes):
        kept = binary_erosion(mask == class_id, disc(radius), border_value=1)
        wanted[kept] = class_id
    before = mask.copy()
    assert np.array_equal(erode_classes(mask, radius), wanted)
    assert np.array_equal(mask, before)


def test_nothing_is_eroded_beside_unlabelled_pixels_or_at_the_edge():
    mask = np.full((12, 12), 1, np.uint8)
    mask[4:8, 4:8] = N
    assert np.array_equal(erode_classes(mask, 3), mask)
    assert np.array_equal(erode_classes(areas(0, 3), 0), areas(0, 3))
    empty = np.full((5, 5), N, np.uint8)
    assert np.array_equal(erode_classes(empty, 3), empty)


def test_the_highest_class_id_is_a_class_like_any_other():
    mask = np.zeros((6, 12), np.uint8)
    mask[:, 6:] = 254
    assert (erode_classes(mask, 2) == N).sum() == 6 * 4
    assert count(mask, mask, 255)[0, 254].tolist() == [6, 6, 6, 6]
