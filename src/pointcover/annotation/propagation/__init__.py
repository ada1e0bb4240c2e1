"""Ways from clicks to areas: labelling further pixels of a tile before training.

A propagator takes a sparse mask, the tile's image, where that has data, and its own settings, and
returns a sparse mask with at least the same labels and how sure each is. All propagators keep the
same promises:

- a clicked pixel keeps its class whatever grows over it, and has full confidence;
- nothing grows where the image has no data, nor from a click there, which stays all the same;
- no class appears that was not clicked, and nothing grows where nothing was clicked;
- confidence is 0 exactly where no label is;
- the same input gives the same output, and stays as it is.

To add a propagator, write one function that proposes what to label, with a frozen dataclass of its
settings, and add one line to `PROPAGATORS`: `contract.Propagator` sees to the promises.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pointcover.annotation.propagation.base import (
    CLICKED,
    GROWN,
    SURE,
    UNLABELLED,
    Flags,
    Grown,
    Propagator,
    Proposal,
    mark_sources,
)
from pointcover.annotation.propagation.geodesic import GeodesicSettings, geodesic
from pointcover.annotation.propagation.linking import LinkSettings, link
from pointcover.annotation.propagation.nearest import NearestSettings, nearest
from pointcover.annotation.propagation.random_walker import WalkerSettings, random_walker
from pointcover.annotation.propagation.superpixels import SuperpixelSettings, superpixel
from pointcover.labels import IGNORE_INDEX, Image, Mask


@dataclass(frozen=True)
class NoSettings:
    """Nothing to set."""


def none(clicks: Mask, image: Image, valid: Flags, settings: NoSettings) -> Proposal:
    """Grow nothing: train on the clicks alone."""
    return Proposal(np.full_like(clicks, IGNORE_INDEX), np.zeros(clicks.shape, np.float32))


PROPAGATORS: Final[dict[str, Propagator[Any]]] = {
    "none": Propagator(none, NoSettings),
    "link": Propagator(link, LinkSettings),
    "nearest": Propagator(nearest, NearestSettings),
    "superpixel": Propagator(superpixel, SuperpixelSettings),
    "geodesic": Propagator(geodesic, GeodesicSettings),
    "random_walker": Propagator(random_walker, WalkerSettings),
}

__all__ = [
    "CLICKED",
    "GROWN",
    "PROPAGATORS",
    "SURE",
    "UNLABELLED",
    "GeodesicSettings",
    "Grown",
    "LinkSettings",
    "NearestSettings",
    "NoSettings",
    "Propagator",
    "Proposal",
    "SuperpixelSettings",
    "WalkerSettings",
    "mark_sources",
]
