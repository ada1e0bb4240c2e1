"""Fit a perceptron with one hidden layer."""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.networks.pixel_classifiers.settings import LinearHeadSettings
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

    With unlabelled pixels and their probabilities, each step also takes as many of these. The loss
    is without class weights there: probabilities of classifiers that were fitted with class weights
    have them already.

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
    others = pixels.unlabelled
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
            if others is not None and others.probabilities is not None:
                drawn = others.part(torch.randint(0, len(others), (BATCH_SIZE,)).numpy())
                loss = loss + functional.cross_entropy(
                    model(torch.from_numpy(standardise_as(drawn.features, settings.inputs, state))),
                    torch.from_numpy(drawn.probabilities),
                )
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
