"""Acquisition functions by name: how uncertain networks are of each pixel.

To add one, write one function and add one line to `ACQUISITIONS`. Each imports torch itself, so
that settings can name them without it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

Networks = Sequence[Callable[[Any], Any]]
"""Each turns images (B, bands, H, W) into logits (B, C, H, W); several are an ensemble."""

Score = Callable[[Any], Any]
"""Images (B, bands, H, W) → (B, C + 1, H, W) float32: class probabilities, and in the last channel
uncertainties from 0 to 1."""

AcquisitionFunction = Callable[[Networks, bool], Score]
"""Networks, and whether eight turned and flipped views of each image are taken → their score."""


def margin(networks: Networks, average_views: bool) -> Score:
    """Score by a small margin between the probabilities of the two most probable classes."""
    from pointcover.active.uncertainty import margin_of, score_uncertainty

    return score_uncertainty(networks, margin_of, average_views=average_views)


def entropy(networks: Networks, average_views: bool) -> Score:
    """Score by a high entropy of the class probabilities."""
    from pointcover.active.uncertainty import score_uncertainty
    from pointcover.prediction.sliding_window import entropy_of

    return score_uncertainty(networks, entropy_of, average_views=average_views)


def disagreement(networks: Networks, average_views: bool) -> Score:
    """Score by the disagreement of several models, or of the eight views.

    Raises:
        ValueError: there is one view of one network.
    """
    from pointcover.active.uncertainty import score_disagreement

    if len(networks) < 2 and not average_views:
        raise ValueError(
            "acquisition 'disagreement' compares several models or views, got one view of one "
            "model: add models with --also, or take eight views with --tta, or choose margin or "
            "entropy"
        )
    return score_disagreement(networks, by_views=average_views)


ACQUISITIONS: Final[dict[str, AcquisitionFunction]] = {
    "margin": margin,
    "entropy": entropy,
    "disagreement": disagreement,
}
