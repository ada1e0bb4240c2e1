"""Sums over the steps of an epoch, and what they are at its end."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor


@dataclass(frozen=True)
class EpochTotals:
    """Result of the steps of an epoch."""

    loss: float
    """On labelled pixels, mean over steps."""
    terms: dict[str, float]
    """Values of the semi-supervised terms, mean over their batches."""
    largest_norm: float
    """Of the gradients before clipping; 0 without clipping."""
    batches_without_labels: int
    seconds: float
    waited_s: float
    """Waiting for the loader."""

    @property
    def numbers(self) -> dict[str, float]:
        """Return the numbers that must be finite, by their names in messages."""
        named = {name.replace("_", " "): value for name, value in self.terms.items()}
        return {"loss": self.loss, "gradient norm": self.largest_norm, **named}


class EpochSums:
    """Sums over an epoch that stay on the device until it ends."""

    def __init__(self, device: torch.device) -> None:
        """Begin with 0."""
        self._loss = torch.zeros((), device=device)
        self._unlabelled = torch.zeros((), dtype=torch.int64, device=device)
        self._norm = torch.zeros((), device=device)
        self._steps = 0
        self._terms: dict[str, list[Tensor]] = {}

    def add_step(self, labelled: Tensor) -> None:
        """Count a step, and whether the weight of its labels is 0."""
        self._steps += 1
        self._unlabelled += labelled == 0

    def add_loss(self, part: Tensor) -> None:
        """Add a batch's part of its step's loss."""
        self._loss += part

    def add_terms(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of a semi-supervised term of a batch, by name."""
        for name, value in values.items():
            self._terms.setdefault(name, []).append(value)

    def add_norm(self, norm: Tensor) -> None:
        """Add the norm of a step's gradients; NaN stays NaN."""
        self._norm = torch.maximum(self._norm, norm)

    def loss_so_far(self) -> float:
        """Return the mean over this process's steps; synchronises with a GPU."""
        return self._loss.item() / max(1, self._steps)

    def mean_loss(self, fabric: Fabric) -> float:
        """Return the mean over the steps and processes."""
        total = fabric.all_reduce(self._loss.clone(), reduce_op="mean")
        assert isinstance(total, Tensor)
        return total.item() / self._steps

    def mean_terms(self, fabric: Fabric) -> dict[str, float]:
        """Return the means over the batches and processes."""
        means = {}
        for name, values in self._terms.items():
            mean = fabric.all_reduce(torch.stack(values).mean(), reduce_op="mean")
            assert isinstance(mean, Tensor)
            means[name] = mean.item()
        return means

    def largest_norm(self) -> float:
        """Return the largest norm of the gradients, NaN where one was."""
        return self._norm.item()

    def batches_without_labels(self) -> int:
        """Count the steps without a label."""
        return int(self._unlabelled.item())
