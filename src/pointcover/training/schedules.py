"""How weights follow their gradients: optimisers, and the learning rate over the steps."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

ONE_CYCLE_START: Final = 1 / 25
ONE_CYCLE_END: Final = 1 / 25e4
"""Shares of the rate at which one-cycle begins and ends: those of torch's OneCycleLR."""


@dataclass(frozen=True)
class OptimiserSettings:
    """What an optimiser is made with; each takes what it knows."""

    lr: float
    weight_decay: float
    momentum: float = 0.9
    """Of sgd."""
    nesterov: bool = True
    """Of sgd: look ahead along the momentum (Sutskever et al., ICML 2013)."""
    fused: bool = False
    """One kernel for all weights, on CUDA."""


Weights = Iterable[nn.Parameter]

OPTIMISERS: Final[dict[str, Callable[[Weights, OptimiserSettings], Optimizer]]] = {
    # fused=None leaves the choice to torch: False would take the slowest loop on CUDA as well.
    "adamw": lambda weights, has: AdamW(
        weights, lr=has.lr, weight_decay=has.weight_decay, fused=has.fused or None
    ),
    "adam": lambda weights, has: Adam(
        weights, lr=has.lr, weight_decay=has.weight_decay, fused=has.fused or None
    ),
    "sgd": lambda weights, has: SGD(
        weights,
        lr=has.lr,
        weight_decay=has.weight_decay,
        momentum=has.momentum,
        nesterov=has.nesterov,
        fused=has.fused or None,
    ),
}


@dataclass(frozen=True)
class Course:
    """The way from the first step to the last, and how its schedule is set."""

    steps: int
    """Of the whole training."""
    epoch_steps: int
    warmup: float
    """Share of the steps in which the rate rises."""
    drop_factor: float = 0.1
    """Of step and plateau: what a drop leaves of the rate."""
    drop_epochs: int = 5
    """Of step: a drop each so many epochs. Of plateau: after so many without a better mIoU."""


Schedule = Callable[[Course, int, Sequence[float]], float]
"""Gives the share of the learning rate at a step, from 0; the sparse val mIoU of each epoch so far
is known. Nothing else is: so a training that goes on needs no state of it."""


def cosine(course: Course, step: int, _mious: Sequence[float] = ()) -> float:
    """Rise in a line, then fall by a cosine to 0 (Loshchilov and Hutter, SGDR, ICLR 2017)."""
    rising = course.warmup * course.steps
    if step < rising:
        return constant(course, step)
    done = (step - rising) / max(1.0, course.steps - rising)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def one_cycle(course: Course, step: int, _mious: Sequence[float] = ()) -> float:
    """Rise by a cosine from 1/25, then fall by one to almost nothing (Smith and Topin, 2018).

    As torch's OneCycleLR without its cycle of the momentum.
    """
    peak = course.warmup * course.steps - 1
    if step < peak:
        return _between(ONE_CYCLE_START, 1, step / peak)
    done = (step - peak) / max(1.0, course.steps - 1 - peak)
    return _between(1, ONE_CYCLE_END, min(1.0, done))


def stepwise(course: Course, step: int, _mious: Sequence[float] = ()) -> float:
    """Rise in a line, then drop after each `drop_epochs` epochs."""
    drops = step // course.epoch_steps // course.drop_epochs
    return float(constant(course, step) * course.drop_factor**drops)


def plateau(course: Course, step: int, mious: Sequence[float] = ()) -> float:
    """Rise in a line, then drop whenever `drop_epochs` epochs brought no better sparse val mIoU."""
    best, waited, drops = -math.inf, 0, 0
    for miou in mious:
        waited = 0 if miou > best else waited + 1
        best = max(best, miou)
        if waited == course.drop_epochs:
            waited, drops = 0, drops + 1
    return float(constant(course, step) * course.drop_factor**drops)


def constant(course: Course, step: int, _mious: Sequence[float] = ()) -> float:
    """Rise in a line, then stay."""
    rising = course.warmup * course.steps
    return (step + 1) / (rising + 1) if step < rising else 1.0


SCHEDULES: Final[dict[str, Schedule]] = {
    "cosine": cosine,
    "one_cycle": one_cycle,
    "step": stepwise,
    "plateau": plateau,
    "constant": constant,
}


def epochs_without_better(mious: Sequence[float]) -> int:
    """Count the epochs since the first one that had the best mIoU; 0 where there is none."""
    return len(mious) - 1 - mious.index(max(mious)) if mious else 0


def _between(start: float, end: float, done: float) -> float:
    """Go from one share to another by half a cosine, as `done` goes from 0 to 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))
