"""Inference: predictions of a network, tile by tile, from one view of each or from eight."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from pointcover.loading import Batch
from pointcover.models import Segmenter


@torch.inference_mode()
def predict(
    fabric: Fabric, model: Segmenter, tiles: DataLoader[Batch], *, average_views: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Predict whole tiles.

    Args:
        fabric: device and precision.
        model: predicts.
        tiles: images and masks.
        average_views: test-time augmentation: the mean of the softmax over the eight symmetries of
            the square (D4), at eight times the cost.

    Yields:
        images (B, bands, H, W) uint8, masks (B, H, W) uint8 and predictions (B, H, W) uint8, all
        on the device of `fabric`.
    """
    network = fabric.setup_module(model)
    network.eval()
    for images, masks in fabric.setup_dataloaders(tiles, use_distributed_sampler=False):
        scores = score_views(network, images) if average_views else network(images)
        yield images, masks, scores.argmax(dim=1).to(torch.uint8)


def score_views(network: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Average a network's class probabilities over the eight symmetries of the square.

    Args:
        network: (B, bands, H, W) → logits (B, C, H, W).
        images: square: H equals W.

    Returns:
        (B, C, H, W) float32, which sum to 1 over the classes.
    """
    total: Tensor | float = 0.0
    for turns in range(4):
        for is_flipped in (False, True):
            view = torch.rot90(images, turns, (-2, -1))
            view = view.flip(-1) if is_flipped else view
            scores = network(view).float().softmax(dim=1)
            scores = scores.flip(-1) if is_flipped else scores
            total = total + torch.rot90(scores, -turns, (-2, -1))
    return torch.as_tensor(total) / 8
