"""Samplers of a search. Each is one function and one line of SAMPLERS. Optuna loads with one."""

from collections.abc import Callable
from typing import Any, Final


def tpe(seed: int) -> Any:
    """Return a tree-structured Parzen estimator (Bergstra et al. 2011), random for ten trials.

    Trials that run beside others are chosen as if those had scored badly.
    """
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, constant_liar=True, multivariate=False)


def random(seed: int) -> Any:
    """Return a sampler of random values."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS: Final[dict[str, Callable[[int], Any]]] = {"tpe": tpe, "random": random}
"""All samplers."""
