"""Blocks of pixel features of raw images: dense, at single pixels, or as a linear layer of them."""

from collections.abc import Sequence
from typing import Final, Protocol

import timm
import torch
from timm.layers import Conv2dSame  # type: ignore[attr-defined, unused-ignore]
from torch import Tensor, nn
from torch.nn import functional

from pointcover.features.encoder_pyramid import EncoderPyramid
from pointcover.features.filter_bank import FilterBank
from pointcover.features.local_statistics import LocalStatistics
from pointcover.networks.pixel_classifiers.settings import (
    BlockName,
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from pointcover.networks.vision_transformer import VisionTransformer, is_vision_transformer

WHITE: Final = 255.0
"""The largest value of a band of raw images."""


class PixelFeatures(nn.Module):
    """A filter bank, local statistics, the levels of a frozen encoder, or several of them.

    Images are raw: 0 to 255, of any type.
    """

    def __init__(self, settings: PixelFeatureSettings, bands: int) -> None:
        """Build the blocks; an encoder has random weights until its own are loaded."""
        super().__init__()
        self.settings = settings
        self.bands = bands
        self.filter_bank = FilterBank(settings.filter_bank) if settings.filter_bank else None
        self.local_statistics = (
            LocalStatistics(settings.local_statistics) if settings.local_statistics else None
        )
        encoder = settings.encoder
        self.encoder = _build_encoder(encoder) if encoder else None
        self.encoder_bands = [band - 1 for band in encoder.bands] if encoder else []

    def counts(self, blocks: Sequence[BlockName]) -> tuple[int, ...]:
        """Return how many features each of these blocks has."""
        return tuple(self._count(block) for block in blocks)

    @property
    def count(self) -> int:
        """Number of features of a pixel."""
        return sum(self.counts(self.settings.blocks))

    @property
    def alignment_px(self) -> int:
        """Windows are read from multiples of this on."""
        return self.encoder.alignment_px if self.encoder else 1

    @property
    def margin_px(self) -> int:
        """Pixels to read around a window, a multiple of the alignment."""
        return self.margin_with(0)

    def margin_with(self, radius_px: int) -> int:
        """Return the pixels to read around a window if scores are averaged within a radius.

        The margin of an encoder stays: it is not the last pixel on which a feature depends.
        """
        blocks = (self.filter_bank, self.local_statistics)
        parts = [block.margin_px + radius_px for block in blocks if block]
        if self.encoder:
            parts.append(self.encoder.margin_px)
        return -(-max(parts) // self.alignment_px) * self.alignment_px

    @torch.no_grad()
    def at(self, image: Tensor, rows: Tensor, cols: Tensor) -> dict[BlockName, Tensor]:
        """Compute the features of some pixels of one image.

        Args:
            image: (bands, H, W), raw.
            rows: (P,) integers.
            cols: (P,) integers.

        Returns:
            (P, features) float32 by the name of the block.
        """
        found: dict[BlockName, Tensor] = {}
        scaled = image.float() / WHITE
        if self.filter_bank:
            found["filter_bank"] = self.filter_bank(scaled[None])[0][:, rows, cols].T.float()
        if self.local_statistics:
            found["local_statistics"] = self.local_statistics(scaled[None])[0][:, rows, cols].T
        if self.encoder:
            found["encoder"] = self.encoder.at(scaled[self.encoder_bands], rows, cols)
        return found

    def view(self, images: Tensor) -> "FeatureView":
        """Return what heads see of raw images (N, bands, H, W); nothing is computed yet."""
        return FeatureView(self, self.scale(images))

    def scale(self, images: Tensor) -> Tensor:
        """Scale raw images to 0..1."""
        return images.float() / WHITE

    def _count(self, block: BlockName) -> int:
        if block == "filter_bank" and self.filter_bank:
            return len(self.filter_bank.names(self.bands))
        if block == "local_statistics" and self.local_statistics:
            return len(self.local_statistics.names(self.bands))
        if block == "encoder" and self.encoder:
            return self.encoder.count
        raise ValueError(
            f"got the block {block!r}, wanted one of {list(self.settings.blocks)}: choose another "
            "input of the head, or add these features"
        )


class Features(Protocol):
    """What heads read: features of all pixels of some images, block by block."""

    def dense(self, block: BlockName) -> Tensor:
        """Return a block for all pixels: (N, features, H, W)."""

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer to a block: weight (K, features), bias (K,) → (N, K, H, W)."""


class FeatureView:
    """The features of a batch of images, each block computed when a head first needs it."""

    def __init__(self, features: PixelFeatures, images: Tensor) -> None:
        """Keep the images (N, bands, H, W) in 0..1."""
        self._features = features
        self._images = images
        self._dense: dict[BlockName, Tensor] = {}

    def dense(self, block: BlockName) -> Tensor:
        """Compute a block for all pixels: (N, features, H, W)."""
        if block not in self._dense:
            features = self._features
            if block == "filter_bank" and features.filter_bank:
                # Trees compare features with thresholds: no lower precision than in the fit.
                with torch.autocast(self._images.device.type, enabled=False):
                    self._dense[block] = features.filter_bank(self._images)
            elif block == "local_statistics" and features.local_statistics:
                self._dense[block] = features.local_statistics(self._images)
            elif block == "encoder" and features.encoder:
                self._dense[block] = features.encoder(self._images[:, features.encoder_bands])
            else:
                features.counts([block])
        return self._dense[block]

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer to a block: weight (K, features), bias (K,) → (N, K, H, W)."""
        encoder = self._features.encoder
        if block == "encoder" and encoder and block not in self._dense:
            images = self._images[:, self._features.encoder_bands]
            return encoder.project(images, weight, bias)
        features = self.dense(block).float()
        return torch.einsum("kf,nfhw->nkhw", weight, features) + bias.view(1, -1, 1, 1)


def _build_encoder(settings: EncoderBlockSettings) -> EncoderPyramid:
    """Build the encoder with random weights that do not depend on what was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            encoder: nn.Module
            if is_vision_transformer(settings.name):
                encoder = VisionTransformer(settings.name, len(settings.bands), settings.blocks)
            else:
                encoder = timm.create_model(settings.name, pretrained=False, features_only=True)
        except (RuntimeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"got the encoder {settings.name!r}, wanted a vision transformer of timm, or a "
                f"model that has features_only ({error}): try tf_efficientnet_lite0"
            ) from None
    _pad_statically(encoder)
    return EncoderPyramid(encoder, settings.mean, settings.std, settings.features)


class _EvenConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's padding, for even heights and widths alone.

    timm computes this padding from the size, which the exporter to ONNX with unknown sizes does not
    finish within minutes. A pyramid pads its images, so that all levels it uses have even sizes.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Pad, more on the right and at the bottom, and convolve."""
        rows, cols = (
            dilation * (kernel - 1) + 1 - stride
            for kernel, stride, dilation in zip(
                self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        padding = (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2)
        return functional.conv2d(
            functional.pad(images, padding),
            self.weight,
            self.bias,
            self.stride,
            0,
            self.dilation,
            self.groups,
        )


def _pad_statically(module: nn.Module) -> None:
    """Have timm's convolutions of padding "same" use a padding that does not depend on the size."""
    for layer in module.modules():
        if isinstance(layer, Conv2dSame):
            layer.__class__ = _EvenConv2d  # type: ignore[assignment]
