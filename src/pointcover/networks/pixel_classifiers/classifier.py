"""A pixel classifier: raw images to logits, from pixel features and a head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointcover.features.gaussian import Part, whole_of
from pointcover.networks.pixel_classifiers.edge_smoothing import EdgeSmoothing
from pointcover.networks.pixel_classifiers.linear_head import LinearHead
from pointcover.networks.pixel_classifiers.mean_head import MeanHead
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.row_bands import RowBands
from pointcover.networks.pixel_classifiers.settings import (
    HeadSettings,
    LinearHeadSettings,
    MeanHeadSettings,
    PixelClassifierSettings,
)
from pointcover.networks.pixel_classifiers.trees_head import TreesHead


class PixelClassifier(nn.Module):
    """Score each pixel from its features. Nothing is differentiated."""

    def __init__(self, settings: PixelClassifierSettings) -> None:
        """Build the module that takes the weights of a classifier with these settings."""
        super().__init__()
        self.settings = settings
        self.features = PixelFeatures(settings.features, settings.bands)
        self.head = build_head(settings.head, self.features, settings.classes)
        self.smoothing = EdgeSmoothing(settings.smoothing) if settings.smoothing else None

    def forward(self, images: Tensor, parts: Sequence[Part] = ()) -> Tensor:
        """Score images: (N, bands, H, W) of 0 to 255, any type → logits (N, classes, H, W).

        Args:
            images: raw.
            parts: of each image, the rows and columns that are wanted; all by default. On a CPU
                logits are 0 elsewhere, which takes no time.

        Raises:
            ValueError: the bands are not as many as in the settings.
        """
        if images.shape[1] != self.settings.bands:
            raise ValueError(
                f"got images of {images.shape[1]} band(s), wanted {self.settings.bands}: give the "
                "bands that the classifier was fitted with"
            )
        if torch.compiler.is_compiling() or images.device.type != "cpu":
            logits: Tensor = self.head(self.features.view(images))
            return self.smoothing(logits, self.features.scale(images)) if self.smoothing else logits
        count, _, height, width = images.shape
        logits = torch.zeros(count, self.settings.classes, height, width)
        for number in range(count):
            part = parts[number] if parts else whole_of(images)
            logits[(number, slice(None), *part)] = self._score(images[number : number + 1], part)
        return logits

    def _score(self, image: Tensor, part: Part) -> Tensor:
        """Score a part of one image, (1, bands, H, W), on a CPU: (classes, rows, columns)."""
        height, width = image.shape[2:]
        around = self.smoothing.grow(part, height, width) if self.smoothing else part
        rows, cols = around
        bands = RowBands(self.features, image, around)
        logits = torch.empty(self.settings.classes, rows.stop - rows.start, cols.stop - cols.start)
        for band in bands:
            logits[(slice(None), *_within((band.rows, cols), around))] = self.head(band)[0]
        if self.smoothing is None:
            return logits
        colours = bands.images[(0, slice(None), *around)]
        return self.smoothing.smooth_part(logits, colours, _within(part, around))


def _within(part: Part, around: Part) -> Part:
    """Return where a part lies in a larger one."""
    rows, cols = (
        slice(one.start - wide.start, one.stop - wide.start)
        for one, wide in zip(part, around, strict=True)
    )
    return rows, cols


def build_head(settings: HeadSettings, features: PixelFeatures, classes: int) -> nn.Module:
    """Build a head without its weights."""
    if isinstance(settings, MeanHeadSettings):
        heads = [build_head(one, features, classes) for one in settings.heads]
        return MeanHead(heads, geometric=settings.average == "geometric")
    if isinstance(settings, LinearHeadSettings):
        return LinearHead(settings, features, classes)
    return TreesHead(settings, features, classes)
