"""Geodesic propagation: the nearest click by a path on which differences of colour are costs."""

from typing import TYPE_CHECKING

import numpy as np

from pointcover.annotation.propagation.base import ClickedTile, Proposal
from pointcover.annotation.propagation.coarse import CoarseTile, coarsen, refine
from pointcover.annotation.propagation.settings import GeodesicSettings
from pointcover.labels import IGNORE_INDEX

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of the eight, as (row, column): the graph is undirected."""


def geodesic(tile: ClickedTile, settings: GeodesicSettings) -> Proposal:
    """Label each pixel with the class of the click at the least geodesic distance.

    The geodesic distance of Criminisi, Sharp and Blake (GeoS, ECCV 2008), exact on the graph of
    the eight neighbours: a step of length s in pixels, on which the colour changes by d (root of
    the mean square over the bands, 1 from black to white), is √(s² + (contrast_px · d)²) long.

    - Paths lead over cells of `cell_px`, from the centre of the click's cell to that of the
      pixel's, and around cells without data. Clicks of several classes in one cell are ignored.
    - Paths of at most `limit_px` count.
    - Where paths from two classes are equally long, one of them is chosen, always the same.
    - The confidence falls linearly from 1 at a click to ½ at the limit.
    """
    from scipy.sparse.csgraph import dijkstra

    cells = coarsen(tile, settings.cell_px)
    ids = np.full(cells.clicks.size, IGNORE_INDEX, np.uint8)
    confidence = np.zeros(ids.shape, np.float32)
    seeds = np.flatnonzero(cells.clicks != IGNORE_INDEX)
    if seeds.size:
        distance, _, nearest = dijkstra(
            _graph(cells, settings),
            directed=False,
            indices=seeds,
            min_only=True,
            limit=settings.limit_px,
            return_predecessors=True,
        )
        reached = np.isfinite(distance)
        ids[reached] = cells.clicks.ravel()[nearest[reached]]
        confidence[reached] = 1 - distance[reached] / (2 * settings.limit_px)
    return Proposal(
        *(
            refine(values.reshape(cells.clicks.shape), settings.cell_px, tile.clicks.shape)
            for values in (ids, confidence)
        )
    )


def _graph(tile: CoarseTile, settings: GeodesicSettings) -> "csr_array":
    """Compute the length of the step between any two neighbouring cells with data.

    Returns:
        (cells, cells), each step in one direction only.
    """
    from scipy.sparse import coo_array

    height, width = tile.clicks.shape
    number = np.arange(height * width, dtype=np.int32).reshape(height, width)
    starts, ends, lengths = [], [], []
    for down, right in _NEIGHBOURS:
        start = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        end = (slice(down, height), slice(max(0, right), width - max(0, -right)))
        change = tile.image[(slice(None), *end)] - tile.image[(slice(None), *start)]
        square = np.square(change).mean(axis=0) * settings.contrast_px**2
        square += settings.cell_px**2 * (down**2 + right**2)
        open_ = tile.valid[start] & tile.valid[end]
        starts.append(number[start][open_])
        ends.append(number[end][open_])
        lengths.append(np.sqrt(square[open_]))
    steps = (np.concatenate(starts), np.concatenate(ends))
    return coo_array((np.concatenate(lengths), steps), shape=(number.size, number.size)).tocsr()
