"""Label propagation: labelling further pixels of a tile from its clicks, before training.

A propagator proposes labels from a tile's clicks and image; `propagate` accepts those that are
allowed. So these guarantees hold for every propagator:

- a clicked pixel keeps its class and has full confidence;
- nothing is labelled where the image has no data, nor from a click there, which is kept;
- no class appears that was not clicked, and a tile without clicks gets no labels;
- confidence is 0 exactly where there is no label;
- the same input gives the same output, and is not changed.

To add a propagator, write one function and add one line to `PROPAGATORS`. If it has settings, write
their class in `settings.py` and add it to `AnnotateSettings` as a field of the propagator's name.
It imports large libraries inside: params.yaml is checked against this registry before they are
needed.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pointcover.annotation.propagation.base import ClickedTile, Propagator, Proposal
from pointcover.annotation.propagation.geodesic import geodesic
from pointcover.annotation.propagation.linking import link
from pointcover.annotation.propagation.nearest import nearest
from pointcover.annotation.propagation.random_walker import random_walker
from pointcover.annotation.propagation.superpixels import superpixel
from pointcover.labels import IGNORE_INDEX, Mask

__all__ = ["CLICKED", "PROPAGATED", "PROPAGATORS", "propagate", "tell_sources"]

FULL_CONFIDENCE: Final = 255
"""The confidence of a click, and the unit of confidence: 255 stands for 1."""

UNLABELLED: Final = 0
CLICKED: Final = 1
PROPAGATED: Final = 2


def none(tile: ClickedTile, settings: None) -> Proposal:
    """Propagate nothing: training uses the clicks alone."""
    shape = tile.clicks.shape
    return Proposal(np.full(shape, IGNORE_INDEX, np.uint8), np.zeros(shape, np.float32))


PROPAGATORS: Final[dict[str, Propagator]] = {
    "none": none,
    "link": link,
    "nearest": nearest,
    "superpixel": superpixel,
    "geodesic": geodesic,
    "random_walker": random_walker,
}


@dataclass(frozen=True)
class Propagated:
    """The labels of a tile after propagation.

    Attributes:
        mask: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled: clicks and propagated
            labels.
        confidence: (H, W) uint8, in units of 1/255: 0 exactly where unlabelled, 255 at clicks,
            1 to 255 at propagated labels; its meaning depends on the propagator.
    """

    mask: Mask
    confidence: npt.NDArray[np.uint8]


def propagate(tile: ClickedTile, name: str, settings: Any) -> Propagated:
    """Propagate the clicks of one tile.

    Args:
        tile: its clicks and image; stays as it is.
        name: of a propagator in `PROPAGATORS`.
        settings: the propagator's own, None where it has none.
    """
    # Row-major, or the flat views below would be copies.
    clicks, valid = np.ascontiguousarray(tile.clicks), np.ascontiguousarray(tile.valid)
    clicked = clicks != IGNORE_INDEX
    mask, confidence = clicks.copy(), clicked * np.uint8(FULL_CONFIDENCE)
    free = valid & ~clicked
    seeds = clicks | (~valid * np.uint8(IGNORE_INDEX))
    if free.any() and (seeds != IGNORE_INDEX).any():
        proposal = PROPAGATORS[name](replace(tile, clicks=seeds, valid=valid), settings)
        np.copyto(mask, proposal.ids, where=free)
        added = np.flatnonzero((proposal.ids != IGNORE_INDEX) & free)
        fractions = proposal.confidence.ravel()[added]
        confidence.ravel()[added] = np.maximum(np.rint(FULL_CONFIDENCE * fractions), 1)
    return Propagated(mask, confidence)


def tell_sources(clicks: Mask, mask: Mask) -> npt.NDArray[np.uint8]:
    """Tell the source of each label of a sparse mask.

    Args:
        clicks: sparse mask of the clicks, (H, W) uint8.
        mask: clicks and propagated labels, (H, W) uint8.

    Returns:
        (H, W) uint8: 0 (`UNLABELLED`), 1 (`CLICKED`) or 2 (`PROPAGATED`).

    Raises:
        ValueError: the mask has another shape, or lacks or contradicts a click.
    """
    clicked = clicks != IGNORE_INDEX
    if mask.shape != clicks.shape or not np.array_equal(mask[clicked], clicks[clicked]):
        raise ValueError(
            f"the mask of shape {mask.shape} was not propagated from these clicks of shape "
            f"{clicks.shape}: pass the clicks, and then the mask that `propagate` made of them"
        )
    sources = np.where(mask != IGNORE_INDEX, np.uint8(PROPAGATED), np.uint8(UNLABELLED))
    sources[clicked] = CLICKED
    return sources
