"""Priors: how common classes are on the ground, where labels were not drawn in that measure."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SUM_TOLERANCE = 0.01
"""Given shares may miss 1 by this much, as rounded per cents do; they are rescaled."""


def check_priors(shares: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """Put given shares of the ground into the order of the classes, with a sum of 1.

    Args:
        shares: class name to share of the ground.
        names: of the classes, in the order of their ids.

    Raises:
        ValueError: a class is missing or unknown, a share is not above 0, or the sum is not 1.
    """
    if set(shares) != set(names):
        missing, unknown = sorted(set(names) - set(shares)), sorted(set(shares) - set(names))
        raise ValueError(
            f"priors lack {missing} and name unknown {unknown}: give each of {list(names)} a share"
        )
    wrong = {name: share for name, share in shares.items() if not 0 < share < math.inf}
    if wrong:
        raise ValueError(f"priors {wrong}: give each class a share above 0")
    total = sum(shares.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"priors sum to {total:g}: give shares of the ground that sum to 1")
    return tuple(shares[name] / total for name in names)


def count_shares(pixels: Sequence[int], names: Sequence[str]) -> tuple[float, ...]:
    """Turn counts of labelled pixels, one a class, into shares.

    Raises:
        ValueError: a class has no labelled pixel, so nothing was learned that could be corrected.
    """
    if len(pixels) != len(names):
        raise ValueError(f"{len(pixels)} counts for {len(names)} classes: give one a class")
    empty = [name for name, count in zip(names, pixels, strict=True) if count <= 0]
    if empty:
        raise ValueError(f"no labelled pixel of {empty}: label some, or leave priors uncorrected")
    return tuple(count / sum(pixels) for count in pixels)


def correct_logits(
    logits: Tensor, priors: Sequence[float], label_shares: Sequence[float], tau: float = 1.0
) -> Tensor:
    """Add tau · log(prior / label share): Bayes' rule with the ground's shares for the labels'.

    After Menon et al. 2021, "Long-tail learning via logit adjustment", post-hoc.

    Args:
        logits: (B, C, H, W).
        priors: share of the ground, one a class, above 0.
        label_shares: share of the training labels, one a class, above 0.
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
