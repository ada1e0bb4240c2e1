"""Rounds go on from what the one before was sure of, on train tiles alone, and to the same bits."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from pointcover.labels import IGNORE_INDEX
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.tileset.tiles import TileReader, raster_path
from pointcover.training.crops import train_loader
from pointcover.training.data import SparseLabels, TrainingData
from pointcover.training.fit import Problem, fit
from pointcover.training.loss_fractions import loss_fractions, needs_point_labels
from pointcover.training.losses.partial import PartialLoss
from pointcover.training.results import Callbacks
from pointcover.training.semi_supervised.self_training import PseudoLabeller, fit_in_rounds
from pointcover.training.semi_supervised.settings import SelfTrainingSettings
from pointcover.training.task import TrainingTask
from tests.machine import MACHINE
from tests.map_models import TILE_SET
from tests.tile_sets import write_easy_tiles, write_orthophoto
from tests.train_settings import train_settings
from tests.training.test_fit import (
    CLASSES,
    MEAN,
    STD,
    Segmenter,
    have_equal_weights,
    interrupted,
    timeless,
)

pytestmark = pytest.mark.usefixtures("one_deterministic_thread")

SIZE = 64


@pytest.fixture
def train_tiles(tmp_path):
    tiles = write_easy_tiles(tmp_path, 4, clicks=20)
    return [replace(tile, pixels=tile.pixels[: len(CLASSES)]) for tile in tiles]


def pointwise(weights=None):
    torch.manual_seed(0)
    model = Segmenter(torch.nn.Conv2d(3, 2, 1), MEAN, STD)
    if weights:
        model.load_state_dict(weights)
    return model


def sees_brightness(images):
    """Logits by brightness alone: sure of dark and bright, of 125 unsure."""
    score = (images.float().mean(dim=1) - 125) / 10
    return torch.stack([-score, score], dim=1)


def label(
    folder, tiles, *, network=sees_brightness, threshold=0.9, top_fraction=None, batch_size=3
):
    labeller = PseudoLabeller(
        images=folder / "images",
        masks=folder / "masks",
        out=folder / "more",
        tile_set=replace(TILE_SET, classes=CLASSES, size_px=SIZE),
        settings=SelfTrainingSettings(rounds=1, threshold=threshold, top_fraction=top_fraction),
        batch_size=batch_size,
    )
    return labeller.label(network, torch.device("cpu"), tiles)


def read(folder, kind, tile):
    return TileReader(folder / kind, SIZE, IGNORE_INDEX).read(tile)[0][: tile.height, : tile.width]


# Labelling


def test_sure_pixels_are_labelled_unsure_ones_are_not_and_labels_that_are_there_stay(tmp_path):
    image = np.full((3, 64, 64), 125, np.uint8)
    image[:, :20], image[:, 40:] = 60, 200
    mask = np.full((64, 64), IGNORE_INDEX, np.uint8)
    mask[0, 0], mask[30, 5] = 1, 0  # the first is not what the network sees
    tiles = write_orthophoto(tmp_path, "sheet", image, mask, SIZE)
    labelled = label(tmp_path, tiles)
    wanted = np.full((64, 64), IGNORE_INDEX, np.uint8)
    wanted[:20], wanted[40:] = 0, 1
    wanted[0, 0], wanted[30, 5] = 1, 0
    np.testing.assert_array_equal(read(tmp_path, "more", tiles[0]), wanted)
    assert labelled[0].pixels == (20 * 64, 24 * 64 + 1)
    assert labelled[0].id == tiles[0].id


def test_tiles_at_the_edge_are_labelled_on_their_own_pixels(tmp_path):
    generator = np.random.default_rng(0)
    dense = generator.integers(0, 2, (80, 150), np.uint8)
    image = np.broadcast_to(60 + 140 * dense, (3, 80, 150)).copy()
    mask = np.full((80, 150), IGNORE_INDEX, np.uint8)
    tiles = write_orthophoto(tmp_path, "sheet", image, mask, SIZE)
    label(tmp_path, tiles[::-1])
    whole = RasterReader(raster_path(tmp_path / "more", "train", "sheet"))
    for tile in tiles:
        rows = slice(tile.row_off, tile.row_off + tile.height)
        columns = slice(tile.col_off, tile.col_off + tile.width)
        np.testing.assert_array_equal(read(tmp_path, "more", tile), dense[rows, columns])
    assert whole.info().height == 80


def test_where_the_orthophoto_has_no_data_nothing_is_labelled(tmp_path):
    image = np.full((3, 64, 64), 20, np.uint8)
    image[:, :, :30] = 0
    mask = np.full((64, 64), IGNORE_INDEX, np.uint8)
    tiles = write_orthophoto(tmp_path, "sheet", image, mask, SIZE)
    assert label(tmp_path, tiles)[0].pixels == (34 * 64, 0)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_how_many_tiles_go_at_once_changes_no_label(tmp_path, train_tiles, batch_size):
    wanted = label(tmp_path, train_tiles)
    assert label(tmp_path, train_tiles, batch_size=batch_size) == wanted
    assert sum(map(sum, (tile.pixels for tile in wanted))) > 10 * 4 * 20


def test_at_most_the_top_share_of_a_class_is_labelled(tmp_path, train_tiles):
    whole, half = (label(tmp_path, train_tiles, threshold=0, top_fraction=s) for s in (None, 0.5))
    for tile, other in zip(whole, half, strict=True):
        assert sum(tile.pixels) == SIZE * SIZE
        assert sum(other.pixels) == pytest.approx(SIZE * SIZE / 2, abs=24)


def test_tiles_that_are_scored_on_are_refused(tmp_path, train_tiles):
    val = write_easy_tiles(tmp_path, 1, split="val")
    with pytest.raises(ValueError, match="got tiles of val to label, wanted tiles of train only"):
        label(tmp_path, [*train_tiles, *val])
    assert not (tmp_path / "more").exists()


# Rounds


def fit_rounds(
    folder,
    tiles,
    *,
    rounds,
    saved=None,
    save=None,
    threshold=0.6,
    seen=None,
    propagated_loss_fraction=None,
):
    """Fit as the stage does, on few clicks; give all epochs and the end."""
    val = TileDataset(
        write_easy_tiles(folder, 2, split="val"), folder / "images", folder / "masks", SIZE
    )
    settings = train_settings(
        epochs=2,
        lr=0.02,
        weight_decay=0.0,
        ema_decay=0.5,
        keep="last",
        schedule="cosine",
        augmentation="weak",
        crop_px=32,
        batch_size=4,
        propagated_loss_fraction=propagated_loss_fraction,
    )

    class Fitter:
        def fit_round(self, labels, callbacks, saved):
            if seen is not None:
                seen.append(labels)
            train = TileDataset(
                labels.tiles,
                folder / "images",
                labels.masks,
                SIZE,
                folder / "masks" if needs_point_labels(settings) else None,
            )
            problem = Problem(
                pointwise(),
                train_loader(train, settings, bands=3, workers=0, seed=1),
                tile_loader(val, 2),
                PartialLoss(),
                CLASSES.names,
            )
            return fit(make_fabric("cpu", "fp32"), problem, settings, callbacks, saved)

        def pseudo_label(self, weights, classifier):
            network = pointwise(weights).eval()
            labelled = label(folder, tiles, network=network, threshold=threshold)
            return SparseLabels(labelled, folder / "more", has_propagated=True)

    results = []
    clicked = SparseLabels(tiles, folder / "masks", has_propagated=False)
    callbacks = Callbacks(results.append, save)
    fitted, learned = fit_in_rounds(Fitter(), rounds, clicked, callbacks, saved)
    assert seen is None or learned == seen[-1]
    return results, fitted


def test_no_round_is_a_plain_fit_to_the_last_bit(tmp_path, train_tiles):
    results, fitted = fit_rounds(tmp_path, train_tiles, rounds=0)
    more, other = fit_rounds(tmp_path, train_tiles, rounds=1)
    assert timeless(more[:2]) == timeless(results)
    assert (fitted.kept.epoch, other.kept.epoch) == (2, 4)
    assert not have_equal_weights(other, fitted)


def test_epochs_are_numbered_on_over_the_rounds_and_each_round_has_more_labels(
    tmp_path, train_tiles
):
    seen = []
    results, _ = fit_rounds(tmp_path, train_tiles, rounds=2, seen=seen)
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5, 6]
    pixels = [sum(sum(tile.pixels) for tile in labels.tiles) for labels in seen]
    assert pixels[0] == 4 * 20 < pixels[1]
    assert pixels[0] < pixels[2]
    assert [labels.masks.name for labels in seen] == ["masks", "more", "more"]


def test_a_round_in_which_nothing_is_sure_learns_the_same_again(tmp_path, train_tiles):
    results, fitted = fit_rounds(tmp_path, train_tiles, rounds=0)
    more, other = fit_rounds(tmp_path, train_tiles, rounds=1, threshold=1.0)
    assert have_equal_weights(other, fitted)
    assert [result.train_loss for result in more[2:]] == [result.train_loss for result in results]


def test_what_was_labelled_in_a_round_counts_as_grown(tmp_path, train_tiles):
    """With a fraction of 0 it counts nothing: the second round is as the first."""
    _, first = fit_rounds(tmp_path, train_tiles, rounds=0, propagated_loss_fraction=0.0)
    _, none = fit_rounds(tmp_path, train_tiles, rounds=1, propagated_loss_fraction=0.0)
    _, half = fit_rounds(tmp_path, train_tiles, rounds=1, propagated_loss_fraction=0.5)
    first, none, half = (fitted.weights["network.weight"] for fitted in (first, none, half))
    torch.testing.assert_close(none, first, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(half, first, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_rounds_that_go_on_end_as_rounds_that_were_not_interrupted(
    tmp_path, train_tiles, after, early
):
    """Within the first, between two, and within the last; its labels are made again."""

    def run(saved, save):
        torch.manual_seed(after if saved else 99)
        if saved and after > 2:
            (tmp_path / "more").rename(tmp_path / "gone")  # it is not looked for
        return fit_rounds(tmp_path, train_tiles, rounds=2, saved=saved, save=save)

    (results, fitted) = run(None, None)
    (again, resumed) = interrupted(run, tmp_path, after=after, early=early)
    assert timeless(again) == timeless(results)
    assert timeless([resumed.kept]) == timeless([fitted.kept])
    assert have_equal_weights(resumed, fitted)


def test_it_is_said_how_much_was_labelled(tmp_path, train_tiles, caplog):
    with caplog.at_level(logging.INFO, logger="pointcover"):
        labelled = label(tmp_path, train_tiles)
    added = sum(sum(tile.pixels) for tile in labelled) - 80
    said = f"added {added} pseudo-labels to 80 labels, of {4 * SIZE * SIZE} pixels"
    assert said in caplog.text


def make_task(folder, **settings):
    """Return the task of a stage on two tiles."""
    tiles = write_easy_tiles(folder, 2)
    labels = SparseLabels(tiles, folder / "masks", has_propagated=True)
    tile_set = replace(TILE_SET, classes=CLASSES)
    data = TrainingData(tile_set, tiles, folder / "images", folder, folder / "more", labels)
    return TrainingTask(make_fabric("cpu", "fp32"), train_settings(**settings), 0, data, MACHINE)


def test_balanced_class_weights_are_those_of_the_labels_of_a_round(tmp_path):
    task, plain = make_task(tmp_path, class_weighting="balanced"), make_task(tmp_path)
    for pixels in ((10, 90), (900, 100)):  # a later round's differ from the point labels'
        counted = [replace(tile, pixels=pixels) for tile in task.data.tiles]
        labels = SparseLabels(counted, tmp_path / "masks", has_propagated=True)
        weights = task.loss(labels).class_weights
        assert weights[0] * pixels[0] == pytest.approx(weights[1] * pixels[1])
        assert plain.loss(labels).class_weights is None


def test_without_propagated_labels_a_round_has_one_fraction_of_the_loss(tmp_path):
    task = make_task(tmp_path, propagated_loss_fraction=0.3)
    propagated = task.data.labels
    assert loss_fractions(task.settings_for(propagated)) == (0.7, 0.3)
    clicked = replace(propagated, has_propagated=False)
    assert loss_fractions(task.settings_for(clicked)) == (1.0,)
    assert not needs_point_labels(task.settings_for(clicked))
