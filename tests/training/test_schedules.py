"""Optimisers take what they are given; rates are those of their formulas and of torch's own."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from pointcover.training.optimisers import OPTIMISERS, make_optimiser
from pointcover.training.schedules import (
    SCHEDULES,
    ScheduleStep,
    epochs_without_better,
    learning_rate,
)
from tests.train_settings import train_settings


class Course:
    """A schedule and the length of a training; returns the factor of the rate at a step."""

    def __init__(self, schedule, warmup=0.0, steps=10, epoch_steps=2, **drops):
        self.settings = train_settings(schedule=schedule, warmup=warmup, lr=1.0, **drops)
        self.steps, self.epoch_steps = steps, epoch_steps

    def __call__(self, number, mious=()):
        return learning_rate(
            self.settings, ScheduleStep(number, self.steps, self.epoch_steps, mious)
        )


def torch_rates(make, steps):
    """The rates that a scheduler of torch gives to each step."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_the_rate_rises_in_a_line_and_falls_by_a_cosine_to_nothing():
    cosine = Course("cosine", warmup=0.2, steps=10)
    assert cosine(0) == pytest.approx(1 / 3)
    assert cosine(1) == pytest.approx(2 / 3)
    assert cosine(2) == pytest.approx(1)
    assert cosine(4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert cosine(6) == pytest.approx(1 / 2)
    assert cosine(10) == pytest.approx(0)
    assert cosine(11) == pytest.approx(0)


def test_without_warmup_the_cosine_begins_at_its_height():
    assert [Course("cosine", steps=4)(step) for step in range(5)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    )


@pytest.mark.parametrize("warmup", [0.1, 0.3, 0.5, 1])
@pytest.mark.parametrize("steps", [20, 57, 100])
def test_one_cycle_is_that_of_torch(warmup, steps):
    wanted = torch_rates(
        lambda one: OneCycleLR(
            one,
            max_lr=1.0,
            total_steps=steps + 1,
            pct_start=warmup * steps / (steps + 1),
            cycle_momentum=False,
        ),
        steps,
    )
    # torch counts one step more than are taken here, so that it can be asked for the last.
    one_cycle = Course("one_cycle", warmup * steps / (steps + 1), steps + 1, 1)
    assert [one_cycle(step) for step in range(steps)] == pytest.approx(wanted)


def test_step_drops_after_each_so_many_epochs():
    stepwise = Course("step", steps=40, epoch_steps=4, drop_factor=0.5, drop_epochs=3)
    wanted = torch_rates(lambda one: StepLR(one, step_size=12, gamma=0.5), 40)
    assert [stepwise(step) for step in range(40)] == pytest.approx(wanted)


@pytest.mark.parametrize("drop_epochs", [1, 2, 4])
def test_plateau_drops_as_torchs_does_where_the_miou_stays(drop_epochs):
    generator = torch.Generator().manual_seed(drop_epochs)
    mious = torch.rand(40, generator=generator).round(decimals=1).tolist()  # with equal ones
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = ReduceLROnPlateau(
        optimizer, mode="max", factor=0.7, patience=drop_epochs - 1, threshold=0, eps=0
    )
    plateau = Course("plateau", steps=80, drop_factor=0.7, drop_epochs=drop_epochs)
    for epoch in range(1, 41):
        torchs.step(mious[epoch - 1])
        ours = plateau(2 * epoch, mious[:epoch])
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours < 0.7


def test_constant_rises_and_stays():
    constant = Course("constant", warmup=0.2, steps=10)
    rates = [constant(step) for step in range(12)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *[1] * 10])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_a_rate_is_above_nothing_at_every_step_and_never_above_its_height(name, warmup, steps):
    schedule = Course(name, warmup=warmup, steps=steps, epoch_steps=1)
    for step in range(steps):
        assert 0 < schedule(step, [0.5] * step) <= 1


@pytest.mark.parametrize("name", ["cosine", "step", "plateau", "constant"])
def test_every_schedule_but_one_cycle_rises_in_the_same_line(name):
    schedule = Course(name, warmup=0.5, steps=20, epoch_steps=20)
    rates = [schedule(step) for step in range(10)]
    assert rates == pytest.approx([(step + 1) / 11 for step in range(10)])


@pytest.mark.parametrize(
    ("mious", "count"),
    [([], 0), ([0.2], 0), ([0.2, 0.3], 0), ([0.3, 0.2], 1), ([0.3, 0.3, 0.3], 2), ([0, 0], 1)],
)
def test_epochs_are_counted_since_the_first_best(mious, count):
    assert epochs_without_better(mious) == count


# Optimisers


def weights_after(name, steps=3, **settings):
    """Weights 1 and 2 after steps with gradient 1."""
    weights = nn.Parameter(torch.tensor([1.0, 2.0]))
    defaults = {"optimiser": name, "lr": 0.1, "weight_decay": 0.0}
    optimizer = make_optimiser(train_settings(**defaults | settings), [weights], is_on_gpu=False)
    for _ in range(steps):
        weights.grad = torch.ones(2)
        optimizer.step()
    return weights.tolist()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_goes_against_the_gradient_and_takes_rate_and_decay(name):
    plain = weights_after(name)
    assert plain[0] < 1
    assert plain[1] < 2
    assert weights_after(name, lr=0.01)[0] > plain[0]
    assert weights_after(name, weight_decay=0.3) != plain


def test_sgd_follows_its_momentum_and_looks_ahead():
    # Velocity 1, 1.9, 2.71; looked ahead by 0.9 of it: 1.9, 2.71, 3.439.
    assert weights_after("sgd", nesterov=False)[0] == pytest.approx(1 - 0.1 * (1 + 1.9 + 2.71))
    assert weights_after("sgd")[0] == pytest.approx(1 - 0.1 * (1.9 + 2.71 + 3.439))
    assert weights_after("sgd", momentum=0, nesterov=False)[0] == pytest.approx(0.7)


def test_decay_is_apart_from_the_gradient_in_adamw_and_part_of_it_in_adam():
    # Adam's step is the rate, whatever the gradient's size: decay in it is lost on the first step.
    assert weights_after("adamw", 1, weight_decay=0.5) == pytest.approx([0.95 - 0.1, 1.9 - 0.1])
    assert weights_after("adam", 1, weight_decay=0.5) == pytest.approx([0.9, 1.9])
