"""What a semi-supervised term of the loss is, and what it is computed from."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pointcover.networks.segmenter import Segmenter


@dataclass(frozen=True)
class TermInput:
    """A batch and the networks, of which a term takes what it needs."""

    images: Tensor
    """(B, bands, H, W) uint8."""
    masks: Tensor
    """(B, H, W) uint8, IGNORE_INDEX where unlabelled."""
    logits: Tensor
    """(B, C, H, W), of the forward pass for the loss on labelled pixels. Only for terms without a
    forward pass of their own."""
    model: Segmenter
    network: Any
    """The model as Fabric runs it: the student."""
    teacher: nn.Module
    """The EMA weights, in evaluation mode."""
    generator: torch.Generator
    """Seeded by the step, on the CPU."""


class Term(Protocol):
    """A term of the loss on unlabelled pixels. All terms begin after the warm-up."""

    has_own_pass: bool
    """Whether `loss` runs the network again. Then its backward pass is separate too, so that
    memory holds one graph at a time."""

    @property
    def weight(self) -> float:
        """Weight beside the loss on labelled pixels; 0 leaves the term out."""

    def loss(self, batch: TermInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a batch, unweighted, and detached values to be recorded."""


def has_data(images: Tensor) -> Tensor:
    """Return which pixels have a value above 0, (B, bands, H, W) → (B, H, W) bool.

    The tile stage writes 0 in every band where there is no data.
    """
    return images.amax(dim=1) > 0
