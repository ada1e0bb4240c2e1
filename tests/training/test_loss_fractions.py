"""Class fractions of the loss: computed by hand, and counted on drawn crops."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.priors import correct_logits
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import Tile
from pointcover.training.augmentation import Augmentation
from pointcover.training.augmentation_levels import AugmentationLevel
from pointcover.training.crops import CropDataset, crop_weights
from pointcover.training.loss_fractions import class_fractions, expect_labels
from pointcover.training.losses.make import balanced_weights
from pointcover.training.losses.partial import PartialLoss
from tests.tile_sets import write_orthophoto

SIZE = 64


def tile(pixels, *, orthophoto="one", region="north", side=SIZE):
    return Tile("t", orthophoto, region, "train", 0, 0, side, side, tuple(pixels))


def fractions(tiles, class_weights=None, *, balance="none", crop_px=SIZE):
    """Return class fractions of tiles whose crops hold all their labels."""
    labels = np.array([[one.pixels for one in tiles]], float)
    return class_fractions(crop_weights(tiles, crop_px, balance), labels, class_weights)


def write_mask(folder, name, mask):
    """Write an orthophoto's mask of two classes; give its tiles."""
    tiles = write_orthophoto(folder, name, np.full((3, *mask.shape), 9, np.uint8), mask, SIZE)
    return [replace(one, pixels=one.pixels[:2]) for one in tiles]


def expect(folder, tiles, *, crop_px=SIZE):
    """Return the labels of each class in a crop of each tile, all in one part."""
    (labels,) = expect_labels(tiles, folder / "masks", None, size_px=SIZE, crop_px=crop_px)
    return labels


# Fractions, by hand


def test_without_any_weighing_they_are_the_shares_of_labelled_pixels():
    assert fractions([tile((30, 10)), tile((45, 15))]) == pytest.approx((0.75, 0.25))
    assert fractions([tile((5, 0))]) == (1, 0)


def test_weights_of_classes_count_and_balanced_ones_even_out_the_shares():
    assert fractions([tile((30, 10))], (1, 6)) == pytest.approx((30 / 90, 60 / 90))
    tiles = [tile((30, 10, 0)), tile((60, 0, 0))]
    assert fractions(tiles, balanced_weights((90, 10, 0))) == pytest.approx((0.5, 0.5, 0))


def test_regions_drawn_alike_count_alike_however_many_tiles_they_have():
    tiles = [tile((30, 10))] * 3 + [tile((10, 30), orthophoto="two", region="south")]
    assert fractions(tiles) == pytest.approx((100 / 160, 60 / 160))
    assert fractions(tiles, balance="region") == pytest.approx((0.5, 0.5))


def test_tiles_drawn_by_class_bring_the_other_classes_of_theirs_along():
    # Class 1 is in the second tile alone, which is drawn for it, and by 10 of 100 for class 0:
    # fractions of crops 0.45 and 0.55, so 0.45 · 90 + 0.55 · 10 = 46 of class 0 and 5.5 of class 1.
    tiles = [tile((90, 0)), tile((10, 10))]
    assert fractions(tiles, balance="class") == pytest.approx((46 / 51.5, 5.5 / 51.5))


def test_an_orthophoto_smaller_than_a_crop_has_one_as_often_as_others_have_one_of_theirs():
    tiles = [tile((8, 0), orthophoto="small", side=16), tile((0, 4))]
    assert fractions(tiles, crop_px=32) == pytest.approx((8 / 24, 4 * 4 / 24))


# Labels in a crop, by hand


def test_a_crop_as_large_as_its_tile_holds_its_labels_and_at_the_edge_those_of_the_neighbour(
    tmp_path,
):
    mask = np.full((SIZE, SIZE + 20), IGNORE_INDEX, np.uint8)
    mask[5, :30] = 0  # in the first tile; of the second's square, which begins at column 20, 10
    mask[9, 70:76] = 1
    tiles = write_mask(tmp_path, "one", mask)
    np.testing.assert_allclose(expect(tmp_path, tiles), [(30, 0), (10, 6)])


def test_a_smaller_crop_holds_a_corner_seldom_and_the_middle_often(tmp_path):
    mask = np.full((SIZE, SIZE), IGNORE_INDEX, np.uint8)
    mask[0, 0], mask[32, 1] = 0, 1  # in 1 of 33 places a side; 32 rows of 33, and 2 columns of 33
    (labels,) = expect(tmp_path, write_mask(tmp_path, "one", mask), crop_px=32)
    np.testing.assert_allclose(labels, (1 / 33**2, 32 * 2 / 33**2))


def test_a_crop_larger_than_the_orthophoto_holds_all_its_labels(tmp_path):
    mask = np.full((40, 20), IGNORE_INDEX, np.uint8)
    mask[0, 0], mask[-1, :] = 0, 1
    (labels,) = expect(tmp_path, write_mask(tmp_path, "one", mask))
    np.testing.assert_allclose(labels, (1, 20))


def test_what_was_not_clicked_has_a_share_of_its_own_however_far_it_grew(tmp_path):
    clicks = np.full((SIZE, SIZE), IGNORE_INDEX, np.uint8)
    clicks[5, 5], clicks[9, 40] = 0, 1
    masks = clicks.copy()
    masks[5, :10], masks[9, 30:61] = 0, 1
    write_mask(tmp_path / "clicked", "one", clicks)
    tiles = write_mask(tmp_path, "one", masks)
    labels = expect_labels(
        tiles, tmp_path / "masks", tmp_path / "clicked" / "masks", size_px=SIZE, crop_px=SIZE
    )
    np.testing.assert_allclose(labels, [[(1, 1)], [(9, 30)]])
    crops, parts = crop_weights(tiles, SIZE, "none"), (0.8, 0.2)
    wanted = (0.8 / 2 + 0.2 * 9 / 39, 0.8 / 2 + 0.2 * 30 / 39)
    assert class_fractions(crops, labels, None, parts) == pytest.approx(wanted)
    wanted = np.array((0.8 / 4 + 0.2 * 9 / 99, 0.8 * 3 / 4 + 0.2 * 90 / 99))
    assert class_fractions(crops, labels, (1, 3), parts) == pytest.approx(tuple(wanted))
    labels[1] = 0  # nothing grew: clicks are all
    assert class_fractions(crops, labels, None, parts) == pytest.approx((0.5, 0.5))


# Both, as drawn


def write_uneven_tiles(folder):
    """Write regions of unlike sizes and classes, whose edge tiles are narrow."""
    generator = np.random.default_rng(5)
    tiles = []
    for name, (height, width), clicks, fraction in (
        ("a", (150, 140), 200, 0.1),
        ("b", (80, 75), 100, 0.4),
        ("c", (50, 200), 100, 0),
    ):
        mask = np.full((height, width), IGNORE_INDEX, np.uint8)
        for place in generator.choice(mask.size, clicks, replace=False):
            is_left = place % width < width / 2
            mask.ravel()[place] = generator.random() < (fraction if is_left else fraction / 4)
        tiles += write_mask(folder, name, mask)
    return [one for one in tiles if sum(one.pixels)]


@pytest.mark.slow
@pytest.mark.parametrize("crop_px", [pytest.param(SIZE, marks=pytest.mark.slow), 48])
@pytest.mark.parametrize("balance", ["none", "region", "class"])
def test_they_are_what_crops_hold_in_the_long_run(tmp_path, balance, crop_px):
    tiles, weights = write_uneven_tiles(tmp_path), (1.0, 3.0)
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", SIZE)
    crops = CropDataset(dataset, Augmentation(crop_px, AugmentationLevel(), 3), 1, balance=balance)
    masks = [crops[epoch, n][1] for epoch in range(1500 // len(crops)) for n in range(len(crops))]
    counts = np.bincount(torch.stack(masks).ravel(), minlength=256)[:2] * weights
    labels = expect(tmp_path, tiles, crop_px=crop_px)[np.newaxis]
    found = class_fractions(crop_weights(tiles, crop_px, balance), labels, weights)
    assert found == pytest.approx(tuple(counts / counts.sum()), abs=0.02)


# What they are for


def fit_by_colour(counts, weights):
    """Fit logits of each colour to labels: (colours, classes) counts; give (colours, classes)."""
    colours, classes = np.indices(counts.shape)
    colour = torch.from_numpy(colours.repeat(counts.ravel()))
    mask = torch.from_numpy(classes.repeat(counts.ravel()).astype(np.uint8))[None, None]
    logits = torch.zeros(counts.shape, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")
    loss = PartialLoss(class_weights=weights)

    def step():
        optimiser.zero_grad()
        value = loss(logits[colour].T[None, :, None], mask)
        value.backward()
        return value

    optimiser.step(step)
    return logits.detach()


@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize("priors", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.8)])
def test_a_network_at_its_optimum_is_corrected_to_bayes_rule_however_classes_were_weighed(
    priors, is_balanced
):
    """Ninety labels of class 0 and ten of class 1; a third colour says nothing of the class."""
    counts = np.array([[45, 1], [27, 7], [18, 2]])
    weights = balanced_weights((90, 10)) if is_balanced else None
    label_fractions = fractions([tile((90, 10))], weights)
    assert label_fractions == pytest.approx((0.5, 0.5) if is_balanced else (0.9, 0.1))
    logits = fit_by_colour(counts, weights)
    corrected = correct_logits(logits.T[None, :, None], priors, label_fractions).softmax(dim=1)
    joint = counts / counts.sum(axis=0) * priors
    wanted = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(corrected[0, :, 0].T, wanted, atol=1e-3)
    np.testing.assert_allclose(corrected[0, :, 0, 2], priors, atol=1e-3)
