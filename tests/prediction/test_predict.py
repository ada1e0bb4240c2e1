"""Prediction gives every tile once, in order, and the same whatever stands beside it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pointcover.labels import IGNORE_INDEX
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.segmenter import Segmenter
from pointcover.prediction.predict import Predictor, predict, score_views
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.dataset import TileDataset, tile_loader
from tests.tile_sets import write_easy_tiles
from tests.train_settings import network_settings


class Thresholds(nn.Module):
    """Calls a pixel the number of thresholds, 50, 100, 150, that its first band reaches."""

    def forward(self, values):
        value = values[:, :1]
        return -(value - torch.tensor([25.0, 75, 125, 175]).view(1, 4, 1, 1)).square()


def numbered(count, size=32):
    """Tiles that hold their number in their last band, and their masks."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 200, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    images[:, 2] = torch.arange(count).view(-1, 1, 1)
    masks = torch.full((count, size, size), IGNORE_INDEX, dtype=torch.uint8)
    masks[:, 0, 0] = torch.arange(count)
    return images, masks


def predict_all(model, tiles):
    batches = list(predict(make_fabric("cpu", "fp32"), Predictor([model]), tiles))
    return [torch.cat(part) for part in zip(*batches, strict=True)]


@pytest.mark.parametrize("average_views", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_a_correction_moves_the_logits_of_each_model_and_of_each_view(average_views, count):
    """Thresholds' logits are squares: nearest of 25, 75, 125, 175, and more for the first."""
    images, masks = numbered(3)
    models = [Segmenter(Thresholds(), (0.0,) * 3, (1.0,) * 3) for _ in range(count)]
    shift = torch.tensor([2500.0, 0, 0, 0]).view(1, 4, 1, 1)
    loader = DataLoader(TensorDataset(images, masks), 2)
    corrections = [lambda logits: logits + shift] * count
    predictor = Predictor(models, average_views, corrections)
    found = predict(make_fabric("cpu", "fp32"), predictor, loader)
    predictions = torch.cat([prediction for _, _, prediction, _ in found]).int()
    first = images[:, 0].int()
    wanted = torch.where(first < 75, 0, first // 50)  # 75² - 25² of the way is 2500 at 75
    certain = (first % 50 != 0) & (first != 75)
    assert torch.equal(predictions[certain], wanted[certain])
    assert bool((wanted != first // 50).any())


def test_each_model_of_an_ensemble_is_corrected_by_its_own():
    """Both see 0.8 to 0.2; one is taken to 0.2 and the other to 0.5: in the mean 0.35."""
    images, masks = numbered(1)
    models = [Segmenter(Says(0.8, 0.2), (0.0,) * 3, (1.0,) * 3) for _ in range(2)]
    shifts = [torch.tensor([0.0, np.log(x)]).view(1, 2, 1, 1).float() for x in (16, 4)]
    ((_, _, predictions, confidence),) = predict(
        make_fabric("cpu", "fp32"),
        Predictor(
            models,
            corrections=[lambda logits, shift=shift: logits + shift for shift in shifts],
        ),
        DataLoader(TensorDataset(images, masks), 1),
    )
    assert (predictions == 1).all()
    torch.testing.assert_close(confidence, torch.full_like(confidence, 0.65))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_every_tile_comes_once_in_order_with_its_mask_and_prediction(batch_size):
    images, masks = numbered(7)
    model = Segmenter(Thresholds(), (0.0,) * 3, (1.0,) * 3)
    loader = DataLoader(TensorDataset(images, masks), batch_size)
    got_images, got_masks, predictions, confidence = predict_all(model, loader)
    assert torch.equal(got_images, images)
    assert torch.equal(got_masks, masks)
    assert predictions.dtype == torch.uint8
    first = images[:, 0].int()
    certain = first % 50 != 0  # between two classes, either is right
    wanted = first // 50
    assert torch.equal(predictions.int()[certain], wanted[certain])
    assert confidence.dtype == torch.float32
    assert confidence.shape == predictions.shape


def test_the_255th_class_can_be_predicted():
    class Last(nn.Module):
        def forward(self, values):
            logits = torch.zeros(len(values), 255, *values.shape[2:])
            logits[:, 254] = 1
            return logits

    images, masks = numbered(1)
    model = Segmenter(Last(), (0.0,) * 3, (1.0,) * 3)
    predictions = predict_all(model, DataLoader(TensorDataset(images, masks), 1))[2]
    assert (predictions == 254).all()


def test_a_network_that_was_being_trained_predicts_as_in_evaluation_and_learns_nothing(tmp_path):
    tiles = write_easy_tiles(tmp_path, 3, split="test")
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", 64)
    statistics = BandStatistics((100.0,) * 3, (60.0,) * 3)
    model = build_model(network_settings("fpn"), statistics, 2)
    images = torch.stack([dataset[place][0] for place in range(3)])
    model(images)  # in training: batch normalisation learns, dropout drops
    before = {name: value.clone() for name, value in model.state_dict().items()}
    together = predict_all(model, tile_loader(dataset, 3))[2]
    model.train()
    alone = predict_all(model, tile_loader(dataset, 1))[2]
    model.eval()
    with torch.inference_mode():
        wanted = model(images).argmax(dim=1)
    assert torch.equal(together, wanted.to(torch.uint8))
    # Another size of batch may add in another order: the last bit of a logit, at most.
    assert (alone != together).float().mean() < 0.001
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Corner(nn.Module):
    """Looks at where a pixel lies: sure of class 1 in the upper left quarter, of 0 elsewhere."""

    def forward(self, values):
        _, _, height, width = values.shape
        logits = torch.zeros(len(values), 2, height, width)
        logits[:, 0] = 20
        logits[:, :, : height // 2, : width // 2] = torch.tensor([0.0, 20]).view(1, 2, 1, 1)
        return logits


def test_views_are_turned_back_before_they_are_averaged():
    # A network that looks at pixels alone sees the same in each view…
    images, masks = numbered(3)
    model = Segmenter(Thresholds(), (0.0,) * 3, (1.0,) * 3)
    wanted = model(images).softmax(dim=1)
    assert torch.allclose(score_views(model, images), wanted, atol=1e-6)
    loader = DataLoader(TensorDataset(images, masks), 2)
    fabric = make_fabric("cpu", "fp32")
    averaged = torch.cat([p for _, _, p, _ in predict(fabric, Predictor([model], True), loader)])
    assert torch.equal(averaged, wanted.argmax(dim=1).to(torch.uint8))
    # …and one that looks at places has each quarter twice among the eight.
    scores = score_views(Corner(), images.float())
    assert torch.allclose(scores[:, 1], torch.tensor(0.25), atol=1e-6)
    assert torch.allclose(scores.sum(dim=1), torch.tensor(1.0))


class Says(nn.Module):
    """Gives every pixel the same class probabilities."""

    def __init__(self, *fractions):
        super().__init__()
        self.fractions = torch.tensor(fractions)

    def forward(self, values):
        logits = self.fractions.log().view(1, -1, 1, 1)
        return logits.expand(len(values), -1, *values.shape[2:])


@pytest.mark.parametrize("average_views", [False, True])
def test_an_ensemble_averages_probabilities_neither_votes_nor_logits(average_views):
    # Two of three vote for class 1, and so does the mean of their logits; not that of the softmax.
    members = [Says(0.9, 0.1), Says(0.4, 0.6), Says(0.001, 0.999), Says(0.8, 0.2)]
    images, masks = numbered(2)
    for chosen, wanted in (([0, 1], 0), ([1, 2], 1), ([0, 3, 2], 0), ([2], 1)):
        models = [Segmenter(members[k], (0.0,) * 3, (1.0,) * 3) for k in chosen]
        loader = DataLoader(TensorDataset(images, masks), 2)
        fabric = make_fabric("cpu", "fp32")
        for _, _, predictions, confidence in predict(
            fabric, Predictor(models, average_views), loader
        ):
            assert (predictions == wanted).all()
            sure = np.mean([members[k].fractions[wanted] for k in chosen])
            assert torch.allclose(confidence, torch.tensor(sure, dtype=torch.float32), atol=1e-6)


def test_of_equal_classes_the_first_is_predicted_as_by_argmax():
    scores = torch.randint(0, 4, (2, 9, 64, 64)).float()
    assert torch.equal(scores.max(dim=1).indices, scores.argmax(dim=1))
    images, masks = numbered(1)
    model = Segmenter(Says(0.2, 0.4, 0.4), (0.0,) * 3, (1.0,) * 3)
    assert (predict_all(model, DataLoader(TensorDataset(images, masks), 1))[2] == 1).all()


def test_nothing_to_predict_gives_no_batch():
    images, masks = numbered(0)
    model = Segmenter(Thresholds(), (0.0,) * 3, (1.0,) * 3)
    loader = DataLoader(TensorDataset(images, masks), 2)
    assert list(predict(make_fabric("cpu", "fp32"), Predictor([model]), loader)) == []
