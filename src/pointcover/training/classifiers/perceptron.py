"""Fit a perceptron with one hidden layer."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.networks.pixel_classifiers.settings import BlockName, LinearHeadSettings
from pointcover.training.classifiers.head_settings import PerceptronSettings
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.linear import (
    CLIP,
    split_weight,
    standardise,
    standardise_as,
)

DROPOUT: Final = 0.5
"""Of the hidden units, while it is fitted."""
INPUT_DROPOUT: Final = 0.2
BATCH_SIZE: Final = 128
LEARNING_RATE: Final = 2e-3
WEIGHT_DECAY: Final = 0.3


def fit_perceptron(
    settings: PerceptronSettings, pixels: LabelledPixels, classes: int, seed: int
) -> tuple[LinearHeadSettings, dict[str, Tensor]]:
    """Fit a perceptron by AdamW with a one-cycle learning rate; the same seed gives the same one.

    With unlabelled pixels and what other classifiers say of them, each step also takes as many of
    these, and dropout lets the perceptron learn more than it is told (Xie et al. 2020).

    Args:
        settings: of the fit.
        pixels: labelled ones, with all inputs.
        classes: of the class table; those without a label are never predicted.
        seed: draws first weights, batches and dropout.

    Returns:
        The settings of the head, and its state dict.
    """
    table, state = standardise(pixels, settings.inputs)
    values, labels = torch.from_numpy(table), torch.from_numpy(pixels.classes)
    counts = torch.from_numpy(pixels.weights.astype(np.float32))
    taught = _taught(pixels, settings.inputs, state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Dropout(INPUT_DROPOUT),
            nn.Linear(table.shape[1], settings.hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(settings.hidden, classes),
        )
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, LEARNING_RATE, total_steps=settings.steps
        )
        for _ in range(settings.steps):
            chosen = torch.randint(0, len(values), (BATCH_SIZE,))
            losses = functional.cross_entropy(
                model(values[chosen]), labels[chosen], reduction="none"
            )
            loss = (losses * counts[chosen]).mean()
            if taught is not None:
                others, targets = taught
                chosen = torch.randint(0, len(others), (BATCH_SIZE,))
                loss = loss + functional.cross_entropy(model(others[chosen]), targets[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    tensors = [parameter.detach() for parameter in model.parameters()]
    hidden_weight, hidden_bias, output_weight, output_bias = tensors
    absent = np.setdiff1d(np.arange(classes), pixels.classes)
    output_weight[absent], output_bias[absent] = 0, NEVER
    state |= split_weight(hidden_weight.numpy(), state) | {
        "bias": hidden_bias,
        "output_weight": output_weight,
        "output_bias": output_bias,
    }
    head = LinearHeadSettings(inputs=settings.inputs, clip=CLIP, hidden=settings.hidden)
    return head, state


def _taught(
    pixels: LabelledPixels, inputs: Sequence[BlockName], state: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Return standardised unlabelled pixels and their targets, if there are any.

    Targets are probabilities times the weights of classes, as cross-entropy has them: the mean
    weights of the labels.
    """
    unlabelled = pixels.unlabelled
    if unlabelled is None or unlabelled.probabilities is None:
        return None
    count = unlabelled.probabilities.shape[1]
    totals = np.bincount(pixels.classes, pixels.weights, minlength=count)
    weights = totals / np.bincount(pixels.classes, minlength=count).clip(min=1)
    targets = unlabelled.probabilities * weights
    targets = targets / targets.sum(axis=1).mean()
    values = standardise_as(unlabelled.features, inputs, state)
    return torch.from_numpy(values), torch.from_numpy(targets.astype(np.float32))
