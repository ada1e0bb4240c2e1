"""One step of training, and the steps of an epoch: what changes while a network is fitted."""

import copy
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pointcover.labels import IGNORE_INDEX
from pointcover.networks import Segmenter, prepare_processes
from pointcover.tileset.tiles import WHITE
from pointcover.training.crops import Clocked, CropBatch, EpochBatches, sample_seed
from pointcover.training.losses import PartialLoss, as_divisor
from pointcover.training.losses.consistency import ConsistencySettings, weak_to_strong
from pointcover.training.losses.gated_crf import CrfSettings, gated_crf
from pointcover.training.schedules import OPTIMISERS, SCHEDULES, Course, OptimiserSettings
from pointcover.training.strong_augmentation import strengthen

DROPOUT: Final = -1
"""The place of dropout among the samples of an epoch: none has this number, nor one below it,
which are those of further processes."""

STRONG_COLOURS: Final = -(2**20)
"""The place of a step's strong colours among the samples of an epoch, below those of dropout."""


Labels = Sequence[tuple[Tensor, int]]
"""Masks, (B, H, W) uint8, and how many labels each has: one for each share of the loss."""


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to learn."""

    epochs: int
    lr: float
    weight_decay: float
    warmup: float
    """Share of the steps in which the rate rises."""
    ema_decay: float
    """How much of the averaged weights stays at a step; 0 keeps the last weights alone."""
    keep: Literal["best", "last"]
    """Which epoch's weights: the best by sparse validation mIoU, or the last."""
    optimiser: str = "adamw"
    """A key of OPTIMISERS."""
    momentum: float = 0.9
    nesterov: bool = True
    schedule: str = "cosine"
    """A key of SCHEDULES."""
    drop_factor: float = 0.1
    drop_epochs: int = 5
    clip_norm: float | None = None
    """The gradients of all weights together get this norm where theirs is larger."""
    accumulate: int = 1
    """Batches to one step."""
    patience: int | None = None
    """Training stops after so many epochs without a better sparse validation mIoU."""
    propagated_loss_fraction: float | None = None
    """Of the loss, what labels have together that were not clicked; clicks have the rest. None: all
    labelled pixels count alike."""
    consistency: ConsistencySettings = field(default_factory=ConsistencySettings)
    crf: CrfSettings = field(default_factory=CrfSettings)

    @property
    def needs_clicks(self) -> bool:
        """Return whether training must know which labels were clicked."""
        return self.propagated_loss_fraction is not None

    @property
    def shares(self) -> tuple[float, ...]:
        """Return the shares of the loss: of all labels, or of the clicked and of the grown ones."""
        return (
            (1.0,)
            if self.propagated_loss_fraction is None
            else (1 - self.propagated_loss_fraction, self.propagated_loss_fraction)
        )


@dataclass(frozen=True)
class Learner:
    """All that changes while a network is fitted, and how it does at a step."""

    fabric: Fabric
    model: Segmenter
    network: Any
    """The model as Fabric runs it."""
    average: "MovingAverage"
    averaged_network: nn.Module
    optimizer: Any
    loss: PartialLoss
    settings: FitSettings
    course: Course
    batches: EpochBatches

    @classmethod
    def prepare(
        cls,
        fabric: Fabric,
        model: Segmenter,
        loss: PartialLoss,
        settings: FitSettings,
        batches: EpochBatches,
    ) -> "Learner":
        """Set up a model, its average and its optimiser for epochs of such batches.

        Raises:
            ValueError: an epoch has no batch, or fewer than are to be accumulated.
        """
        if not len(batches):
            raise ValueError(
                f"an epoch has no batch with two crops for each of {fabric.world_size} "
                f"process(es): add train tiles, lower train.crop_px, or lower train.devices"
            )
        if settings.accumulate > len(batches):
            raise ValueError(
                f"train.accumulate is {settings.accumulate}, but an epoch has {len(batches)} "
                f"batch(es): lower it, or lower train.batch_size"
            )
        if fabric.world_size > 1:
            prepare_processes(model, on_gpus=fabric.device.type == "cuda")
        optimizer = OPTIMISERS[settings.optimiser](
            model.parameters(),
            OptimiserSettings(
                settings.lr,
                settings.weight_decay,
                settings.momentum,
                settings.nesterov,
                fused=fabric.device.type == "cuda",
            ),
        )
        network, optimizer = fabric.setup(model, optimizer)
        average = MovingAverage(model, settings.ema_decay)
        steps = math.ceil(len(batches) / settings.accumulate)
        course = Course(
            settings.epochs * steps,
            steps,
            settings.warmup,
            settings.drop_factor,
            settings.drop_epochs,
        )
        # Validated, and the teacher of unlabelled pixels, in evaluation mode: so the teacher is the
        # network that is kept, what it says of a crop hangs on no other crop, and no statistic or
        # dropout mask of it changes.
        averaged_network = Cast(average.network, fabric).eval()
        return cls(
            fabric,
            model,
            network,
            average,
            averaged_network,
            optimizer,
            loss,
            settings,
            course,
            batches,
        )

    def rate(self, step: int, mious: Sequence[float]) -> float:
        """Return the learning rate of a step, from 0, after epochs with such sparse val mIoU."""
        return self.settings.lr * SCHEDULES[self.settings.schedule](self.course, step, mious)

    def set_rate(self, step: int, mious: Sequence[float]) -> None:
        """Set the learning rate for a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step, mious)

    def learn(
        self, train: Iterable[CropBatch], epoch: int, mious: Sequence[float], progress: Any
    ) -> "Passed":
        """Take the steps of an epoch, from 1, after epochs with such sparse val mIoU."""
        started_s = time.perf_counter()
        # Dropout draws from torch's global generator: what ran before must not matter.
        torch.manual_seed(sample_seed(self.batches.seed, epoch, DROPOUT - self.batches.rank))
        self.network.train()
        crops = Clocked(train)
        tally = Tally(self.fabric.device)
        # A GPU would be waited for, and of several processes one alone would stop.
        alone_on_cpu = self.fabric.device.type == "cpu" and self.fabric.world_size == 1
        val = {"val_miou": f"{mious[-1]:.3f}"} if mious else {}
        for number, group in enumerate(grouped(crops, self.settings.accumulate)):
            step = (epoch - 1) * self.course.epoch_steps + number
            self.set_rate(step, mious)
            self.step(group, step, tally)
            progress.update(sum(len(batch[0]) for batch in group) * self.batches.ranks)
            if alone_on_cpu:
                loss = tally.loss_so_far()
                progress.set_postfix(loss=f"{loss:.3f}", **val)
                if not math.isfinite(loss):
                    break
        self._agree()
        return Passed(
            loss=tally.mean_loss(self.fabric),  # waits for the device, so the time is right
            terms=tally.mean_terms(self.fabric),
            largest_norm=tally.largest_norm(),
            batches_without_labels=tally.batches_without_labels(),
            seconds=time.perf_counter() - started_s,
            waited_s=crops.waited_s,
        )

    def step(self, group: Sequence[CropBatch], step: int, tally: "Tally") -> None:
        """Take one step along the gradient of the mean loss over all labelled pixels of a group.

        Each batch counts by the weight of its labelled pixels: so the gradient is that of the group
        as one batch, also where batches, or parts of them on other devices, hold unlike numbers of
        labels. Where clicks and grown labels have shares, each of the two is such a mean, and one
        that a step has no label of adds nothing. What unlabelled pixels add is a mean over each
        batch, and the mean of those.
        """
        batches = [self._take(batch) for batch in group]
        weights = torch.stack([self._weigh(labels) for _, _, labels in batches])
        totals = self.fabric.all_reduce(weights.sum(dim=0), reduce_op="sum")
        assert isinstance(totals, Tensor)
        tally.add_step(totals.sum())
        is_warm = step >= self.course.warmup * self.course.steps
        has_student = is_warm and self.settings.consistency.weight > 0
        generator = self._generator(step)
        self.optimizer.zero_grad()
        for number, ((images, masks, labels), weight) in enumerate(
            zip(batches, weights, strict=True), start=1
        ):
            is_last = number == len(group)
            # DDP takes the mean of the gradients of all processes, and what is wanted is their sum.
            scale = weight * self.fabric.world_size / as_divisor(totals)
            with self.fabric.no_backward_sync(self.network, enabled=has_student or not is_last):
                logits = self.network(images)
                part = (self._label_losses(logits, labels) * scale).sum()
                tally.add_loss(part.detach())
                if is_warm and self.settings.crf.weight > 0:
                    part = part + self._crf(logits, images, tally) / len(group)
                self.fabric.backward(part)
            if has_student:  # on its own, so that memory holds one graph at a time
                with self.fabric.no_backward_sync(self.network, enabled=not is_last):
                    part = self._consistency(images, masks, generator, tally) / len(group)
                    self.fabric.backward(part)
        if self.settings.clip_norm is not None:
            norm = self.fabric.clip_gradients(
                self.network,
                self.optimizer,
                max_norm=self.settings.clip_norm,
                error_if_nonfinite=False,  # which would wait for the device
            )
            assert norm is not None
            tally.add_norm(norm)
        self.optimizer.step()
        self.average.update()

    def _agree(self) -> None:
        """Return all processes the first one's statistics of batches: each saw its own parts."""
        if self.fabric.world_size > 1:
            for statistic in self.average.network.buffers():
                torch.distributed.broadcast(statistic, 0)

    def _generator(self, step: int) -> torch.Generator:
        """Return a step of this process its own source of chance."""
        seed = sample_seed(self.batches.seed, step, STRONG_COLOURS - self.batches.rank)
        return torch.Generator().manual_seed(seed)

    def _take(self, batch: CropBatch) -> tuple[Tensor, Tensor, Labels]:
        """Bring a batch to the device: images, masks, and the labels of each share of the loss.

        They are counted before, so that the device is not waited for when they are looked up.
        """
        counts = [int(torch.count_nonzero(one != IGNORE_INDEX)) for one in self._part(*batch[1:])]
        images, masks, *clicks = self.fabric.to_device(batch)
        return images, masks, list(zip(self._part(masks, *clicks), counts, strict=True))

    def _part(self, masks: Tensor, clicks: Tensor | None = None) -> list[Tensor]:
        """Part what was clicked from what was grown, where they have shares of their own."""
        if not self.settings.needs_clicks:
            return [masks]
        assert clicks is not None
        is_clicked = clicks != IGNORE_INDEX
        return [masks.masked_fill(left, IGNORE_INDEX) for left in (~is_clicked, is_clicked)]

    def _weigh(self, labels: Labels) -> Tensor:
        """Sum what labels of each share of the loss weigh, (shares,)."""
        return torch.stack([self.loss.weight(*one) for one in labels])

    def _label_losses(self, logits: Tensor, labels: Labels) -> Tensor:
        """Return the mean over the labels of each share of the loss, times it: (shares,)."""
        shares = zip(self.settings.shares, labels, strict=True)
        return torch.stack([share * self.loss(logits, *one) for share, one in shares])

    def _consistency(
        self, images: Tensor, masks: Tensor, generator: torch.Generator, tally: "Tally"
    ) -> Tensor:
        """Ask the average what it sees, and the network to see it in strong colours too."""
        how = self.settings.consistency
        with torch.no_grad():
            taught = self.averaged_network(images)
        strong, is_visible = strengthen(images, generator, how.colours)
        is_visible &= has_data(images)
        with frozen_statistics(self.model):
            logits = self.network(strong)
        loss, share = weak_to_strong(logits, taught, masks, how.threshold, is_visible)
        tally.add_terms(consistency_loss=loss.detach(), consistency_fraction=share)
        return how.weight * loss

    def _crf(self, logits: Tensor, images: Tensor, tally: "Tally") -> Tensor:
        """Compare each pixel with its neighbours, by what the network says and by colour."""
        how = self.settings.crf
        gate = has_data(images)
        loss = gated_crf(
            logits,
            images / WHITE,
            sources=gate,
            destinations=gate,
            radius_px=how.radius_px,
            sigma_px=how.sigma_px,
            sigma_colour=how.sigma_colour,
            scale=how.scale,
        )
        tally.add_terms(crf_loss=loss.detach())
        return how.weight * loss

    def state(self) -> dict[str, Any]:
        """Return the state after the last step; its tensors go on changing."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.model.load_state_dict(state["model"])
        self.average.restore(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


class MovingAverage:
    """An exponential moving average of a network's weights and buffers (Polyak averaging).

    The decay rises from 0.1 at first, as in tf.train.ExponentialMovingAverage. torch's
    AveragedModel would do, but it waits for a GPU at each update (2.10 to 2.15).
    """

    def __init__(self, model: Segmenter, decay: float) -> None:
        """Follow a network, which lies where it stays; an update leaves `decay` of the average."""
        self.network = copy.deepcopy(model)
        self._decay = decay
        self._updates = 0
        states = (one.state_dict().values() for one in (self.network, model))
        pairs = list(zip(*states, strict=True))
        self._weights = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the network; the first time it is taken as it is."""
        count = self._updates
        kept = min(self._decay, (1 + count) / (10 + count)) if count else 0.0
        follow = get_ema_multi_avg_fn(kept)  # type: ignore[no-untyped-call]
        follow([mean for mean, _ in self._weights], [value for _, value in self._weights], count)
        for mean, value in self._counts:
            mean.copy_(value)  # batch norm's count of batches
        self._updates += 1

    def state(self) -> dict[str, Any]:
        """Return the state after the last update; its tensors go on changing."""
        return {"network": self.network.state_dict(), "updates": self._updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.network.load_state_dict(state["network"])
        self._updates = state["updates"]


class Cast(nn.Module):
    """A network in a Fabric's precision, in one process: DDP would wait for the others."""

    def __init__(self, network: nn.Module, fabric: Fabric) -> None:
        """Take a network that is on the device."""
        super().__init__()
        self.network = network
        self._fabric = fabric

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's output as float32."""
        with self._fabric.autocast():
            logits: Tensor = self.network(images)
        return logits.float()


@dataclass(frozen=True)
class Passed:
    """What the steps of an epoch came to."""

    loss: float
    terms: dict[str, float]
    largest_norm: float
    batches_without_labels: int
    seconds: float
    waited_s: float

    @property
    def numbers(self) -> dict[str, float]:
        """Return what must be finite, by the name that a message has for it."""
        named = {name.replace("_", " "): value for name, value in self.terms.items()}
        return {"loss": self.loss, "gradient norm": self.largest_norm, **named}


class Tally:
    """Sums over an epoch that stay on the device until it ends."""

    def __init__(self, device: torch.device) -> None:
        """Begin with nothing."""
        self._loss = torch.zeros((), device=device)
        self._unlabelled = torch.zeros((), dtype=torch.int64, device=device)
        self._norm = torch.zeros((), device=device)
        self._steps = 0
        self._terms: dict[str, list[Tensor]] = {}

    def add_step(self, labelled: Tensor) -> None:
        """Count a step and whether it has a label."""
        self._steps += 1
        self._unlabelled += labelled == 0

    def add_loss(self, part: Tensor) -> None:
        """Add a batch's part of its step's loss."""
        self._loss += part

    def add_terms(self, **values: Tensor) -> None:
        """Note what the unlabelled pixels of a batch came to, by name."""
        for name, value in values.items():
            self._terms.setdefault(name, []).append(value)

    def add_norm(self, norm: Tensor) -> None:
        """Note the norm of a step's gradients; one that is not finite is not forgotten."""
        self._norm = torch.maximum(self._norm, norm)

    def loss_so_far(self) -> float:
        """Return the mean over this process's steps; a GPU is waited for."""
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
        """Count the steps in which nothing was labelled."""
        return int(self._unlabelled.item())


def has_data(images: Tensor) -> Tensor:
    """Return which pixels have a value above 0, (B, bands, H, W) → (B, H, W) bool.

    The tile stage writes 0 in every band where there is no data.
    """
    return images.amax(dim=1) > 0


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by batches in the block, but let them move no running statistic.

    Those are of the images as they are, which the network is to be used on.
    """
    layers = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    shares = [layer.momentum for layer in layers]
    # Without them SyncBatchNorm would not run: they are set back.
    counts = [one.num_batches_tracked for one in layers if one.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, share in zip(layers, shares, strict=True):
            layer.momentum = share
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)


def grouped(batches: Iterable[CropBatch], size: int) -> Iterator[list[CropBatch]]:
    """Return batches in groups of a size; the last may be smaller."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group
