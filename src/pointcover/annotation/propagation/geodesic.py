"""Geodesic propagation: the nearest click by a way on which every change of colour costs."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from pointcover.annotation.propagation.base import Flags, Proposal, require_positive
from pointcover.annotation.propagation.coarse import CoarseTile, coarsen, refine, require_cell
from pointcover.labels import IGNORE_INDEX, Image, Mask

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of the eight, as (row, column): the way back is the same."""


@dataclass(frozen=True)
class GeodesicSettings:
    """How far a way may go, and what a change of colour costs on it.

    Attributes:
        limit_px: longest way from a click, in pixels, above 0.
        contrast_px: how far, in pixels, a step from black to white is, above 0.
        cell_px: ways go from cell to cell of this side, in pixels: 2 is half resolution.
    """

    limit_px: float = 96.0
    contrast_px: float = 1000.0
    cell_px: int = 2

    def __post_init__(self) -> None:
        """Refuse what is not above 0 and finite, and a cell of no whole pixels."""
        require_positive("limit_px", self.limit_px)
        require_positive("contrast_px", self.contrast_px)
        require_cell(self.cell_px)


def geodesic(clicks: Mask, image: Image, valid: Flags, settings: GeodesicSettings) -> Proposal:
    """Return each pixel the class of the click with the shortest way to it, by colour and distance.

    The geodesic distance of Criminisi, Sharp and Blake (GeoS, ECCV 2008), exact on the graph of
    the eight neighbours: a step of length s in pixels, on which the colour changes by d (root of
    the mean square over the bands, 1 from black to white), is √(s² + (contrast_px · d)²) long.

    - Ways lead over cells of `cell_px`, from the centre of the click's cell to that of the
      pixel's, and around cells without data. Clicks of several classes in one cell cancel out.
    - A way at most `limit_px` long counts.
    - Where ways from two classes are equally long, one of them has it, always the same.
    - The trust falls in a straight line from 1 at a click to ½ at the limit.

    Args:
        clicks: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        image: (bands, H, W) uint8.
        valid: where the image has data, (H, W) bool.
        settings: of the ways.
    """
    tile = coarsen(clicks, image, valid, settings.cell_px)
    ids = np.full(tile.clicks.size, IGNORE_INDEX, np.uint8)
    trust = np.zeros(ids.shape, np.float32)
    seeds = np.flatnonzero(tile.clicks != IGNORE_INDEX)
    if seeds.size:
        distance, _, nearest = dijkstra(
            _graph(tile, settings),
            directed=False,
            indices=seeds,
            min_only=True,
            limit=settings.limit_px,
            return_predecessors=True,
        )
        reached = np.isfinite(distance)
        ids[reached] = tile.clicks.ravel()[nearest[reached]]
        trust[reached] = 1 - distance[reached] / (2 * settings.limit_px)
    return Proposal(
        *(
            refine(cells.reshape(tile.clicks.shape), settings.cell_px, clicks.shape)
            for cells in (ids, trust)
        )
    )


def _graph(tile: CoarseTile, settings: GeodesicSettings) -> csr_array:
    """Tell how long the step between any two neighbouring cells with data is.

    Returns:
        (cells, cells), each step in one direction only.
    """
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
