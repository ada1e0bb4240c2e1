"""Segmenter: a network with the statistics that normalise its input."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

STRIDE_PX: Final = 32
"""Height and width of images are multiples of this: the stride of the deepest features."""

MAX_BANDS: Final = 16
"""A convolution of at most so many input channels is taken for one that reads the image's bands."""


class Segmenter(nn.Module):
    """A network together with the mean and standard deviation that normalise its input.

    Both are buffers, so they are saved with the weights: with another normalisation than in
    training, predictions are wrong.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a network; mean and std are by band, in units of the tiles (0 to 255)."""
        super().__init__()
        self.network = network
        self.layout = _layout_of(network)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Score images: (B, bands, H, W) uint8 → logits (B, C, H, W).

        Raises:
            ValueError: H or W is no multiple of 32, the number of bands is not that of the
                statistics, or a batch in training has one image.
        """
        self._check(images)
        normalised = (images.float() - self.mean) / self.std
        logits: Tensor = self.network(normalised.contiguous(memory_format=self.layout))
        return logits

    def _check(self, images: Tensor) -> None:
        batch, bands, height, width = images.shape
        if bands != self.mean.numel():
            raise ValueError(
                f"got images of {bands} band(s), but the model is of {self.mean.numel()}: give it "
                f"the bands that it was trained with"
            )
        if height % STRIDE_PX or width % STRIDE_PX:
            raise ValueError(
                f"got images of {height} × {width} px, wanted multiples of {STRIDE_PX}: read them "
                f"with their surroundings, or pad them"
            )
        if self.training and batch < 2:
            raise ValueError(
                "got a batch of one image to learn from, wanted two or more for batch "
                "normalisation: raise train.batch_size"
            )


def _layout_of(network: nn.Module) -> torch.memory_format:
    """Return the memory format of images and weights: channels last, which is faster, where safe.

    torch 2.15 writes beyond its memory (on a CPU, and the process aborts) in the backward pass of a
    first convolution of 1 × 1 px with a stride above 1, as MobileOne, RepVGG and FastViT have.
    """
    is_risky = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels <= MAX_BANDS
        for layer in network.modules()
    )
    return torch.contiguous_format if is_risky else torch.channels_last
