"""Compute a convolutional encoder stripe by stripe: the same values, in less memory and time.

Inside its blocks an EfficientNet has six times the channels that it returns. One block after the
other is computed, each in stripes of rows that stay small, with the rows around them on which their
values depend. So nothing large is kept but what one block gives to the next.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

VALUES: Final = 1 << 23
"""About how many values the widest layer of a stage has in a stripe."""

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


def find_stages(encoder: nn.Module) -> tuple[Stage, ...]:
    """Return the stages of an encoder; none if it cannot be computed in stripes."""
    if not isinstance(encoder, EfficientNetFeatures) or encoder.feature_hooks is not None:
        return ()
    known: Any = encoder
    parts = [nn.Sequential(known.conv_stem, known.bn1), *known.blocks]
    if not all(isinstance(layer, LOCAL) for part in parts for layer in _leaves(part)):
        return ()
    levels = known._stage_out_idx
    return tuple(Stage.of(part, is_level=n in levels) for n, part in enumerate(parts))


def encode_in_stripes(stages: tuple[Stage, ...], read: ReadRows, height: int) -> list[Tensor]:
    """Apply all stages to an image; return the levels, channels last.

    Args:
        stages: of an encoder, from the first.
        read: rows of the image.
        height: of the image.
    """
    levels = []
    for stage in stages:
        values = stage.apply(read, height)
        height = values.shape[2]
        read = _rows_of(values)
        if stage.is_level:
            levels.append(values)
    return levels


def _rows_of(values: Tensor) -> ReadRows:
    return lambda first, last: values[:, :, first:last]


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if not list(layer.children())]
