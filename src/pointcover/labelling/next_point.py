"""Choose the points of a view that are worth most, by the acquisition functions of `active`.

Of few labels a classifier often predicts the wrong class, so a balance over predicted classes
begins later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import shapely
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointcover.active.select import (
    Candidates,
    Squares,
    Turns,
    best_of_strip,
    choose,
    draw_priorities,
    join,
    make_score_of_queries,
)
from pointcover.active.settings import ImageQuerySettings
from pointcover.active.uncertainty import Uncertainties
from pointcover.labelling.live_classifier import mean_of
from pointcover.labelling.point_log import Record
from pointcover.labelling.polygons import to_polygon
from pointcover.labelling.settings import LabelSettings
from pointcover.labelling.view import BlockKey, ViewMap
from pointcover.labels import IGNORE_INDEX

COUNT: Final = 12
"""Suggested points at a time."""

SQUARE_PX: Final = 8
"""Side of the squares of which one pixel is considered."""


@dataclass(frozen=True)
class NextPoint:
    """A point that is suggested."""

    x: float
    """Columns from the left edge of the image, in pixels."""
    y: float
    predicted: str
    uncertainty: float


def choose_next(
    scored: tuple[ViewMap, Sequence[tuple[BlockKey, Tensor, int]]],
    taken: Sequence[Record],
    labelled: Mapping[str, int],
    settings: LabelSettings,
) -> list[NextPoint]:
    """Choose points of the view, apart from each other.

    With few labels they are uncertain ones of the whole view. Later they are uncertain ones of
    each predicted class, and those of the class with the fewest labels come first.

    Args:
        scored: the map of the view, and the scores of its blocks.
        taken: labels of the image, and suggestions that were passed over.
        labelled: number of labels of each class, in all images.
        settings: of the project.

    Raises:
        ValueError: the acquisition function is not known.
    """
    shown, blocks = scored
    scale = 1 << shown.level
    by_class = sum(labelled.values()) >= settings.balanced_from * len(shown.names)
    points = [(one.y / scale, one.x / scale) for one in taken if not one.shape]
    near = cKDTree(points) if points else None
    found: list[Candidates] = []
    for key, scores, step in blocks:
        if (key.image, key.level) == (shown.image, shown.level):
            found.append(_search(shown, (key, scores, step), settings))
    if not found:
        return []
    joined = join(found)
    if near is not None and len(joined.rows):
        distances, _ = near.query(np.stack([joined.rows, joined.cols], axis=1))
        joined = joined.take(np.flatnonzero(distances >= settings.distance_px))
    for polygon in [to_polygon(one.shape) for one in taken if one.shape]:
        shapely.prepare(polygon)
        places = shapely.points((joined.cols + 0.5) * scale, (joined.rows + 0.5) * scale)
        is_near = shapely.dwithin(polygon, places, settings.distance_px * scale)
        joined = joined.take(np.flatnonzero(~is_near))
    generator = np.random.default_rng([settings.seed, len(taken)])
    ranked = draw_priorities(joined, settings.top_fraction, generator, by_class=by_class)
    chosen = choose([ranked], COUNT, settings.distance_px, Turns(classes=by_class))
    if by_class:
        chosen.sort(key=lambda one: labelled.get(shown.names[one.class_id], 0))
    return [
        NextPoint(
            (one.col + 0.5) * scale,
            (one.row + 0.5) * scale,
            shown.names[one.class_id],
            round(one.uncertainty, 3),
        )
        for one in chosen
    ]


def _search(
    shown: ViewMap, block: tuple[BlockKey, Tensor, int], settings: LabelSettings
) -> Candidates:
    """Return the most uncertain pixels of the squares of a block, by predicted class."""
    key, scores, step = block
    classes = scores.shape[1]
    networks: list[Callable[[Tensor], Any]]
    if settings.acquisition == "disagreement":
        logs = scores.flatten(0, 1)[None].float()
        networks = [
            partial(_part, first=first, count=classes) for first in range(0, logs.shape[1], classes)
        ]
    else:
        logs, networks = mean_of(scores)[None], [torch.nn.Identity()]
    edges = ImageQuerySettings(edge_px=-(-settings.edge_px // step))
    score = make_score_of_queries(networks, settings.acquisition, edges)
    strip = Uncertainties().encode(score(logs))[0].numpy().copy()
    extent = shown.extent
    top, left = _start(shown, key, settings.block_px)
    rows = slice(top, top + strip.shape[1] * step, step)
    cols = slice(left, left + strip.shape[2] * step, step)
    if top < 0 or left < 0 or top >= extent.height or left >= extent.width:
        strip[1] = IGNORE_INDEX
    else:
        known = shown.class_ids[rows, cols]
        strip[1, : known.shape[0], : known.shape[1]][known == IGNORE_INDEX] = IGNORE_INDEX
    squares = Squares(max(1, SQUARE_PX // step), True, np.random.default_rng(settings.seed))
    rows_in, cols_in, values, ids = best_of_strip(strip, 0, squares)
    return Candidates(
        (rows_in * step + key.row * settings.block_px).astype(np.int32),
        (cols_in * step + key.col * settings.block_px).astype(np.int32),
        values,
        ids,
        values,
    )


def _start(shown: ViewMap, key: BlockKey, block_px: int) -> tuple[int, int]:
    """Return row and column of a block in the map."""
    return key.row * block_px - shown.extent.top, key.col * block_px - shown.extent.left


def _part(logs: Tensor, first: int, count: int) -> Tensor:
    return logs[:, first : first + count]
