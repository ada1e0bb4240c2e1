"""Previews: what the network makes of a few validation tiles, epoch by epoch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pointcover.figures import Rgb, spread_evenly, view_clicks, view_image, view_mask
from pointcover.labels import ClassTable
from pointcover.loading import TileDataset


class Previews:
    """Some tiles of a dataset, the same ones each time, and how they were seen last.

    Only one epoch's predictions are held.
    """

    def __init__(
        self, tiles: TileDataset, classes: ClassTable, device: torch.device, count: int
    ) -> None:
        """Read so many tiles, spread evenly.

        Args:
            tiles: with sparse masks.
            classes: of the masks.
            device: where networks compute.
            count: how many tiles; fewer where there are not so many.
        """
        self._classes, self._device = classes, device
        places = spread_evenly(range(len(tiles)), count)
        self._ids = [tiles.tiles[place].id for place in places]
        self._shown = [tiles[place] for place in places]
        self._predictions: list[Tensor] = []

    @torch.inference_mode()
    def look(self, network: Callable[[Tensor], Tensor]) -> None:
        """Predict the tiles by a network in evaluation mode: (1, bands, H, W) → logits."""
        self._predictions = [
            network(image[np.newaxis].to(self._device)).argmax(dim=1)[0].to("cpu", torch.uint8)
            for image, _ in self._shown
        ]

    def take(self) -> dict[str, Rgb]:
        """Give image, sparse labels and prediction side by side, by tile id, once for each look.

        Returns:
            (H, 3 W, 3) pictures; none if nobody has looked since.
        """
        pictures = {
            name: np.concatenate(
                [
                    view_image(image.numpy()),
                    view_clicks(mask.numpy(), self._classes),
                    view_mask(prediction.numpy(), self._classes),
                ],
                axis=1,
            )
            for name, (image, mask), prediction in zip(
                self._ids, self._shown, self._predictions, strict=False
            )
        }
        self._predictions = []
        return pictures
