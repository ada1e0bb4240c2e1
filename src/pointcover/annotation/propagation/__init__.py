"""Ways from clicks to areas: labelling further pixels of a tile before training.

A grower takes a sparse mask, the tile's image, where that has data, and its own settings, and
returns a sparse mask with at least the same labels and how sure each is. All growers keep the
same promises:

- a clicked pixel keeps its class whatever grows over it, and has full confidence;
- nothing grows where the image has no data, nor from a click there, which stays all the same;
- no class appears that was not clicked, and nothing grows where nothing was clicked;
- confidence is 0 exactly where no label is;
- the same input gives the same output, and stays as it is.

To add a grower, write one function that proposes what to label, with a frozen dataclass of its
settings, and add one line to `GROWERS`: `contract.Grower` sees to the promises.
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
    Grower,
    Grown,
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


GROWERS: Final[dict[str, Grower[Any]]] = {
    "none": Grower(none, NoSettings),
    "link": Grower(link, LinkSettings),
    "nearest": Grower(nearest, NearestSettings),
    "superpixel": Grower(superpixel, SuperpixelSettings),
    "geodesic": Grower(geodesic, GeodesicSettings),
    "random_walker": Grower(random_walker, WalkerSettings),
}

__all__ = [
    "CLICKED",
    "GROWERS",
    "GROWN",
    "SURE",
    "UNLABELLED",
    "GeodesicSettings",
    "Grower",
    "Grown",
    "LinkSettings",
    "NearestSettings",
    "NoSettings",
    "Proposal",
    "SuperpixelSettings",
    "WalkerSettings",
    "mark_sources",
]
