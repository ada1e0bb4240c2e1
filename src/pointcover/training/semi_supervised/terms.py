"""The semi-supervised terms of the loss. A term is one class and one line of TERMS."""

from collections.abc import Callable
from typing import Any, Final

from pointcover.training.semi_supervised.consistency import Consistency
from pointcover.training.semi_supervised.gated_crf import GatedCrf
from pointcover.training.semi_supervised.term import Term
from pointcover.training.settings import TrainSettings

TERMS: Final[dict[str, Callable[[Any], Term]]] = {"crf": GatedCrf, "consistency": Consistency}
"""All terms, by the section of `train` that has their settings."""


def active_terms(settings: TrainSettings) -> tuple[Term, ...]:
    """Return the terms with a weight above 0."""
    terms = [make(getattr(settings, section)) for section, make in TERMS.items()]
    return tuple(term for term in terms if term.weight > 0)
