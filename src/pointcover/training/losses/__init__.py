"""Losses on sparse masks: computed on the labelled pixels only.

Each gives a mean, and `weight` what it was divided by: so a mean over accumulated batches, or over
processes, is the sum of the parts' means, each times its share of the whole weight.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX


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

    def __call__(self, logits: Tensor, mask: Tensor, labelled: int | None = None) -> Tensor:
        """Average over the labelled pixels of this batch; 0 where there are none.

        Args:
            logits: (B, C, H, W), any float type; the loss itself is computed in float32.
            mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
            labelled: how many labelled pixels there are, where that is known: a GPU is not waited
                for then.

        Returns:
            A scalar, float32.

        Raises:
            ValueError: shapes do not fit each other, or the number of class weights the logits.
        """
        self._check(logits, mask)
        # Places are looked up once: a boolean index would do it for logits and mask each.
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
            # The power's slope at 0 is infinite below gamma 1: 0 · inf would be a NaN gradient
            wrong = (-torch.expm1(right)).clamp_min(torch.finfo(torch.float32).tiny)
            losses = wrong**self.gamma * losses
        return losses.sum() / as_divisor(_labelled_weight(labels, by_class))

    def weight(self, mask: Tensor, labelled: int | None = None) -> Tensor:
        """Sum what the mean of a batch is divided by, without its logits; arguments as of a call.

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


@cache  # made anew it would be a copy that waits for the device
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def as_divisor(weight: Tensor) -> Tensor:
    """Return what to divide by: the weight, or 1 where nothing has any, as the sum is 0 there."""
    return torch.where(weight > 0, weight, torch.ones_like(weight))


def _labelled_weight(labels: Tensor, by_class: Tensor | None) -> Tensor:
    if by_class is None:
        return torch.full((), len(labels), device=labels.device)
    return by_class[labels].sum()


partial_cross_entropy: Final = PartialLoss()

LOSSES: Final[dict[str, PartialLoss]] = {
    "cross_entropy": partial_cross_entropy,
    "focal": PartialLoss(gamma=2.0),
}
"""Defaults; `make_loss` gives one other settings."""


def balanced_weights(labelled: Sequence[int]) -> tuple[float, ...]:
    """Weigh classes so that the labels of each count as much as those of any other.

    As scikit-learn's `compute_class_weight("balanced", …)`: all labels over classes times those of
    the class. One without a label has 1.

    Args:
        labelled: pixels by class.
    """
    total, present = sum(labelled), sum(count > 0 for count in labelled)
    return tuple(total / (present * count) if count else 1.0 for count in labelled)


def make_loss(
    name: str,
    names: Sequence[str],
    *,
    gamma: float | None = None,
    class_weights: Mapping[str, float] | None = None,
    label_smoothing: float = 0.0,
    balance: Sequence[int] | None = None,
) -> PartialLoss:
    """Return a loss of LOSSES with other settings.

    Args:
        name: a key of LOSSES.
        names: of the classes, in the order of their ids.
        gamma: of focal; None leaves the default.
        class_weights: by name; a class that is not named has 1.
        label_smoothing: see PartialLoss.
        balance: labelled pixels by class, which `balanced_weights` evens out; class weights come
            on top.

    Raises:
        ValueError: a class weight names no class.
    """
    unknown = sorted(set(class_weights or {}) - set(names))
    if unknown:
        raise ValueError(
            f"class_weights name {', '.join(unknown)}, wanted names among {', '.join(names)}"
        )
    weights = tuple(class_weights.get(one, 1.0) for one in names) if class_weights else None
    if balance is not None:
        evened = balanced_weights(balance)
        weights = tuple(a * b for a, b in zip(weights, evened, strict=True)) if weights else evened
    chosen = LOSSES[name]
    return replace(
        chosen,
        gamma=chosen.gamma if gamma is None else gamma,
        class_weights=weights,
        label_smoothing=label_smoothing,
    )
