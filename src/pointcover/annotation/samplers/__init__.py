"""Sampling strategies: which pixels of a densely labelled tile a simulated annotator clicks.

A sampler decides where in a tile the clicks fall, a unit how many there are. Every sampler
guarantees that clicks lie on labelled pixels, that no pixel is clicked twice, and that budgets
nest: from generators in the same state, the clicks of a smaller budget are the first of every
larger one.

To add a sampler, write one function and add one line to `SAMPLERS`. It imports large libraries
inside: params.yaml is checked against this registry before they are needed.
"""

from typing import Final

from pointcover.annotation.samplers.annotator import Sampler
from pointcover.annotation.samplers.budgets import UNITS
from pointcover.annotation.samplers.drawing import dense, equal, positive, proportional, uniform
from pointcover.annotation.samplers.scribbles import scribbles
from pointcover.annotation.samplers.spacing import boundary, interior, spread

__all__ = ["SAMPLERS", "UNITS"]

SAMPLERS: Final[dict[str, Sampler]] = {
    "uniform": uniform,
    "equal": equal,
    "proportional": proportional,
    "spread": spread,
    "boundary": boundary,
    "interior": interior,
    "scribbles": scribbles,
    "positive": positive,
    "dense": dense,
}
