"""Priors: how common classes are on the ground, where labels were not drawn in that measure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

SUM_TOLERANCE = 0.01
"""Given shares may miss 1 by this much, as rounded per cents do; they are rescaled."""


@dataclass(frozen=True)
class Priors:
    """How common classes are on the ground, and how far predictions follow that."""

    shares: Mapping[str, float]
    """By class name, of all classes; see `check_priors`."""
    strength: float = 1.0
    """1 is Bayes' rule, 0 changes nothing."""

    def correction(
        self, model: str, names: Sequence[str], label_shares: Sequence[float] | None
    ) -> Callable[[Tensor], Tensor]:
        """Return a function that corrects a model's logits from learned to given class priors.

        Args:
            model: what it is called, for messages.
            names: of its classes, in the order of their ids.
            label_shares: of its training's loss, one a class; None where they are not known.

        Raises:
            ValueError: the priors name other classes than the model, or its label shares are not
                known, or not above 0.
        """
        priors = check_priors(self.shares, names)
        if label_shares is None:
            raise ValueError(
                f"{model} does not say which shares its classes had in training (label_shares), so "
                f"priors cannot correct it: train it again, and export it again where it is an "
                f"ONNX file, or leave priors out"
            )
        pairs = zip(names, label_shares, strict=True)
        unseen = [name for name, share in pairs if not 0 < share < math.inf]
        if unseen:
            raise ValueError(
                f"{model} learned from no label of {unseen}, so priors cannot correct it: label "
                f"some and train it again, or leave priors out"
            )
        return partial(correct_logits, priors=priors, label_shares=label_shares, tau=self.strength)


def parse_shares(text: str) -> dict[str, float]:
    """Turn ``"field=0.6,forest=0.4"`` into shares by class name.

    Raises:
        ValueError: a part is no name with a number, or names a class a second time.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.rpartition("="))
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not name or math.isnan(share) or name in shares:
            raise ValueError(
                f"--priors: got {part.strip()!r} in {text!r}, wanted each class once with its "
                f"share, such as field=0.6,forest=0.4"
            )
        shares[name] = share
    return shares


def check_priors(shares: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """Put given shares of the ground into the order of the classes, with a sum of 1.

    Args:
        shares: class name to share of the ground.
        names: of the classes, in the order of their ids.

    Raises:
        ValueError: a class is missing or unknown, a share is not above 0, or the sum is not 1.
    """
    if set(shares) != set(names):
        faults = [
            f"{verb} {', '.join(sorted(faulty))}"
            for verb, faulty in (
                ("lack", set(names) - set(shares)),
                ("name unknown", set(shares) - set(names)),
            )
            if faulty
        ]
        raise ValueError(f"priors {' and '.join(faults)}: give each of {', '.join(names)} a share")
    wrong = {name: share for name, share in shares.items() if not 0 < share < math.inf}
    if wrong:
        raise ValueError(f"priors {wrong}: give each class a share above 0")
    total = sum(shares.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"priors sum to {total:g}: give shares of the ground that sum to 1")
    return tuple(shares[name] / total for name in names)


def correct_logits(
    logits: Tensor, priors: Sequence[float], label_shares: Sequence[float], tau: float = 1.0
) -> Tensor:
    """Add tau · log(prior / label share): Bayes' rule with the ground's shares for the labels'.

    After Menon et al. 2021, "Long-tail learning via logit adjustment", post-hoc.

    Args:
        logits: (B, C, H, W).
        priors: share of the ground, one a class, above 0.
        label_shares: share of the training's loss, one a class, above 0.
        tau: how far to go; 0 changes nothing.

    Returns:
        Logits of the same shape and type.

    Raises:
        ValueError: not one share a class.
    """
    classes = logits.shape[1]
    if len(priors) != classes or len(label_shares) != classes:
        raise ValueError(
            f"{len(priors)} priors and {len(label_shares)} label shares for {classes} classes: "
            "give one of both a class"
        )
    shifts = [tau * math.log(p / q) for p, q in zip(priors, label_shares, strict=True)]
    return logits + torch.tensor(shifts, dtype=logits.dtype, device=logits.device)[:, None, None]
