"""Pairs of neighbouring pixels, and how alike they are: what CRFs are made of."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor


class Neighbours(NamedTuple):
    """All pairs of pixels that lie some offset apart."""

    here: tuple[Any, ...]
    """An index that takes from (B, C, H, W) the first pixel of each pair,"""
    there: tuple[Any, ...]
    """and one that takes the second."""
    closeness: float
    """exp(-d²/2s²), the pixels of each pair being d px apart."""
    likeness: Tensor
    """Closeness times exp(-c²/2t²), (B, 1, ...) of 0 to 1, the pixels being c in colour apart."""


def each_offset(
    images: Tensor, *, radius_px: int, sigma_px: float, sigma_colour: float
) -> Iterator[Neighbours]:
    """Visit each pair of pixels that lie at most a radius apart along each axis, once.

    It is done by shifting, half of the offsets, as pairs have no direction.

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
