"""Partial losses: computed on the labelled pixels only.

A loss returns a mean, and `weight` returns the divisor of that mean: so the mean over accumulated
batches, or over processes, is the sum of the parts' means, each times its fraction of the weight.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX


class Loss(Protocol):
    """A loss on sparse masks; arguments and results as of `PartialLoss`."""

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """One weight a class, or None for 1 each."""

    def __call__(self, logits: Tensor, mask: Tensor, labelled: int | None = None) -> Tensor:
        """Return the weighted mean over the labelled pixels."""

    def weight(self, mask: Tensor, labelled: int | None = None) -> Tensor:
        """Return the divisor of that mean."""


@dataclass(frozen=True)
class PartialLoss:
    """Cross-entropy or focal loss over the labelled pixels, Σ weight · loss / Σ weight.

    The labelled logits are gathered first, so time and memory depend on the number of labels, not
    on that of pixels. Without labels the result is 0 with zero gradients, never NaN, and still
    attached to the graph, as DDP needs it.

    Attributes:
        gamma: the loss is (1 - p)^gamma · cross-entropy with the probability p of the labelled
            class (Lin et al. 2017, "Focal Loss for Dense Object Detection"), so that pixels with
            a high p count less; 0 is cross-entropy.
        class_weights: one weight a class, above 0, or None for 1 each. As in torch, the mean is
            divided by the sum of the labelled pixels' weights.
        label_smoothing: the fraction of each label that is spread over all classes, 0 to below 1.
    """

    gamma: float = 0.0
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: gamma, class weights or label smoothing out of bounds.
        """
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"gamma is {self.gamma}: give 0 (cross-entropy) or more")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}: give 0 to below 1")
        if any(not (math.isfinite(w) and w > 0) for w in self.class_weights or ()):
            raise ValueError(f"class_weights are {self.class_weights}: give finite ones above 0")

    def __call__(self, logits: Tensor, mask: Tensor, labelled: int | None = None) -> Tensor:
        """Average over the labelled pixels of this batch; 0 where there are none.

        Args:
            logits: (B, C, H, W), any float type; the loss itself is computed in float32.
            mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
            labelled: number of labelled pixels, if known: then a GPU is not synchronised with.

        Returns:
            A scalar, float32.

        Raises:
            ValueError: shapes do not fit each other, or the number of class weights the logits.
        """
        self._check(logits, mask)
        # Looked up once: a boolean index would do it for logits and for the mask.
        places = _labelled_places(mask, labelled)
        tile, row, column = places
        chosen = logits[tile, :, row, column].float()
        labels = mask[places].long()
        by_class = self._class_weights(logits.device)
        losses = functional.cross_entropy(
            chosen,
            labels,
            weight=by_class,
            label_smoothing=self.label_smoothing,
            reduction="none" if self.gamma > 0 else "sum",
        )
        if self.gamma > 0:
            right = functional.log_softmax(chosen, dim=1).gather(1, labels[:, None])[:, 0]
            # Below gamma 1 the slope of the power at 0 is infinite: 0 · inf would be a NaN gradient
            wrong = (-torch.expm1(right)).clamp_min(torch.finfo(torch.float32).tiny)
            losses = wrong**self.gamma * losses
        return losses.sum() / as_divisor(_labelled_weight(labels, by_class))

    def weight(self, mask: Tensor, labelled: int | None = None) -> Tensor:
        """Return the divisor of the mean of a batch, without its logits; arguments as of a call.

        Returns:
            A scalar: the number of labelled pixels (int64) where each counts 1, else float32.
        """
        if self.class_weights is None:
            if labelled is None:
                return torch.count_nonzero(mask != IGNORE_INDEX)
            return torch.full((), labelled, device=mask.device)
        places = _labelled_places(mask, labelled)
        return _labelled_weight(mask[places].long(), self._class_weights(mask.device))

    def _check(self, logits: Tensor, mask: Tensor) -> None:
        classes = logits.shape[1]
        wanted = (logits.shape[0], *logits.shape[2:])
        if mask.shape != wanted:
            raise ValueError(
                f"mask is {tuple(mask.shape)}, but the logits want {wanted}: pass it at the size "
                "of the logits"
            )
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} values for {classes} classes: "
                "give one a class"
            )

    def _class_weights(self, device: torch.device) -> Tensor | None:
        if self.class_weights is None:
            return None
        return _on_device(tuple(self.class_weights), device)


def _labelled_places(mask: Tensor, labelled: int | None) -> tuple[Tensor, ...]:
    """Return tile, row and column of each labelled pixel, (N,) int64 each."""
    is_labelled = mask != IGNORE_INDEX
    if labelled is None:
        return torch.nonzero(is_labelled, as_tuple=True)
    return torch.nonzero_static(is_labelled, size=labelled).unbind(dim=1)


@cache  # a new copy to a GPU would synchronise with it
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def as_divisor(weight: Tensor) -> Tensor:
    """Return the weight as a divisor: 1 where it is 0, as the sum is 0 there too."""
    return torch.where(weight > 0, weight, torch.ones_like(weight))


def _labelled_weight(labels: Tensor, by_class: Tensor | None) -> Tensor:
    if by_class is None:
        return torch.full((), len(labels), device=labels.device)
    return by_class[labels].sum()
