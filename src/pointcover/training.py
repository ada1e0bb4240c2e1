"""Training: one loop over epochs, told in full on one page."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from pointcover.loading import Batch, EpochBatches, sample_seed
from pointcover.losses import Loss, labelled_pixels
from pointcover.metrics import confusion_matrix, scores
from pointcover.models import Segmenter

DROPOUT: Final = -1
"""The place of dropout among the samples of an epoch: none has this number."""

State = dict[str, Any]
"""A training after some epoch, of tensors and plain values: what `torch.load(weights_only=True)`
reads."""

NO_VAL_LABELS: Final = (
    "no val tile has a label, so no epoch can be chosen: raise `points`, or give val more regions"
)


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to learn."""

    epochs: int
    lr: float
    weight_decay: float
    warmup: float
    """Share of the steps in which the rate rises; it falls by a cosine afterwards."""
    ema_decay: float
    """How much of the averaged weights stays at a step; 0 keeps the last weights alone."""
    keep: Literal["best", "last"]
    """Which epoch's weights: the best by sparse validation mIoU, or the last."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to. Validation is on sparse masks: dense ones are not seen here."""

    epoch: int
    train_loss: float
    val_loss: float
    val_miou: float | None
    val_iou: dict[str, float | None]
    lr: float
    batches_without_labels: int
    images_per_s: float
    seconds: float
    is_kept: bool


@dataclass(frozen=True)
class Fitted:
    """The epoch that is kept, and the weights it left."""

    kept: EpochResult
    weights: dict[str, Tensor]


def fit(
    fabric: Fabric,
    model: Segmenter,
    train: DataLoader[Batch],
    val: DataLoader[Batch],
    loss: Loss,
    names: tuple[str, ...],
    settings: FitSettings,
    report: Callable[[EpochResult], None],
    saved: State | None = None,
    save: Callable[[int, State], None] | None = None,
) -> Fitted:
    """Fit a segmenter on sparse masks and keep the weights of one epoch.

    All that happens in an epoch depends on the weights before it, the seed and its number alone:
    so a training that goes on from a state ends as one that was never interrupted.

    What is validated and kept is an exponential moving average of the weights (Polyak averaging,
    with the decay rising as in tf.train.ExponentialMovingAverage): with few labels single epochs
    are so noisy that a lucky early one would be taken for the best.

    Args:
        fabric: device and precision.
        model: is fitted in place.
        train: augmented crops; its batch sampler is an EpochBatches.
        val: whole tiles with sparse masks, by which the best epoch is chosen.
        loss: of logits and masks.
        names: class names.
        settings: how long and how fast.
        report: is called after each epoch, and first for each that `saved` holds.
        saved: the state to go on from, which `save` was given; model and settings are the same.
        save: is called with each epoch's number and the state after it, before `report`.

    Raises:
        ValueError: loss or weights stopped being finite, or no val tile has a label; the message
            says what to try.
    """
    if not len(val):
        raise ValueError(NO_VAL_LABELS)  # before an epoch is spent
    batches = train.batch_sampler
    assert isinstance(batches, EpochBatches)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    average = AveragedModel(
        model, multi_avg_fn=moving_average(settings.ema_decay), use_buffers=True
    )
    network, optimizer = fabric.setup(model, optimizer)
    averaged_network = fabric.setup_module(average.module)
    train, val = fabric.setup_dataloaders(train, val, use_distributed_sampler=False)
    schedule = LambdaLR(
        optimizer, WarmupCosine(settings.warmup, settings.epochs * max(1, len(batches)))
    )
    learner = Learner(model, average, optimizer, schedule)
    results, fitted = learner.restore(saved) if saved else ([], None)
    for result in results:
        report(result)
    progress = tqdm(
        total=settings.epochs * len(batches),
        initial=len(results) * len(batches),
        desc="training",
        unit="batch",
        leave=False,
        disable=None,
    )
    for epoch in range(len(results) + 1, settings.epochs + 1):
        started_s = time.perf_counter()
        batches.epoch = epoch
        # Dropout draws from torch's global generator: what ran before must not matter.
        torch.manual_seed(sample_seed(batches.seed, epoch, DROPOUT))
        network.train()
        total_loss = torch.zeros((), device=fabric.device)
        unlabelled = torch.zeros((), dtype=torch.int64, device=fabric.device)
        images_seen = 0
        for images, masks in train:
            optimizer.zero_grad()
            batch_loss = loss(network(images), masks)
            fabric.backward(batch_loss)
            optimizer.step()
            average.update_parameters(model)
            schedule.step()
            total_loss += batch_loss.detach()
            unlabelled += labelled_pixels(masks) == 0
            images_seen += len(images)
            progress.update()
        train_loss = total_loss.item() / len(batches)
        seconds = time.perf_counter() - started_s
        _check_finite(train_loss, "loss", model, epoch)
        val_loss, val_scores = validate(averaged_network, val, loss, names)
        _check_finite(val_loss, "validation loss", model, epoch)
        miou = val_scores["miou"]
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            val_miou=miou,
            val_iou={name: entry["iou"] for name, entry in val_scores["by_class"].items()},
            lr=float(schedule.get_last_lr()[0]),
            batches_without_labels=int(unlabelled.item()),
            images_per_s=images_seen / seconds,
            seconds=seconds,
            is_kept=fitted is None
            or settings.keep == "last"
            or (miou or 0) > (fitted.kept.val_miou or 0),
        )
        results.append(result)
        if result.is_kept:
            fitted = Fitted(result, weights_of(average.module))
        assert fitted is not None
        if save is not None:
            save(epoch, learner.state(results, fitted))
        progress.set_postfix(loss=f"{train_loss:.3f}", val_miou=f"{miou or 0:.3f}")
        report(result)
    progress.close()
    assert fitted is not None
    return fitted


@dataclass(frozen=True)
class Learner:
    """All that changes while a network is fitted."""

    model: Segmenter
    average: AveragedModel
    optimizer: Optimizer
    schedule: LambdaLR

    def state(self, results: Sequence[EpochResult], fitted: Fitted) -> State:
        """Give the state after the last of the results; its tensors go on changing."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "results": [asdict(result) for result in results],
            # The average itself, where the last epoch is the one that is kept.
            "kept_weights": None if fitted.kept is results[-1] else fitted.weights,
        }

    def restore(self, state: State) -> tuple[list[EpochResult], Fitted]:
        """Go back to a state; give the epochs until then and the one that is kept."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        results = [EpochResult(**values) for values in state["results"]]
        kept = next(result for result in reversed(results) if result.is_kept)
        weights = state["kept_weights"] or weights_of(self.average.module)
        return results, Fitted(kept, weights)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's weights and buffers to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@torch.inference_mode()
def validate(
    network: Any, val: DataLoader[Batch], loss: Loss, names: tuple[str, ...]
) -> tuple[float, dict[str, Any]]:
    """Score a network on sparse masks: loss averaged over labelled pixels, and all scores."""
    network.eval()
    confusion: Tensor | None = None
    total, labelled = 0.0, 0
    for images, masks in val:
        logits = network(images)
        count = int(labelled_pixels(masks))
        total += loss(logits, masks).item() * count
        labelled += count
        counts = confusion_matrix(logits.argmax(dim=1), masks, len(names))
        confusion = counts if confusion is None else confusion + counts
    if confusion is None or not labelled:
        raise ValueError(NO_VAL_LABELS)
    return total / labelled, scores(confusion.cpu().numpy(), names)


def moving_average(
    decay: float,
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Give the update of an exponential moving average; the decay rises from 0.1 at first."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        share = 1 - min(decay, (1 + steps) / (10 + steps))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)  # batch norm's count of batches

    return update


@dataclass(frozen=True)
class WarmupCosine:
    """The share of the learning rate at a step: up in a line, down to 0 by a cosine."""

    warmup: float
    steps: int

    def __call__(self, step: int) -> float:
        """Give the share at a step, 0 to 1."""
        rising = self.warmup * self.steps
        if step < rising:
            return (step + 1) / (rising + 1)
        done = (step - rising) / max(1.0, self.steps - rising)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _check_finite(value: float, name: str, model: Segmenter, epoch: int) -> None:
    """Stop where numbers broke: in the loss, or in buffers, where batch norm would keep them."""
    broken = [
        key
        for key, weights in model.state_dict().items()
        if weights.is_floating_point() and not bool(torch.isfinite(weights).all())
    ]
    if not math.isfinite(value) or broken:
        where = f"{name} {value}" if not math.isfinite(value) else f"weights of {broken[0]}"
        raise ValueError(
            f"training broke down in epoch {epoch}: {where} is not finite. Try a tenth of "
            f"train.lr, or train.precision: fp32"
        )
