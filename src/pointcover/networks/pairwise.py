"""Pairs of neighbouring pixels and their weights, for conditional random fields (CRFs)."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor


class Neighbours(NamedTuple):
    """All pairs of pixels at one offset."""

    here: tuple[Any, ...]
    """An index into (B, C, H, W) that takes the first pixel of each pair."""
    there: tuple[Any, ...]
    """An index that takes the second."""
    closeness: float
    """exp(-d²/2s²), where d is the distance of the pair, pixels."""
    likeness: Tensor
    """Closeness times exp(-c²/2t²), (B, 1, ...) of 0 to 1, where c is the colour difference."""


def each_offset(
    images: Tensor, *, radius_px: int, sigma_px: float, sigma_colour: float
) -> Iterator[Neighbours]:
    """Yield each pair of pixels at most a radius apart along each axis, once, offset by offset.

    Pairs have no direction, so half of the offsets are enough.

    Args:
        images: (B, bands, H, W) float32.
        radius_px: at least 1.
        sigma_px: s, above 0.
        sigma_colour: t, above 0, in the unit of the images.
    """
    height, width = images.shape[2:]
    colours = images / (math.sqrt(2) * sigma_colour)
    for down in range(min(radius_px, height - 1) + 1):
        for right in range(-radius_px, radius_px + 1):
            if (down == 0 and right <= 0) or abs(right) >= width:
                continue
            here = (..., slice(height - down), slice(max(0, -right), width - max(0, right)))
            there = (..., slice(down, None), slice(max(0, right), width - max(0, -right)))
            far = (down**2 + right**2) / (2 * sigma_px**2)
            apart = (colours[here] - colours[there]).square_().sum(dim=1, keepdim=True)
            apart += far
            yield Neighbours(here, there, math.exp(-far), apart.neg_().exp_())
