"""Previews are of the same tiles each time, and each look is shown once."""

import numpy as np
import torch

from pointcover.loading import TileDataset
from pointcover.previews import Previews
from tests.tile_sets import CLASSES, write_easy_tiles


def test_a_look_is_shown_once_as_image_labels_and_prediction(tmp_path):
    tiles = write_easy_tiles(tmp_path, 5)
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", 64)
    previews = Previews(dataset, CLASSES, torch.device("cpu"), 3)
    assert previews.take() == {}

    def brightness(images: torch.Tensor) -> torch.Tensor:
        bright = images.float().mean(dim=1) - 125
        return torch.stack([-bright, bright], dim=1)

    previews.look(brightness)
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
        previews = Previews(dataset, CLASSES, torch.device("cpu"), 4)
        previews.look(lambda images: torch.zeros(1, 2, 64, 64))
        assert len(previews.take()) == len(some)
