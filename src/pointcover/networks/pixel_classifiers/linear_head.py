"""A logistic regression or a perceptron on standardised pixel features."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.networks.pixel_classifiers.pixel_features import Features, PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName, LinearHeadSettings

NEVER: Final = -1e4
"""Logit of a class that had no label."""

_CHUNK: Final = 1 << 14
"""Pixels that are standardised at once, so that they stay in a processor's cache."""


class LinearHead(nn.Module):
    """Standardise features and apply a linear layer, or two with rectified units between them.

    Standardised filters and local statistics are clipped, so that no pixel of other light has
    logits beyond all others. A linear layer of the unclipped features of an encoder is applied to
    its levels before they are enlarged.
    """

    def __init__(self, settings: LinearHeadSettings, features: PixelFeatures, classes: int) -> None:
        """Make a head whose logits are zero."""
        super().__init__()
        self.settings = settings
        for block, count in zip(settings.inputs, features.counts(settings.inputs), strict=True):
            self.register_buffer(f"{block}_mean", torch.zeros(count))
            self.register_buffer(f"{block}_std", torch.ones(count))
            self.register_buffer(f"{block}_weight", torch.zeros(settings.hidden or classes, count))
        self.register_buffer("bias", torch.zeros(settings.hidden or classes))
        if settings.hidden:
            self.register_buffer("output_weight", torch.zeros(classes, settings.hidden))
            self.register_buffer("output_bias", torch.zeros(classes))

    def forward(self, view: Features) -> Tensor:
        """Score the pixels of a view: logits (N, classes, H, W)."""
        logits: Tensor | None = None
        for block in self.settings.inputs:
            mean, std, weight = (self._of(block, name) for name in ("mean", "std", "weight"))
            if block != "encoder":
                part = self._apply_clipped(view.dense(block), mean, std, weight)
            else:
                folded = weight / std
                part = view.project(block, folded, -folded @ mean)
            logits = part if logits is None else logits + part
        assert logits is not None
        logits = logits + self.get_buffer("bias").view(1, -1, 1, 1)
        if self.settings.hidden:
            weight, bias = self.get_buffer("output_weight"), self.get_buffer("output_bias")
            logits = functional.conv2d(logits.relu(), weight[:, :, None, None], bias)
        return logits

    def _apply_clipped(self, features: Tensor, mean: Tensor, std: Tensor, weight: Tensor) -> Tensor:
        """Apply the layer to (N, features, H, W), clipped."""
        count, _, height, width = features.shape
        clip = self.settings.clip
        scale, shift = (1 / std)[:, None], (-mean / std)[:, None]
        flat = features.float().flatten(2)
        if torch.compiler.is_compiling() or features.device.type != "cpu":
            return (weight @ (flat * scale + shift).clamp(-clip, clip)).view(
                count, -1, height, width
            )
        logits = flat.new_empty(count, len(weight), height * width)
        for number in range(count):
            for start in range(0, height * width, _CHUNK):
                part = flat[number, :, start : start + _CHUNK]
                part = torch.addcmul(shift, part, scale).clamp_(-clip, clip)
                torch.mm(weight, part, out=logits[number, :, start : start + _CHUNK])
        return logits.view(count, -1, height, width)

    def _of(self, block: BlockName, name: str) -> Tensor:
        return self.get_buffer(f"{block}_{name}")
