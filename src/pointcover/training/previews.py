"""Previews: predictions of a few validation tiles, epoch by epoch."""

import numpy as np
import torch
from torch import Tensor

from pointcover.figures import Rgb, spread_evenly, view_clicks, view_image, view_mask
from pointcover.labels import ClassTable
from pointcover.tileset.dataset import TileDataset


class Previews:
    """Some tiles of a dataset, the same ones each time, and their last predictions.

    Only one epoch's predictions are held.
    """

    def __init__(self, tiles: TileDataset, classes: ClassTable, count: int) -> None:
        """Read some tiles, spread evenly over the dataset.

        Args:
            tiles: with sparse masks.
            classes: of the masks.
            count: number of tiles; all of them where there are fewer.
        """
        self._tiles, self._classes = tiles, classes
        self._shown = {place: tiles[place] for place in spread_evenly(range(len(tiles)), count)}
        self._predictions: dict[int, Tensor] = {}

    def watch(self, first: int, predicted: Tensor) -> None:
        """Keep the predictions of shown tiles; see `Watch`."""
        for place in self._shown:
            if first <= place < first + len(predicted):
                self._predictions[place] = predicted[place - first].to("cpu", torch.uint8)

    def take(self) -> dict[str, Rgb]:
        """Return image, sparse labels and prediction side by side by tile id, and forget them.

        Returns:
            (H, 3 W, 3) pictures; none if nothing was predicted since the last call.
        """
        pictures = {
            self._tiles.tiles[place].id: np.concatenate(
                [
                    view_image(image.numpy()),
                    view_clicks(mask.numpy(), self._classes),
                    view_mask(self._predictions[place].numpy(), self._classes),
                ],
                axis=1,
            )
            for place, (image, mask) in self._shown.items()
            if place in self._predictions
        }
        self._predictions = {}
        return pictures
