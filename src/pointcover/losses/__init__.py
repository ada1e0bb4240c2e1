"""Losses on sparse masks: computed on the labelled pixels only.

Each gives a sum and the weight it is to be divided by, since the batch over which the mean is to
be taken may be spread over processes or over accumulated steps; `mean_over_ranks` divides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX

Loss = Callable[[Tensor, Tensor], Tensor]


class LossSum(NamedTuple):
    """A loss before the division: scalars in float32, `total` attached to the graph."""

    total: Tensor
    weight: Tensor


@dataclass(frozen=True)
class PartialLoss:
    """Cross-entropy or focal loss over the labelled pixels, Σ weight · loss / Σ weight.

    The labelled logits are gathered first, so time and memory go with the labels, not with the
    pixels. Without labels the result is 0 with zero gradients, never NaN, and still attached to
    the graph, as gradient scalers and DDP need it.

    Attributes:
        gamma: how much less pixels that are right already count: the loss is
            (1 - p)^gamma · cross-entropy with p of the labelled class (Lin et al. 2017, "Focal
            Loss for Dense Object Detection"); 0 is cross-entropy.
        class_weights: one weight a class, above 0, or None for 1 each. As in torch, a labelled
            pixel's weight also counts in what is divided by.
        label_smoothing: the share of the label that is spread over all classes, 0 to below 1.
    """

    gamma: float = 0.0
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that no loss can have.

        Raises:
            ValueError: gamma, class weights or label smoothing out of bounds.
        """
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"gamma is {self.gamma}: give 0 (cross-entropy) or more")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}: give 0 to below 1")
        if any(not (math.isfinite(w) and w > 0) for w in self.class_weights or ()):
            raise ValueError(f"class_weights are {self.class_weights}: give finite ones above 0")

    def __call__(self, logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """Average over the labelled pixels of this batch; 0 where there are none.

        Args:
            logits: (B, C, H, W), any float type; the loss itself is computed in float32.
            mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
            weights: (B, H, W) of at least 0, how much each labelled pixel counts; None is 1 each.

        Returns:
            A scalar, float32.
        """
        total, weight = self.sum(logits, mask, weights)
        return total / _divisor(weight)

    def sum(self, logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> LossSum:
        """Sum over the labelled pixels; arguments as of a call.

        Raises:
            ValueError: shapes do not fit each other, or the number of class weights the logits.
        """
        classes = logits.shape[1]
        wanted = (logits.shape[0], *logits.shape[2:])
        for name, given in (("mask", mask), ("weights", weights)):
            if given is not None and given.shape != wanted:
                raise ValueError(
                    f"{name} is {tuple(given.shape)}, but the logits want {wanted}: pass it "
                    "at the size of the logits"
                )
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} values for {classes} classes: "
                "give one a class"
            )
        # Places are looked up once: a boolean index would do it for logits and mask each.
        places = torch.nonzero(mask != IGNORE_INDEX, as_tuple=True)
        tile, row, column = places
        chosen = logits[tile, :, row, column].float()
        labels = mask[places].long()
        by_class = self._class_weights(logits.device)
        losses = functional.cross_entropy(
            chosen, labels, weight=by_class, label_smoothing=self.label_smoothing, reduction="none"
        )
        if self.gamma > 0:
            right = functional.log_softmax(chosen, dim=1).gather(1, labels[:, None])[:, 0]
            # The power's slope at 0 is infinite below gamma 1: 0 · inf would be a NaN gradient
            wrong = (-torch.expm1(right)).clamp_min(torch.finfo(torch.float32).tiny)
            losses = wrong**self.gamma * losses
        return LossSum(
            (losses if weights is None else losses * weights[places].float()).sum(),
            _labelled_weight(labels, by_class, None if weights is None else weights[places]),
        )

    def weight(self, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """Sum what a batch will be divided by, without its logits; arguments as of a call."""
        places = torch.nonzero(mask != IGNORE_INDEX, as_tuple=True)
        return _labelled_weight(
            mask[places].long(),
            self._class_weights(mask.device),
            None if weights is None else weights[places],
        )

    def _class_weights(self, device: torch.device) -> Tensor | None:
        if self.class_weights is None:
            return None
        return torch.tensor(self.class_weights, dtype=torch.float32, device=device)


def mean_over_ranks(part: LossSum, weight: Tensor | None = None) -> Tensor:
    """Divide such that DDP's averaged gradients are those of the mean over all ranks' labels.

    DDP divides the sum of the ranks' gradients by their number, so each rank's sum is multiplied
    by that number and divided by the weight of all ranks. A mean of each rank's own would let the
    clicks of a rank with few count more. The average of the returned values over the ranks is the
    loss. Every rank must call this equally often, those without labels too.

    To accumulate gradients, give each part the weight of the whole accumulated batch, and divide
    by the number of parts nowhere else.

    Args:
        part: of this rank and step.
        weight: what this rank divides by; None is the weight of `part` itself.

    Returns:
        A scalar, float32, attached to the graph.
    """
    everything = (part.weight if weight is None else weight).detach().clone()
    ranks = 1
    if distributed.is_available() and distributed.is_initialized():
        ranks = distributed.get_world_size()
        distributed.all_reduce(everything)
    return part.total * ranks / _divisor(everything)


def labelled_pixels(mask: Tensor) -> Tensor:
    """Count the labelled pixels of a mask as a scalar on its device."""
    return torch.count_nonzero(mask != IGNORE_INDEX)


def _divisor(weight: Tensor) -> Tensor:
    """Where nothing has weight the sum is 0, and stays so."""
    return torch.where(weight > 0, weight, torch.ones_like(weight))


def _labelled_weight(labels: Tensor, by_class: Tensor | None, by_pixel: Tensor | None) -> Tensor:
    weight = torch.ones(len(labels), device=labels.device) if by_class is None else by_class[labels]
    return (weight if by_pixel is None else weight * by_pixel.float()).sum()


partial_cross_entropy: Final = PartialLoss()

LOSSES: Final[dict[str, PartialLoss]] = {
    "cross_entropy": partial_cross_entropy,
    "focal": PartialLoss(gamma=2.0),
}
"""Defaults; `dataclasses.replace` gives one other settings."""
