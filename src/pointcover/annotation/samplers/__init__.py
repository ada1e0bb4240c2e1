"""Sampling strategies: which pixels of a densely labelled tile a simulated annotator clicks.

A sampler chooses the pixels of clicks in a tile, a unit their number. Every sampler guarantees that
clicks lie on labelled pixels, that no pixel is clicked twice, and that budgets nest: from
generators in the same state, the clicks of a smaller budget are the first of every larger one.

To add a sampler, write one function and add one line to `SAMPLERS`. The function imports large
libraries itself, since params.yaml is validated against this registry before they are loaded.
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
