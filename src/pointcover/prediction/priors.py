"""Priors: correct predictions where classes are more or less frequent than in training."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from pointcover.prediction.settings import PriorSettings

SUM_TOLERANCE = 0.01
"""The sum of given fractions may differ from 1 by this much, as rounded percentages do; they are
rescaled."""


def make_correction(
    priors: PriorSettings,
    model: str,
    names: Sequence[str],
    label_fractions: Sequence[float] | None,
) -> Callable[[Tensor], Tensor]:
    """Return a function that corrects a model's logits from learned to given class priors.

    Args:
        priors: of all classes; see `check_priors`.
        model: what it is called, for messages.
        names: of its classes, in the order of their ids.
        label_fractions: of its training loss, one a class; None where they are not known.

    Raises:
        ValueError: the priors name other classes than the model, or its label fractions are not
            known, or not above 0.
    """
    wanted = check_priors(priors.fractions, names)
    if label_fractions is None:
        raise ValueError(
            f"{model} does not hold the fraction of each class in training (label_shares), so "
            f"priors cannot correct it: train it again, and export it again where it is an "
            f"ONNX file, or leave priors out"
        )
    pairs = zip(names, label_fractions, strict=True)
    unseen = [name for name, part in pairs if not 0 < part < math.inf]
    if unseen:
        raise ValueError(
            f"{model} learned from no label of {unseen}, so priors cannot correct it: label "
            f"some and train it again, or leave priors out"
        )
    return partial(
        correct_logits, priors=wanted, label_fractions=label_fractions, tau=priors.strength
    )


def parse_priors(text: str) -> dict[str, float]:
    """Turn ``"field=0.6,forest=0.4"`` into fractions by class name.

    Raises:
        ValueError: a part is no name with a number, or names a class a second time.
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
    """Put given fractions of the area into the order of the classes, with a sum of 1.

    Args:
        fractions: class name to fraction of the area.
        names: of the classes, in the order of their ids.

    Raises:
        ValueError: a class is missing or unknown, a fraction is not above 0, or the sum is not 1.
    """
    if set(fractions) != set(names):
        faults = [
            f"{verb} {', '.join(sorted(faulty))}"
            for verb, faulty in (
                ("lack", set(names) - set(fractions)),
                ("name unknown", set(fractions) - set(names)),
            )
            if faulty
        ]
        raise ValueError(f"priors {' and '.join(faults)}: give {', '.join(names)} a fraction each")
    wrong = {name: part for name, part in fractions.items() if not 0 < part < math.inf}
    if wrong:
        raise ValueError(f"priors {wrong}: give each class a fraction above 0")
    total = sum(fractions.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"priors sum to {total:g}: give fractions of the area that sum to 1")
    return tuple(fractions[name] / total for name in names)


def correct_logits(
    logits: Tensor, priors: Sequence[float], label_fractions: Sequence[float], tau: float = 1.0
) -> Tensor:
    """Add tau · log(prior / label fraction): Bayes' rule with the priors of the area mapped.

    After Menon et al. 2021, "Long-tail learning via logit adjustment", post-hoc.

    Args:
        logits: (B, C, H, W).
        priors: fraction of the area, one a class, above 0.
        label_fractions: fraction of the training loss, one a class, above 0.
        tau: strength of the correction; 0 changes nothing.

    Returns:
        Logits of the same shape and type.

    Raises:
        ValueError: not one value a class.
    """
    classes = logits.shape[1]
    if len(priors) != classes or len(label_fractions) != classes:
        raise ValueError(
            f"{len(priors)} priors and {len(label_fractions)} label fractions for {classes} "
            f"classes: wanted one of each per class"
        )
    shifts = [tau * math.log(p / q) for p, q in zip(priors, label_fractions, strict=True)]
    return logits + torch.tensor(shifts, dtype=logits.dtype, device=logits.device)[:, None, None]
