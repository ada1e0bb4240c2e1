"""Correct predictions for class priors that differ from those of training."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pointcover.prediction.settings import PriorSettings

if TYPE_CHECKING:  # maps of ONNX files are made without torch
    from torch import Tensor

SUM_TOLERANCE = 0.01
"""Largest difference of the sum of fractions from 1, which allows rounded percentages. Fractions
are rescaled to a sum of 1."""


def make_correction(
    priors: PriorSettings,
    model: str,
    names: Sequence[str],
    label_fractions: Sequence[float] | None,
) -> "Callable[[Tensor], Tensor]":
    """Return a function that corrects a model's logits for the given class priors.

    Args and errors are those of `make_shifts`.
    """
    wanted, seen = _check_model(priors, model, names, label_fractions)
    return partial(correct_logits, priors=wanted, label_fractions=seen, tau=priors.strength)


def make_shifts(
    priors: PriorSettings,
    model: str,
    names: Sequence[str],
    label_fractions: Sequence[float] | None,
) -> tuple[float, ...]:
    """Return what is added to a model's logits of each class for the given class priors.

    Args:
        priors: of all classes; see `check_priors`.
        model: name of the model, for messages.
        names: of its classes, in the order of their ids.
        label_fractions: fraction of each class in its training loss; None if they are not known.

    Raises:
        ValueError: the priors name other classes than the model has, or its label fractions are
            not known, or not above 0.
    """
    return shifts_of(*_check_model(priors, model, names, label_fractions), priors.strength)


def _check_model(
    priors: PriorSettings,
    model: str,
    names: Sequence[str],
    label_fractions: Sequence[float] | None,
) -> tuple[tuple[float, ...], Sequence[float]]:
    """Return priors and label fractions in the order of the classes; see `make_shifts`."""
    wanted = check_priors(priors.fractions, names)
    if label_fractions is None:
        raise ValueError(
            f"{model} does not hold the fraction of each class in training (label_fractions), so "
            f"priors cannot correct it: train it again (and export it again, if it is an ONNX "
            f"file), or omit priors"
        )
    pairs = zip(names, label_fractions, strict=True)
    unseen = [name for name, part in pairs if not 0 < part < math.inf]
    if unseen:
        raise ValueError(
            f"{model} was trained without labels of {unseen}, so priors cannot correct it: label "
            f"these classes and train it again, or omit priors"
        )
    return wanted, label_fractions


def parse_priors(text: str) -> dict[str, float]:
    """Parse fractions by class name, such as ``"field=0.6,forest=0.4"``.

    Raises:
        ValueError: a part is not a name with a number, or a name occurs twice.
    """
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.rpartition("="))
        try:
            fraction = float(number)
        except ValueError:
            fraction = math.nan
        if not name or math.isnan(fraction) or name in fractions:
            raise ValueError(
                f"--priors: got {part.strip()!r} in {text!r}, wanted each class once with its "
                f"fraction, such as field=0.6,forest=0.4"
            )
        fractions[name] = fraction
    return fractions


def check_priors(fractions: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """Return fractions of the area in the order of the classes, rescaled to a sum of 1.

    Args:
        fractions: of the area, by class name.
        names: of the classes, in the order of their ids.

    Raises:
        ValueError: a class is missing or unknown, a fraction is not above 0, or the sum is not 1.
    """
    if set(fractions) != set(names):
        errors = [
            f"{verb} {', '.join(sorted(wrong_names))}"
            for verb, wrong_names in (
                ("lack", set(names) - set(fractions)),
                ("name unknown", set(fractions) - set(names)),
            )
            if wrong_names
        ]
        raise ValueError(f"priors {' and '.join(errors)}: give {', '.join(names)} a fraction each")
    wrong = {name: part for name, part in fractions.items() if not 0 < part < math.inf}
    if wrong:
        raise ValueError(f"priors {wrong}: give each class a fraction above 0")
    total = sum(fractions.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"priors sum to {total:g}: give fractions of the area that sum to 1")
    return tuple(fractions[name] / total for name in names)


def shifts_of(
    priors: Sequence[float], label_fractions: Sequence[float], tau: float = 1.0
) -> tuple[float, ...]:
    """Return tau · log(prior / label fraction) of each class: Bayes' rule with the area's priors.

    This is the post-hoc correction of Menon et al. 2021, "Long-tail learning via logit adjustment".

    Args:
        priors: (C,) fraction of each class in the area, above 0.
        label_fractions: (C,) fraction of each class in the training loss, above 0.
        tau: strength of the correction; 0 changes nothing.

    Raises:
        ValueError: the numbers of values differ.
    """
    if len(priors) != len(label_fractions):
        raise ValueError(
            f"{len(priors)} priors and {len(label_fractions)} label fractions: wanted one of each "
            f"per class"
        )
    return tuple(tau * math.log(p / q) for p, q in zip(priors, label_fractions, strict=True))


def correct_logits(
    logits: "Tensor", priors: Sequence[float], label_fractions: Sequence[float], tau: float = 1.0
) -> "Tensor":
    """Add the shifts of `shifts_of` to logits (B, C, H, W).

    Raises:
        ValueError: the number of values differs from the number of classes.
    """
    import torch

    shifts = shifts_of(priors, label_fractions, tau)
    if len(shifts) != logits.shape[1]:
        raise ValueError(f"{len(shifts)} priors for {logits.shape[1]} classes: wanted one a class")
    return logits + torch.tensor(shifts, dtype=logits.dtype, device=logits.device)[:, None, None]
