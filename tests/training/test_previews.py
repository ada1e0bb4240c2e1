"""Previews are of the same tiles each time, and what was predicted is shown once."""

import numpy as np
import torch

from pointcover.tileset.dataset import TileDataset
from pointcover.training.previews import Previews
from tests.tile_sets import CLASSES, write_easy_tiles


def test_a_prediction_is_shown_once_beside_image_and_labels(tmp_path):
    tiles = write_easy_tiles(tmp_path, 5)
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", 64)
    previews = Previews(dataset, CLASSES, 3)
    assert previews.take() == {}
    images = torch.stack([image for image, _ in dataset])
    bright = (images.float().mean(dim=1) > 125).long()
    for first in (0, 2, 4):  # in batches of two, the last of one
        previews.watch(first, bright[first : first + 2])
    pictures = previews.take()
    assert list(pictures) == [tiles[place].id for place in (0, 2, 4)]
    image, _ = dataset[2]
    shown = pictures[tiles[2].id]
    assert shown.shape == (64, 3 * 64, 3)
    assert (shown[:, :64] == image.numpy().transpose(1, 2, 0)).all()
    predicted = (image.float().mean(dim=0) > 125).numpy().astype(np.uint8)
    assert (shown[:, 128:] == CLASSES.paint(predicted)).all()
    assert previews.take() == {}


def test_there_may_be_fewer_tiles_than_are_wanted_and_none(tmp_path):
    tiles = write_easy_tiles(tmp_path, 2)
    for some in (tiles, []):
        dataset = TileDataset(some, tmp_path / "images", tmp_path / "masks", 64)
        previews = Previews(dataset, CLASSES, 4)
        previews.watch(0, torch.zeros(len(some), 64, 64))
        assert len(previews.take()) == len(some)
