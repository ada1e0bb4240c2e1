"""Compute a convolutional encoder stripe by stripe: the same values, in less memory and time.

Inside its blocks an EfficientNet has six times the channels that they return. One block after the
other is computed, in stripes of rows that stay small, each with the rows around it on which its
values depend. Nothing else is kept than what one block gives to the next.
"""

import copy
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

VALUES: Final = 1 << 23
"""About how many values the widest layer of a stage has in a stripe."""

KIND: Final = "EfficientNetFeatures"
"""timm's class of EfficientNets that return levels: a stem, then blocks one after the other."""

LOCAL: Final = (nn.Conv2d, nn.BatchNorm2d, nn.Identity, nn.ReLU, nn.ReLU6)
"""Layers whose values depend only on cells nearby, in evaluation mode."""

ReadRows = Callable[[int, int], Tensor]
"""Rows of what a stage is applied to, (N, channels, rows, W), from the first and the last + 1."""


class Stage(NamedTuple):
    """Layers of an encoder that are applied one after the other."""

    layers: nn.Module
    stride: int
    """Rows of the input for each row of the output."""
    halo: int
    """Rows above and below a stripe of the input on which its values depend; a multiple of the
    stride."""
    channels: int
    """Of the widest layer."""
    is_level: bool
    """Whether the encoder returns the output."""

    @classmethod
    def of(cls, layers: nn.Module, *, is_level: bool) -> "Stage":
        """Determine the stride and the halo."""
        stride, halo, channels = 1, 0, 1
        for layer in layers.modules():
            if isinstance(layer, nn.Conv2d):
                halo += layer.kernel_size[0] // 2 * layer.dilation[0] * stride
                stride *= layer.stride[0]
                channels = max(channels, layer.in_channels, layer.out_channels)
        return cls(layers, stride, -(-halo // stride) * stride, channels, is_level)

    def apply(self, read: ReadRows, height: int) -> Tensor:
        """Apply the layers in stripes to an input of this height, a multiple of the stride."""
        width = read(0, self.stride).shape[3]
        rows = max(1, VALUES // (self.channels * width * self.stride)) * self.stride
        output: Tensor | None = None
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(0, top - self.halo), min(bottom + self.halo, height)
            stripe = read(first, last).contiguous(memory_format=torch.channels_last)
            values = self.layers(stripe)
            if output is None:
                shape = *values.shape[:2], height // self.stride, values.shape[3]
                output = torch.empty(shape, dtype=values.dtype, memory_format=torch.channels_last)
            begin, end = ((row - first) // self.stride for row in (top, bottom))
            place = slice(top // self.stride, bottom // self.stride)
            output[:, :, place] = values[:, :, begin:end]
        assert output is not None
        return output


class StripedEncoder:
    """An encoder of timm as stages. Batch normalisation is part of the convolutions before it."""

    def __init__(self, encoder: nn.Module) -> None:
        """Keep the encoder, whose weights may change later."""
        self._encoder: Any = encoder
        self._version: list[tuple[int, int]] = []
        self._stages: list[Stage] = []

    @staticmethod
    def fits(encoder: nn.Module) -> bool:
        """Return whether an encoder can be computed in stripes."""
        if type(encoder).__name__ != KIND or encoder.feature_hooks is not None:
            return False
        leaves = (layer for layer in encoder.modules() if not list(layer.children()))
        return all(isinstance(layer, LOCAL) for layer in leaves)

    def encode(self, read: ReadRows, height: int) -> list[Tensor]:
        """Compute the levels of an image, channels last.

        Args:
            read: rows of the image.
            height: of the image.
        """
        levels = []
        for stage in self._fused():
            values = stage.apply(read, height)
            height = values.shape[2]
            read = _rows_of(values)
            if stage.is_level:
                levels.append(values)
        return levels

    def _fused(self) -> list[Stage]:
        """Return the stages, made anew where weights were loaded since."""
        encoder = self._encoder
        version = [(each.data_ptr(), each._version) for each in encoder.state_dict().values()]
        if version != self._version:
            levels = encoder._stage_out_idx
            stem = [encoder.conv_stem, encoder.bn1]
            if 0 in levels:
                parts = [nn.Sequential(*stem), *encoder.blocks]
            else:  # the output of the stem is the largest of all: it is not kept whole
                parts = [nn.Sequential(*stem, encoder.blocks[0]), *encoder.blocks[1:]]
            first = 0 if 0 in levels else 1
            self._stages = [
                Stage.of(_fuse(part), is_level=number in levels)
                for number, part in enumerate(parts, first)
            ]
            self._version = version
        return self._stages


def _fuse(layers: nn.Module) -> nn.Module:
    """Return a copy in which each batch normalisation is part of the convolution before it."""
    layers = copy.deepcopy(layers)
    for parent in list(layers.modules()):
        before: tuple[str, nn.Conv2d] | None = None
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d):
                before = name, layer
            elif isinstance(layer, nn.BatchNorm2d) and before:
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], layer))
                setattr(parent, name, getattr(layer, "act", nn.Identity()))
                before = None
    return layers.to(memory_format=torch.channels_last)


def _rows_of(values: Tensor) -> ReadRows:
    return lambda first, last: values[:, :, first:last]
