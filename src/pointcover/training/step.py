"""Training steps: one step, and the steps of an epoch."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pointcover.labels import IGNORE_INDEX
from pointcover.networks.build import prepare_processes
from pointcover.networks.segmenter import Segmenter
from pointcover.runtime.progress import Progress
from pointcover.training.crops import Clocked, CropBatch, EpochBatches, sample_seed
from pointcover.training.ema import EmaWeights
from pointcover.training.loss_fractions import loss_fractions, needs_point_labels
from pointcover.training.losses.partial import Loss, as_divisor
from pointcover.training.optimisers import make_optimiser
from pointcover.training.schedules import ScheduleStep, learning_rate
from pointcover.training.semi_supervised.term import Term, TermInput
from pointcover.training.semi_supervised.terms import active_terms
from pointcover.training.settings import TrainSettings
from pointcover.training.totals import EpochSums, EpochTotals

DROPOUT: Final = -1
"""Replaces a sample's number in the seed of dropout. Further processes have lower numbers; numbers
of samples are not negative."""

TERMS: Final = -(2**20)
"""The same for the semi-supervised terms of a step, below the numbers of dropout."""


CountedMasks = Sequence[tuple[Tensor, int]]
"""Masks, (B, H, W) uint8, and their numbers of labels, for each fraction of the loss."""


@dataclass(frozen=True)
class Learner:
    """The state of a network that is fitted, and its update by a step."""

    fabric: Fabric
    model: Segmenter
    network: Any
    """The model as Fabric runs it."""
    ema: EmaWeights
    ema_network: nn.Module
    """The EMA weights in the precision of training and in evaluation mode. They are validated, and
    are the teacher of semi-supervised terms. So the teacher is the network that is kept, its output
    for a crop depends on no other crop, and its statistics do not change."""
    optimizer: Any
    loss: Loss
    settings: TrainSettings
    terms: tuple[Term, ...]
    batches: EpochBatches
    epoch_steps: int

    @classmethod
    def prepare(
        cls,
        fabric: Fabric,
        model: Segmenter,
        loss: Loss,
        settings: TrainSettings,
        batches: EpochBatches,
    ) -> "Learner":
        """Prepare a model, its EMA weights and its optimiser for epochs of these batches.

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
        is_on_gpu = fabric.device.type == "cuda"
        if fabric.world_size > 1:
            prepare_processes(model, on_gpus=is_on_gpu)
        optimizer = make_optimiser(settings, model.parameters(), is_on_gpu=is_on_gpu)
        network, optimizer = fabric.setup(model, optimizer)
        ema = EmaWeights(model, settings.ema_decay)
        return cls(
            fabric=fabric,
            model=model,
            network=network,
            ema=ema,
            ema_network=Cast(ema.network, fabric).eval(),
            optimizer=optimizer,
            loss=loss,
            settings=settings,
            terms=active_terms(settings),
            batches=batches,
            epoch_steps=math.ceil(len(batches) / settings.accumulate),
        )

    def step_at(self, number: int, mious: Sequence[float]) -> ScheduleStep:
        """Return the step of a number, from 0, given the sparse val mIoU of the epochs before."""
        return ScheduleStep(
            number, self.settings.epochs * self.epoch_steps, self.epoch_steps, mious
        )

    def set_rate(self, step: ScheduleStep) -> None:
        """Set the learning rate for a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step)

    def learn(
        self, train: Iterable[CropBatch], epoch: int, mious: Sequence[float], progress: Progress
    ) -> EpochTotals:
        """Run the steps of an epoch, from 1, given the sparse val mIoU of the epochs before."""
        started_s = time.perf_counter()
        # Dropout uses torch's global generator, whose state depends on earlier code.
        torch.manual_seed(sample_seed(self.batches.seed, epoch, DROPOUT - self.batches.rank))
        self.network.train()
        crops = Clocked(train)
        sums = EpochSums(self.fabric.device)
        # Reading the loss would synchronise a GPU, and a single one of several must not stop.
        is_alone_on_cpu = self.fabric.device.type == "cpu" and self.fabric.world_size == 1
        for number, group in enumerate(grouped(crops, self.settings.accumulate)):
            step = self.step_at((epoch - 1) * self.epoch_steps + number, mious)
            self.set_rate(step)
            self.step(group, step.number, sums)
            progress.update(sum(len(batch[0]) for batch in group) * self.batches.ranks)
            if is_alone_on_cpu:
                loss = sums.loss_so_far()
                progress.note(describe(loss, mious[-1] if mious else None))
                if not math.isfinite(loss):
                    break
        self._synchronise_statistics()
        return EpochTotals(
            loss=sums.mean_loss(self.fabric),  # synchronises the device before the time is read
            terms=sums.mean_terms(self.fabric),
            largest_norm=sums.largest_norm(),
            batches_without_labels=sums.batches_without_labels(),
            seconds=time.perf_counter() - started_s,
            waited_s=crops.waited_s,
        )

    def step(self, group: Sequence[CropBatch], step: int, sums: EpochSums) -> None:
        """Run one optimiser step on the mean loss over all labelled pixels of a group.

        Each batch has the weight of its labelled pixels. So the gradient is that of the group as
        one batch, even if batches, or their parts on other devices, have different numbers of
        labels. If point labels and other labels have fractions of the loss, each of the two is such
        a mean, which is 0 without a label in the step. A semi-supervised term is the mean over the
        batches of its mean over each batch.
        """
        batches = [self._take(batch) for batch in group]
        weights = torch.stack([self._weigh(labels) for _, _, labels in batches])
        totals = self.fabric.all_reduce(weights.sum(dim=0), reduce_op="sum")
        assert isinstance(totals, Tensor)
        sums.add_step(totals.sum())
        terms = self._terms_at(step)
        own_pass = [term for term in terms if term.has_own_pass]
        seed = sample_seed(self.batches.seed, step, TERMS - self.batches.rank)
        generator = torch.Generator().manual_seed(seed)
        self.optimizer.zero_grad()
        for number, ((images, masks, labels), weight) in enumerate(
            zip(batches, weights, strict=True), start=1
        ):
            passes_left = (len(group) - number) * (1 + len(own_pass)) + len(own_pass)
            # DDP averages the gradients of all processes, but their sum is needed.
            scale = weight * self.fabric.world_size / as_divisor(totals)
            with self.fabric.no_backward_sync(self.network, enabled=passes_left > 0):
                logits = self.network(images)
                part = (self._label_losses(logits, labels) * scale).sum()
                sums.add_loss(part.detach())
                seen = TermInput(
                    images, masks, logits, self.model, self.network, self.ema_network, generator
                )
                for term in terms:
                    if not term.has_own_pass:
                        part = part + self._term_loss(term, seen, sums) / len(group)
                self.fabric.backward(part)
            for term in own_pass:
                passes_left -= 1
                with self.fabric.no_backward_sync(self.network, enabled=passes_left > 0):
                    self.fabric.backward(self._term_loss(term, seen, sums) / len(group))
        if self.settings.clip_norm is not None:
            norm = self.fabric.clip_gradients(
                self.network,
                self.optimizer,
                max_norm=self.settings.clip_norm,
                error_if_nonfinite=False,  # True would synchronise the device
            )
            assert norm is not None
            sums.add_norm(norm)
        self.optimizer.step()
        self.ema.update()

    def _terms_at(self, step: int) -> tuple[Term, ...]:
        """Return the semi-supervised terms of a step: none during the warm-up."""
        is_warm = step >= self.settings.warmup * (self.settings.epochs * self.epoch_steps)
        return self.terms if is_warm else ()

    def _term_loss(self, term: Term, seen: TermInput, sums: EpochSums) -> Tensor:
        """Return the weighted loss of a semi-supervised term, and record its values."""
        loss, values = term.loss(seen)
        sums.add_terms(values)
        return term.weight * loss

    def _synchronise_statistics(self) -> None:
        """Copy the batch statistics of the first process to all, as each has its own."""
        if self.fabric.world_size > 1:
            for statistic in self.ema.network.buffers():
                torch.distributed.broadcast(statistic, 0)

    def _take(self, batch: CropBatch) -> tuple[Tensor, Tensor, CountedMasks]:
        """Copy a batch to the device: images, masks, and the masks of each fraction of the loss.

        Labels are counted before, so that indexing them does not synchronise the device.
        """
        counts = [int(torch.count_nonzero(one != IGNORE_INDEX)) for one in self._part(*batch[1:])]
        images, masks, *clicks = self.fabric.to_device(batch)
        return images, masks, list(zip(self._part(masks, *clicks), counts, strict=True))

    def _part(self, masks: Tensor, clicks: Tensor | None = None) -> list[Tensor]:
        """Separate point labels from other labels if both have fractions of the loss."""
        if not needs_point_labels(self.settings):
            return [masks]
        assert clicks is not None
        is_clicked = clicks != IGNORE_INDEX
        return [masks.masked_fill(left, IGNORE_INDEX) for left in (~is_clicked, is_clicked)]

    def _weigh(self, labels: CountedMasks) -> Tensor:
        """Return the total weight of the labels of each fraction of the loss, (fractions,)."""
        return torch.stack([self.loss.weight(*one) for one in labels])

    def _label_losses(self, logits: Tensor, labels: CountedMasks) -> Tensor:
        """Return the mean loss of each fraction's labels, times the fraction: (fractions,)."""
        parts = zip(loss_fractions(self.settings), labels, strict=True)
        return torch.stack([fraction * self.loss(logits, *one) for fraction, one in parts])

    def state(self) -> dict[str, Any]:
        """Return the state after the last step; later steps change its tensors."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.model.load_state_dict(state["model"])
        self.ema.restore(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])


class Cast(nn.Module):
    """A network in a Fabric's precision, in one process and without DDP."""

    def __init__(self, network: nn.Module, fabric: Fabric) -> None:
        """Wrap a network that is on the device."""
        super().__init__()
        self.network = network
        self._fabric = fabric

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's output as float32."""
        with self._fabric.autocast():
            logits: Tensor = self.network(images)
        return logits.float()


def grouped(batches: Iterable[CropBatch], size: int) -> Iterator[list[CropBatch]]:
    """Yield batches in groups of a size; the last may be smaller."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group


def describe(loss: float, val_miou: float | None) -> str:
    """Return the loss and the sparse val mIoU as text."""
    return f"loss {loss:.3f}" + ("" if val_miou is None else f", val mIoU {val_miou:.3f}")
