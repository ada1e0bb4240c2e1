"""Inference: predictions of a network, tile by tile."""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from pointcover.loading import Batch
from pointcover.models import Segmenter


@torch.inference_mode()
def predict(
    fabric: Fabric, model: Segmenter, tiles: DataLoader[Batch]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Predict whole tiles.

    Yields:
        images (B, bands, H, W) uint8, masks (B, H, W) uint8 and predictions (B, H, W) uint8, all
        on the device of `fabric`.
    """
    network = fabric.setup_module(model)
    network.eval()
    for images, masks in fabric.setup_dataloaders(tiles, use_distributed_sampler=False):
        yield images, masks, network(images).argmax(dim=1).to(torch.uint8)
