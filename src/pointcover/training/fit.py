"""Training: one loop over epochs, each validated on sparse masks, and the one that is kept."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.networks import Segmenter
from pointcover.runtime.devices import peak_memory_mib
from pointcover.tileset.dataset import Batch
from pointcover.training.crops import CropBatch, EpochBatches, read_epochs
from pointcover.training.losses import PartialLoss
from pointcover.training.schedules import epochs_without_better
from pointcover.training.step import FitSettings, Learner

logger = logging.getLogger(__name__)

State = dict[str, Any]
"""A training after some epoch, of tensors and plain values: what `torch.load(weights_only=True)`
reads."""

Watch = Callable[[int, Tensor], None]
"""Sees what validation predicts: the place of a batch's first tile among the val tiles, and the
batch's classes, (N, H, W), on the device."""

NO_VAL_LABELS: Final = (
    "no val tile has a label, so no epoch can be chosen: raise `points`, or give val more regions"
)


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to. Validation is on sparse masks: dense ones are not seen here."""

    epoch: int
    train_loss: float
    """On labelled pixels, without what the unlabelled ones add."""
    val_loss: float
    val_miou: float | None
    val_iou: dict[str, float | None]
    lr: float
    batches_without_labels: int
    grad_norm: float | None
    """The largest before clipping; None where nothing clips."""
    images_per_s: float
    seconds: float
    """Of the training part, as `images_per_s`."""
    waited_fraction: float
    """Of these seconds, spent waiting for the loader."""
    peak_memory_mib: float
    terms: dict[str, float]
    """What the unlabelled pixels came to, in the mean over the batches that looked at them:
    consistency_loss, consistency_fraction (of them that the teacher was sure of), crf_loss."""
    is_kept: bool

    def metrics(self) -> dict[str, float | None]:
        """Name the numbers as MLflow shows them."""
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
        """Return a row of curves.csv: what the same params bring again, so no times."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "val_loss": self.val_loss,
            "val_miou": self.val_miou,
            **{f"val_iou_{name}": iou for name, iou in self.val_iou.items()},
        }


@dataclass(frozen=True)
class Fitted:
    """The epoch that is kept, and the weights it left."""

    kept: EpochResult
    weights: dict[str, Tensor]


def fit(
    fabric: Fabric,
    model: Segmenter,
    train: DataLoader[CropBatch],
    val: DataLoader[Batch],
    loss: PartialLoss,
    names: tuple[str, ...],
    settings: FitSettings,
    report: Callable[[EpochResult], None],
    saved: State | None = None,
    save: Callable[[int, State], None] | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Fit a segmenter on sparse masks and keep the weights of one epoch.

    All that happens in an epoch depends on the weights before it, the seed and its number alone:
    so a training that goes on from a state ends as one that was never interrupted.

    What is validated and kept is an exponential moving average of the weights (Polyak averaging,
    with the decay rising as in tf.train.ExponentialMovingAverage): with few labels single epochs
    are so noisy that a lucky early one would be taken for the best.

    Args:
        fabric: device and precision. Where it has several processes, each calls this with the same
            values, and each gets the same result.
        model: is fitted in place.
        train: augmented crops, with the clicks where the settings need them; its batch sampler is
            an EpochBatches.
        val: whole tiles with sparse masks, by which the best epoch is chosen.
        loss: of logits and masks.
        names: class names.
        settings: how long and how fast.
        report: is called after each epoch, and first for each that `saved` holds.
        saved: the state to go on from, which `save` was given; model and settings are the same.
        save: is called with each epoch's number and the state after it, before `report`.
        watch: sees what each new epoch's validation predicts, before its `report`.

    Raises:
        ValueError: loss, gradients or weights stopped being finite, no val tile has a label, or an
            epoch is too short for `accumulate`; the message says what to try.
    """
    if not len(val):
        raise ValueError(NO_VAL_LABELS)  # before an epoch is spent
    batches = train.batch_sampler
    assert isinstance(batches, EpochBatches)
    batches.rank, batches.ranks = fabric.global_rank, fabric.world_size
    learner = Learner.prepare(fabric, model, loss, settings, batches)
    # Batches of `train` come as they were read: the learner counts their labels first.
    val_on_device: Any = fabric.setup_dataloaders(val, use_distributed_sampler=False)
    results, fitted = _go_back(learner, saved) if saved else ([], None)
    for result in results:
        report(result)
    progress = tqdm(
        total=settings.epochs * batches.samples,
        initial=len(results) * batches.samples,
        desc="training",
        unit="image",
        leave=False,
        disable=None if fabric.is_global_zero else True,
    )
    to_come = range(len(results) + 1, settings.epochs + 1)
    for epoch, crops in read_epochs(train, to_come):
        mious = [result.val_miou or 0.0 for result in results]
        if settings.patience and epochs_without_better(mious) >= settings.patience:
            logger.info(
                "%d epochs without a better sparse val mIoU: training stops", settings.patience
            )
            break
        passed = learner.learn(crops, epoch, mious, progress)
        _check_finite(passed.numbers, model, epoch)
        validated: Any = None
        if fabric.is_global_zero:  # the others wait for the result, on which they decide alike
            validated = validate(learner.averaged_network, val_on_device, loss, names, watch)
        val_loss, val_scores = fabric.broadcast(validated)
        _check_finite({"validation loss": val_loss}, model, epoch)
        miou = val_scores["miou"]
        result = EpochResult(
            epoch=epoch,
            train_loss=passed.loss,
            val_loss=val_loss,
            val_miou=miou,
            val_iou={name: entry["iou"] for name, entry in val_scores["by_class"].items()},
            lr=learner.rate(epoch * learner.course.epoch_steps, [*mious, miou or 0.0]),
            batches_without_labels=passed.batches_without_labels,
            grad_norm=passed.largest_norm if settings.clip_norm else None,
            images_per_s=batches.samples / passed.seconds,
            seconds=passed.seconds,
            waited_fraction=passed.waited_s / passed.seconds,
            peak_memory_mib=peak_memory_mib(fabric.device),
            terms=passed.terms,
            is_kept=fitted is None
            or settings.keep == "last"
            or (miou or 0) > (fitted.kept.val_miou or 0),
        )
        results.append(result)
        if result.is_kept:
            fitted = Fitted(result, weights_of(learner.average.network))
        assert fitted is not None
        if save is not None:
            save(epoch, _state(learner, results, fitted))
        progress.set_postfix(loss=f"{passed.loss:.3f}", val_miou=f"{miou or 0:.3f}")
        report(result)
    progress.close()
    assert fitted is not None
    return fitted


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's weights and buffers to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@torch.inference_mode()
def validate(
    network: Any,
    val: DataLoader[Batch],
    loss: PartialLoss,
    names: tuple[str, ...],
    watch: Watch | None = None,
) -> tuple[float, dict[str, Any]]:
    """Score a network on sparse masks: loss averaged over labelled pixels, and all scores."""
    network.eval()
    confusion: Tensor | None = None
    # Sums stay on the device, in float64 as Python's are.
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
    """Return the state after the last of the results; its tensors go on changing."""
    return {
        **learner.state(),
        "results": [asdict(result) for result in results],
        # The average itself, where the last epoch is the one that is kept.
        "kept_weights": None if fitted.kept is results[-1] else fitted.weights,
    }


def _go_back(learner: Learner, state: State) -> tuple[list[EpochResult], Fitted]:
    """Go back to a state; give the epochs until then and the one that is kept."""
    learner.restore(state)
    results = [EpochResult(**values) for values in state["results"]]
    kept = next(result for result in reversed(results) if result.is_kept)
    weights = state["kept_weights"] or weights_of(learner.average.network)
    return results, Fitted(kept, weights)


def _check_finite(numbers: dict[str, float], model: Segmenter, epoch: int) -> None:
    """Stop where numbers broke: these, or buffers, where batch norm would keep them."""
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
