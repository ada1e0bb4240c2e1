"""Optimisers. Each is one function and one line of OPTIMISERS."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pointcover.training.choice import Choice

if TYPE_CHECKING:  # settings are validated without torch, which takes seconds to import
    from torch import nn
    from torch.optim import Optimizer

    Weights = Iterable[nn.Parameter]


def adamw(weights: "Weights", **options: Any) -> "Optimizer":
    """Return AdamW (Loshchilov and Hutter 2019), whose weight decay is decoupled."""
    from torch.optim import AdamW

    return AdamW(weights, **options)


def adam(weights: "Weights", **options: Any) -> "Optimizer":
    """Return Adam (Kingma and Ba 2015)."""
    from torch.optim import Adam

    return Adam(weights, **options)


def sgd(weights: "Weights", **options: Any) -> "Optimizer":
    """Return stochastic gradient descent with momentum."""
    from torch.optim import SGD

    return SGD(weights, **options)


OPTIMISERS: Final[dict[str, "Choice[Optimizer]"]] = {
    "adamw": Choice(adamw, ("lr", "weight_decay")),
    "adam": Choice(adam, ("lr", "weight_decay")),
    "sgd": Choice(sgd, ("lr", "weight_decay", "momentum", "nesterov")),
}
"""All optimisers. Each function takes the weights, `fused` and its options."""


def make_optimiser(settings: Any, weights: "Weights", *, is_on_gpu: bool) -> "Optimizer":
    """Return the optimiser that `train` chooses; on a GPU, one kernel updates all weights."""
    # None leaves the choice to torch: False would take the slowest loop on a GPU as well.
    fused = True if is_on_gpu else None
    return OPTIMISERS[settings.optimiser].call(settings, weights, fused=fused)
