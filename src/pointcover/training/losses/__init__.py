"""Losses on sparse masks. A loss is one function and one line of LOSSES."""

from typing import TYPE_CHECKING, Final

from pointcover.training.choice import Choice

if TYPE_CHECKING:  # settings are validated without torch, which takes seconds to import
    from pointcover.training.losses.partial import Loss

FOCAL_GAMMA: Final = 2.0
"""Of the focal loss where the settings have none: that of its paper."""


def cross_entropy(class_weights: tuple[float, ...] | None, *, label_smoothing: float) -> "Loss":
    """Return partial cross-entropy."""
    from pointcover.training.losses.partial import PartialLoss

    return PartialLoss(class_weights=class_weights, label_smoothing=label_smoothing)


def focal(
    class_weights: tuple[float, ...] | None, *, label_smoothing: float, gamma: float | None
) -> "Loss":
    """Return the partial focal loss (Lin et al. 2017), which weights easy pixels less."""
    from pointcover.training.losses.partial import PartialLoss

    return PartialLoss(FOCAL_GAMMA if gamma is None else gamma, class_weights, label_smoothing)


LOSSES: Final[dict[str, "Choice[Loss]"]] = {
    "cross_entropy": Choice(cross_entropy, ("label_smoothing",)),
    "focal": Choice(focal, ("label_smoothing", "gamma")),
}
"""All losses. Each function takes one weight a class, or None, and its options."""
