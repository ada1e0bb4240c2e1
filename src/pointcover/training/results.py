"""Results of epochs and fits, and the callbacks through which they are passed on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

State = dict[str, Any]
"""A training after some epoch, of tensors and plain values: what `torch.load(weights_only=True)`
reads."""


Watch = Callable[[int, Tensor], None]
"""Called with validation's predictions: the index of a batch's first tile among the val tiles, and
the batch's classes, (N, H, W), on the device."""


@dataclass(frozen=True)
class EpochResult:
    """Result of one epoch. Validation is on sparse masks: training sees no dense one."""

    epoch: int
    train_loss: float
    """On labelled pixels, without semi-supervised terms."""
    val_loss: float
    val_miou: float | None
    val_iou: dict[str, float | None]
    lr: float
    batches_without_labels: int
    grad_norm: float | None
    """The largest before clipping; None without clipping."""
    images_per_s: float
    seconds: float
    """Of training without validation, as `images_per_s`."""
    waited_fraction: float
    """Fraction of these seconds spent waiting for the loader."""
    peak_memory_mib: float
    terms: dict[str, float]
    """Values of the semi-supervised terms, mean over their batches: consistency_loss,
    consistency_fraction (of unlabelled pixels above the threshold), crf_loss."""
    is_kept: bool

    def metrics(self) -> dict[str, float | None]:
        """Return the numbers by their names in MLflow."""
        return {
            "val/miou": self.val_miou,
            "train/loss": self.train_loss,
            "val/loss": self.val_loss,
            "train/lr": self.lr,
            "train/images_per_s": self.images_per_s,
            "train/batches_without_labels": self.batches_without_labels,
            "train/grad_norm": self.grad_norm,
            "train/seconds": self.seconds,
            "train/waited_fraction": self.waited_fraction,
            "train/peak_memory_mib": self.peak_memory_mib,
            **{f"train/{name}": value for name, value in self.terms.items()},
            **{f"val/iou/{name}": iou for name, iou in self.val_iou.items()},
        }

    def row(self) -> dict[str, Any]:
        """Return a row of curves.csv: values that the same params reproduce, so no times."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "val_loss": self.val_loss,
            "val_miou": self.val_miou,
            **{f"val_iou_{name}": iou for name, iou in self.val_iou.items()},
        }


@dataclass(frozen=True)
class Fitted:
    """The epoch that is kept, and the weights after it."""

    kept: EpochResult
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Callbacks:
    """What a fit calls while it runs."""

    report: Callable[[EpochResult], None]
    """Called after each epoch, and first for each epoch of a resumed state."""
    save: Callable[[int, State], None] | None = None
    """Called with each epoch's number and the state after it, before `report`."""
    watch: Watch | None = None
