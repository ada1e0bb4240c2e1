"""Fit a network: a loop over epochs, which are validated on sparse masks; one epoch is kept."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.networks.segmenter import Segmenter
from pointcover.runtime.devices import peak_memory_mib
from pointcover.runtime.progress import Progress
from pointcover.tileset.dataset import Batch
from pointcover.training.crops import CropBatch, EpochBatches, read_epochs
from pointcover.training.losses.partial import Loss
from pointcover.training.results import Callbacks, EpochResult, Fitted, State, Watch
from pointcover.training.schedules import epochs_without_better, learning_rate
from pointcover.training.settings import TrainSettings
from pointcover.training.step import Learner, describe
from pointcover.training.totals import EpochTotals

logger = logging.getLogger(__name__)

NO_VAL_LABELS: Final = (
    "no val tile has a label, so no epoch can be chosen: raise `points`, or give val more regions"
)


@dataclass(frozen=True)
class Problem:
    """A model, its data and its loss."""

    model: Segmenter
    """Fitted in place."""
    train: DataLoader[CropBatch]
    """Augmented crops, with the masks of point labels where the settings need them; its batch
    sampler is an EpochBatches."""
    val: DataLoader[Batch]
    """Whole tiles with sparse masks, by which the best epoch is chosen."""
    loss: Loss
    names: tuple[str, ...]
    """Of the classes."""


def fit(
    fabric: Fabric,
    problem: Problem,
    settings: TrainSettings,
    callbacks: Callbacks,
    saved: State | None = None,
) -> Fitted:
    """Fit a segmenter on sparse masks and keep the weights of one epoch.

    An epoch depends only on the weights before it, the seed and its number: so a training that is
    resumed from a state ends with the same bits as one that was never interrupted.

    The EMA weights are validated and kept (exponential moving average, Polyak averaging): with few
    labels the scores of single epochs are so noisy that the best one would often be an outlier.

    Args:
        fabric: device and precision. Where it has several processes, each calls this with the same
            values, and each gets the same result.
        problem: model, data and loss.
        settings: of training.
        callbacks: what is called after each epoch.
        saved: the state to resume from, as passed to `save`; model and settings are the same.

    Raises:
        ValueError: loss, gradients or weights are not finite, no val tile has a label, or an epoch
            is too short for `accumulate`; the message says what to try.
    """
    if not len(problem.val):
        raise ValueError(NO_VAL_LABELS)  # before an epoch is trained
    batches = problem.train.batch_sampler
    assert isinstance(batches, EpochBatches)
    batches.rank, batches.ranks = fabric.global_rank, fabric.world_size
    learner = Learner.prepare(fabric, problem.model, problem.loss, settings, batches)
    # Batches of `train` stay on the CPU, where the learner first counts their labels.
    val: Any = fabric.setup_dataloaders(problem.val, use_distributed_sampler=False)
    results, fitted = _restore(learner, saved) if saved else ([], None)
    for result in results:
        callbacks.report(result)
    progress = Progress(
        "training",
        settings.epochs * batches.samples,
        "image",
        done=len(results) * batches.samples,
        is_shown=fabric.is_global_zero,
    )
    epochs = range(len(results) + 1, settings.epochs + 1)
    for epoch, crops in read_epochs(problem.train, epochs):
        mious = [result.val_miou or 0.0 for result in results]
        if settings.patience and epochs_without_better(mious) >= settings.patience:
            logger.info(
                "%d epochs without a better sparse val mIoU: training stops", settings.patience
            )
            break
        totals = learner.learn(crops, epoch, mious, progress)
        _check_finite(totals.numbers, problem.model, epoch)
        validated: Any = None
        if fabric.is_global_zero:  # the other processes wait for the result
            validated = validate(
                learner.ema_network, val, problem.loss, problem.names, callbacks.watch
            )
        val_loss, val_scores = fabric.broadcast(validated)
        _check_finite({"validation loss": val_loss}, problem.model, epoch)
        result = _result_of(learner, epoch, mious, totals, (val_loss, val_scores))
        if (
            fitted is None
            or settings.keep == "last"
            or (result.val_miou or 0) > (fitted.kept.val_miou or 0)
        ):
            result = replace(result, is_kept=True)
            fitted = Fitted(result, weights_of(learner.ema.network))
        results.append(result)
        if callbacks.save is not None:
            callbacks.save(epoch, _state(learner, results, fitted))
        reached = describe(totals.loss, result.val_miou)
        progress.note(reached)
        progress.milestone(
            f"epoch {epoch} of {settings.epochs}: {reached}, {result.images_per_s:.0f} images/s"
        )
        callbacks.report(result)
    progress.close()
    assert fitted is not None
    return fitted


def _result_of(
    learner: Learner,
    epoch: int,
    mious: Sequence[float],
    totals: EpochTotals,
    validated: tuple[float, dict[str, Any]],
) -> EpochResult:
    """Return the result of an epoch, given the sparse val mIoU of the epochs before; not kept."""
    val_loss, val_scores = validated
    miou = val_scores["miou"]
    next_step = learner.step_at(epoch * learner.epoch_steps, [*mious, miou or 0.0])
    return EpochResult(
        epoch=epoch,
        train_loss=totals.loss,
        val_loss=val_loss,
        val_miou=miou,
        val_iou={name: entry["iou"] for name, entry in val_scores["by_class"].items()},
        lr=learning_rate(learner.settings, next_step),
        batches_without_labels=totals.batches_without_labels,
        grad_norm=totals.largest_norm if learner.settings.clip_norm else None,
        images_per_s=learner.batches.samples / totals.seconds,
        seconds=totals.seconds,
        waited_fraction=totals.waited_s / totals.seconds,
        peak_memory_mib=peak_memory_mib(learner.fabric.device),
        terms=totals.terms,
        is_kept=False,
    )


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's weights and buffers to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@torch.inference_mode()
def validate(
    network: Any,
    val: DataLoader[Batch],
    loss: Loss,
    names: tuple[str, ...],
    watch: Watch | None = None,
) -> tuple[float, dict[str, Any]]:
    """Score a network on sparse masks: loss averaged over labelled pixels, and all scores."""
    network.eval()
    confusion: Tensor | None = None
    # Sums stay on the device, in float64 like Python's.
    total, labelled = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    seen = 0
    for images, masks in val:
        logits = network(images)
        predicted = logits.argmax(dim=1)
        if watch is not None:
            watch(seen, predicted)
        seen += len(images)
        count = loss.weight(masks)
        total = total.to(count.device) + loss(logits, masks).double() * count
        labelled = labelled.to(count.device) + count.double()
        counts = confusion_matrix(predicted, masks, len(names))
        confusion = counts if confusion is None else confusion + counts
    if confusion is None or not labelled:
        raise ValueError(NO_VAL_LABELS)
    return (total / labelled).item(), scores(confusion.cpu().numpy(), names)


def _state(learner: Learner, results: Sequence[EpochResult], fitted: Fitted) -> State:
    """Return the state after the last of the results; later steps change its tensors."""
    return {
        **learner.state(),
        "results": [asdict(result) for result in results],
        # None if the last epoch is kept: then they are the EMA weights.
        "kept_weights": None if fitted.kept is results[-1] else fitted.weights,
    }


def _restore(learner: Learner, state: State) -> tuple[list[EpochResult], Fitted]:
    """Restore a state; return the results of its epochs, and the kept epoch."""
    learner.restore(state)
    results = [EpochResult(**values) for values in state["results"]]
    kept = next(result for result in reversed(results) if result.is_kept)
    weights = state["kept_weights"] or weights_of(learner.ema.network)
    return results, Fitted(kept, weights)


def _check_finite(numbers: dict[str, float], model: Segmenter, epoch: int) -> None:
    """Raise an error if one of the numbers, or a weight or buffer of the model, is not finite."""
    broken = [f"{name} {value}" for name, value in numbers.items() if not math.isfinite(value)]
    broken += [
        f"weights of {key}"
        for key, weights in model.state_dict().items()
        if weights.is_floating_point() and not bool(torch.isfinite(weights).all())
    ]
    if broken:
        raise ValueError(
            f"training broke down in epoch {epoch}: {broken[0]} is not finite. Try a tenth of "
            f"train.lr, or train.precision: fp32"
        )
