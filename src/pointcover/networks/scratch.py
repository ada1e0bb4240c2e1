"""U-Net and U-Net++ as in their papers, without a pretrained encoder.

Both have five levels. A level has half the height and width of the one above it and twice its
channels. Unlike in Ronneberger's paper, convolutions are padded, so that logits have the size of
the image, and batch-normalised.
"""

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

LEVELS: Final = 5


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597).

    A contracting path and an expanding path; skip connections join them at each level.
    """

    def __init__(self, *, in_channels: int, classes: int, base_width: int) -> None:
        """Make the layers; level i has base_width · 2^i channels."""
        super().__init__()
        widths = _level_widths(base_width)
        self.pool = nn.MaxPool2d(2)
        self.contracting = nn.ModuleList(
            _convolve_twice(above, here) for above, here in pairwise([in_channels, *widths])
        )
        self.upsampling = nn.ModuleList(_upsample(below, here) for here, below in pairwise(widths))
        self.expanding = nn.ModuleList(_convolve_twice(2 * here, here) for here in widths[:-1])
        self.head = nn.Conv2d(base_width, classes, kernel_size=1)
        _draw_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Score images (B, in_channels, H, W) → logits (B, classes, H, W); H, W multiples of 16."""
        features = self.contracting[0](images)
        skips = []
        for block in self.contracting[1:]:
            skips.append(features)
            features = block(self.pool(features))
        for level in reversed(range(LEVELS - 1)):
            upsampled = self.upsampling[level](features)
            features = self.expanding[level](torch.cat([skips[level], upsampled], dim=1))
        logits: Tensor = self.head(features)
        return logits


class UNetPlusPlus(nn.Module):
    """U-Net++ (Zhou, Siddiquee, Tajbakhsh, Liang 2018, https://arxiv.org/abs/1807.10165).

    Nodes X(i, j) at level i, position j. X(i, 0) is the contracting path, as in U-Net. Each other
    node takes all earlier nodes of its level and, upsampled, X(i + 1, j - 1). Logits are those of
    X(0, 4): the paper's deep supervision is left out.
    """

    def __init__(self, *, in_channels: int, classes: int, base_width: int) -> None:
        """Make the layers; the nodes of level i have base_width · 2^i channels."""
        super().__init__()
        widths = _level_widths(base_width)
        self.pool = nn.MaxPool2d(2)
        self.contracting = nn.ModuleList(
            _convolve_twice(above, here) for above, here in pairwise([in_channels, *widths])
        )
        self.upsampling = nn.ModuleDict()
        self.nested = nn.ModuleDict()
        for level, (here, below) in enumerate(pairwise(widths)):
            for place in range(1, LEVELS - level):
                self.upsampling[f"{level}_{place}"] = _upsample(below, here)
                self.nested[f"{level}_{place}"] = _convolve_twice((place + 1) * here, here)
        self.head = nn.Conv2d(base_width, classes, kernel_size=1)
        _draw_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Score images (B, in_channels, H, W) → logits (B, classes, H, W); H, W multiples of 16."""
        nodes = [[self.contracting[0](images)]]
        for block in self.contracting[1:]:
            nodes.append([block(self.pool(nodes[-1][0]))])
        for place in range(1, LEVELS):
            for level in range(LEVELS - place):
                name = f"{level}_{place}"
                upsampled = self.upsampling[name](nodes[level + 1][place - 1])
                node = self.nested[name](torch.cat([*nodes[level], upsampled], dim=1))
                nodes[level].append(node)
        logits: Tensor = self.head(nodes[0][-1])
        return logits


def _level_widths(base_width: int) -> list[int]:
    return [base_width * 2**level for level in range(LEVELS)]


def _convolve_twice(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make two 3 × 3 convolutions, each with batch normalisation (which has the bias) and ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


def _draw_weights(network: nn.Module) -> None:
    """Initialise kernels as Ronneberger does (He et al. 2015), which keeps the variance."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
