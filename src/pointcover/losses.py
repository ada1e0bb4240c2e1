"""Losses on sparse masks: computed on the labelled pixels only."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX

Loss = Callable[[Tensor, Tensor], Tensor]


def partial_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of a batch; 0 where there are none.

    The labelled logits are gathered first, so time and memory go with the labels, not with the
    pixels. Without labels the result is 0 with zero gradients, never NaN, and still attached to
    the graph, as gradient scalers and DDP need it.

    Args:
        logits: (B, C, H, W), any float type; the loss itself is computed in float32.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.

    Returns:
        A scalar, float32.
    """
    # Places are looked up once: a boolean index would do it for logits and mask each.
    tile, row, column = torch.nonzero(mask != IGNORE_INDEX, as_tuple=True)
    chosen = logits[tile, :, row, column].float()
    total = functional.cross_entropy(chosen, mask[tile, row, column].long(), reduction="sum")
    return total / max(1, len(tile))


LOSSES: Final[dict[str, Loss]] = {
    "cross_entropy": partial_cross_entropy,
}


def labelled_pixels(mask: Tensor) -> Tensor:
    """Count the labelled pixels of a mask as a scalar on its device."""
    return torch.count_nonzero(mask != IGNORE_INDEX)
