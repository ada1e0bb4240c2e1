"""The segmenter: a network with the statistics that normalise its input."""

from collections.abc import Sequence
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from pointcover.features.gaussian import Part

STRIDE_PX: Final = 32
"""Height and width of images are multiples of this: the stride of the deepest features."""

MAX_BANDS: Final = 16
"""Convolutions with at most this many input channels are assumed to read the image."""


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
        self.network: Any = network
        self.layout = _layout_of(network)
        self.has_frozen_encoder = False
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

    def freeze_encoder(self) -> None:
        """Keep the weights and the batch statistics of the network's encoder as they are."""
        self.has_frozen_encoder = True
        self.network.encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.has_frozen_encoder:
            self.network.encoder.eval()
        return self

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
                "got a training batch of one image, wanted two or more for batch normalisation: "
                "raise train.batch_size"
            )


class PixelSegmenter(Segmenter):
    """A pixel classifier as a segmenter. It normalises features, not images."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a pixel classifier; mean and std are kept as those of a network are."""
        super().__init__(network, mean, std)
        self.layout = torch.contiguous_format

    def forward(self, images: Tensor, parts: Sequence[Part] = ()) -> Tensor:
        """Score images: (B, bands, H, W) uint8 → logits (B, C, H, W); errors as of a Segmenter.

        Args:
            images: raw.
            parts: of each image, the rows and columns that are wanted; all by default. Elsewhere
                logits may be 0.
        """
        self._check(images)
        logits: Tensor = self.network(images, parts)
        return logits


def _layout_of(network: nn.Module) -> torch.memory_format:
    """Return the memory format of images and weights: channels last, which is faster, if safe.

    On a CPU torch 2.15 writes out of bounds, and aborts, in the backward pass of a first
    convolution of 1 × 1 px with a stride above 1, as in MobileOne, RepVGG and FastViT.
    """
    is_risky = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels <= MAX_BANDS
        for layer in network.modules()
    )
    return torch.contiguous_format if is_risky else torch.channels_last
