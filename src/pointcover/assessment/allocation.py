"""How the points of a stratified sample are allocated to the strata."""

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:  # settings are read without numpy, for the help of the command line
    import numpy as np
    import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"

SIMPLE: Final = "simple"
"""The choice that has one stratum: a simple random sample."""

Allocation: TypeAlias = "Callable[[Floats, Floats], Floats]"
"""From the weights of the strata (their proportion of the area) and the standard deviations that
are expected in them, to values that are proportional to their points."""


def proportional(weights: Floats, deviations: Floats) -> Floats:
    """Return as many points as the stratum has area."""
    return weights


def equal(weights: Floats, deviations: Floats) -> Floats:
    """Return the same number of points for each stratum."""
    return 0 * weights + 1


def neyman(weights: Floats, deviations: Floats) -> Floats:
    """Return the allocation that gives the shortest interval, where the deviations are right."""
    return weights * deviations


ALLOCATIONS: Final = MappingProxyType(
    {"proportional": proportional, "equal": equal, "neyman": neyman, SIMPLE: proportional}
)
