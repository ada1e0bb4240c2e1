"""Learning-rate schedules. Each is one function and one line of SCHEDULES."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pointcover.training.choice import Choice

ONE_CYCLE_START: Final = 1 / 25
ONE_CYCLE_END: Final = 1 / 25e4
"""Factors of the learning rate at the start and end of one-cycle: those of torch's OneCycleLR."""


@dataclass(frozen=True)
class ScheduleStep:
    """A step of a training, the only input of schedules: they have no state to be resumed."""

    number: int
    """From 0."""
    steps: int
    """Steps of the whole training."""
    epoch_steps: int
    """Steps of an epoch."""
    mious: Sequence[float] = ()
    """Sparse val mIoU of each epoch before."""


def constant(step: ScheduleStep, *, warmup: float) -> float:
    """Increase linearly during the warm-up, then stay constant."""
    rising = warmup * step.steps
    return (step.number + 1) / (rising + 1) if step.number < rising else 1.0


def cosine(step: ScheduleStep, *, warmup: float) -> float:
    """Increase linearly, then decay by a cosine to 0 (Loshchilov and Hutter, SGDR, ICLR 2017)."""
    rising = warmup * step.steps
    if step.number < rising:
        return constant(step, warmup=warmup)
    done = (step.number - rising) / max(1.0, step.steps - rising)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def one_cycle(step: ScheduleStep, *, warmup: float) -> float:
    """Increase by a cosine from 1/25, then decay by a cosine to almost 0 (Smith and Topin, 2018).

    Like torch's OneCycleLR, without its cycle of the momentum.
    """
    peak = warmup * step.steps - 1
    if step.number < peak:
        return _interpolate(ONE_CYCLE_START, 1, step.number / peak)
    done = (step.number - peak) / max(1.0, step.steps - 1 - peak)
    return _interpolate(1, ONE_CYCLE_END, min(1.0, done))


def stepwise(step: ScheduleStep, *, warmup: float, drop_factor: float, drop_epochs: int) -> float:
    """Increase linearly, then drop after each `drop_epochs` epochs."""
    drops = step.number // step.epoch_steps // drop_epochs
    return float(constant(step, warmup=warmup) * drop_factor**drops)


def plateau(step: ScheduleStep, *, warmup: float, drop_factor: float, drop_epochs: int) -> float:
    """Increase linearly, then drop when the sparse val mIoU has not improved in `drop_epochs`."""
    best, waited, drops = -math.inf, 0, 0
    for miou in step.mious:
        waited = 0 if miou > best else waited + 1
        best = max(best, miou)
        if waited == drop_epochs:
            waited, drops = 0, drops + 1
    return float(constant(step, warmup=warmup) * drop_factor**drops)


@dataclass(frozen=True)
class Schedule(Choice[float]):
    """A function that returns the factor of the learning rate at a step."""

    needs_warmup: bool = False


DROP_OPTIONS: Final = ("warmup", "drop_factor", "drop_epochs")

SCHEDULES: Final[dict[str, Schedule]] = {
    "cosine": Schedule(cosine, ("warmup",)),
    "one_cycle": Schedule(one_cycle, ("warmup",), needs_warmup=True),
    "step": Schedule(stepwise, DROP_OPTIONS),
    "plateau": Schedule(plateau, DROP_OPTIONS),
    "constant": Schedule(constant, ("warmup",)),
}
"""All schedules."""


def learning_rate(settings: Any, step: ScheduleStep) -> float:
    """Return the learning rate at a step by the schedule that `train` chooses."""
    return float(settings.lr * SCHEDULES[settings.schedule].call(settings, step))


def epochs_without_better(mious: Sequence[float]) -> int:
    """Count the epochs since the first one with the best mIoU; 0 if there is none."""
    return len(mious) - 1 - mious.index(max(mious)) if mious else 0


def _interpolate(start: float, end: float, done: float) -> float:
    """Interpolate between two values by half a cosine, for `done` from 0 to 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))
