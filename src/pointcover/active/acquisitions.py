"""Acquisition functions by name, which score the uncertainty of each pixel.

To add one, write a function and add a line to `ACQUISITIONS`. Functions import torch themselves, so
that settings can use their names without importing it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

Networks = Sequence[Callable[[Any], Any]]
"""One network or an ensemble; each maps images (B, bands, H, W) to logits (B, C, H, W)."""

Score = Callable[[Any], Any]
"""Images (B, bands, H, W) → (B, C + 1, H, W) float32: class probabilities, and in the last channel
the uncertainty from 0 to 1."""

AcquisitionFunction = Callable[[Networks, bool], Score]
"""Networks, and whether eight rotated and flipped views of each image are predicted → a score."""


def margin(networks: Networks, average_views: bool) -> Score:
    """Return a score by the margin between the two most probable classes."""
    from pointcover.active.uncertainty import margin_of, score_uncertainty

    return score_uncertainty(networks, margin_of, average_views=average_views)


def entropy(networks: Networks, average_views: bool) -> Score:
    """Return a score by the entropy of the class probabilities."""
    from pointcover.active.uncertainty import score_uncertainty
    from pointcover.prediction.window_inference import entropy_of

    return score_uncertainty(networks, entropy_of, average_views=average_views)


def confidence(networks: Networks, average_views: bool) -> Score:
    """Return a score that is high where the margin is large: where errors are confident ones."""
    from pointcover.active.uncertainty import confidence_of, score_uncertainty

    return score_uncertainty(networks, confidence_of, average_views=average_views)


def disagreement(networks: Networks, average_views: bool) -> Score:
    """Return a score by the disagreement of several models, or of eight views.

    Raises:
        ValueError: there is only one view of one network.
    """
    from pointcover.active.uncertainty import score_disagreement

    if len(networks) < 2 and not average_views:
        raise ValueError(
            "acquisition 'disagreement' compares several models or views, got one view of one "
            "model: add models with --also, or use eight views with --tta, or choose margin or "
            "entropy"
        )
    return score_disagreement(networks, by_views=average_views)


ACQUISITIONS: Final[dict[str, AcquisitionFunction]] = {
    "margin": margin,
    "entropy": entropy,
    "disagreement": disagreement,
    "confidence": confidence,
}
