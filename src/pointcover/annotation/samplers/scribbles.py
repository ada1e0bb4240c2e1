"""The sampler that draws strokes: curves along the skeletons of areas."""

import heapq
from typing import TYPE_CHECKING

import numpy as np

from pointcover.annotation.samplers.annotator import Annotator, Clicks, Pixels
from pointcover.annotation.samplers.drawing import classes_in
from pointcover.annotation.samplers.spacing import find_areas
from pointcover.labels import Mask

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def scribbles(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Draw strokes along the middle of areas; the budget counts strokes, not pixels.

    A stroke is one pixel wide and follows the longest path in the skeleton of an area (a connected
    component of one class, over edges), similar to the scribbles of annotators (ScribbleSup, Lin
    et al. 2016). It is at most `scribble_px` pixels long: of a longer path, a random piece. The
    area with the largest skeleton comes first for each class, then the other areas, so that every
    class gets a stroke where the budget suffices; then the rest of all skeletons, the largest
    piece first. A tile whose skeletons are used up gets no further strokes.
    """
    from scipy.sparse.csgraph import connected_components
    from skimage.morphology import skeletonize

    region, areas = find_areas(mask, candidates)
    areas = areas.ravel()
    # Thinning (Zhang and Suen 1984), of which scikit-image's variant leaves a line of every area.
    skeletons = [
        np.flatnonzero(skeletonize(region == class_id))  # type: ignore[no-untyped-call]
        for class_id in classes_in(region.ravel())
    ]
    nodes = np.concatenate([candidates[:0], *skeletons])
    graph = _join_neighbours(nodes, mask.shape)

    # Pieces of skeleton are queued as (priority, -size, a node to break ties, nodes of the graph).
    by_area = np.argsort(areas[nodes], kind="stable")
    starts = np.flatnonzero(np.diff(areas[nodes][by_area], prepend=0))
    pieces = np.split(by_area, starts[1:]) if nodes.size else []
    pieces.sort(key=lambda piece: -piece.size)
    seen: set[int] = set()
    queue: list[tuple[int, int, int, Pixels]] = []
    for piece in pieces:
        class_id = int(region.ravel()[nodes[piece[0]]])
        queue.append((int(class_id in seen), -piece.size, int(piece[0]), piece))
        seen.add(class_id)
    heapq.heapify(queue)

    strokes: list[Pixels] = []
    while queue and len(strokes) < budget:
        piece = heapq.heappop(queue)[-1]
        path = _find_long_path(graph[piece][:, piece])
        spare = max(path.size - annotator.settings.scribble_px, 0)
        start = int(generator.integers(spare + 1))
        stroke = path[start : start + annotator.settings.scribble_px]
        strokes.append(nodes[piece[stroke]])
        rest = np.delete(piece, stroke)
        _, part = connected_components(graph[rest][:, rest], directed=False)
        order = np.argsort(part, kind="stable")
        for left in np.split(rest[order], np.flatnonzero(np.diff(part[order])) + 1):
            if left.size:
                heapq.heappush(queue, (2, -left.size, int(left[0]), left))
    numbers = np.repeat(np.arange(len(strokes)), [stroke.size for stroke in strokes])
    return Clicks(np.concatenate([candidates[:0], *strokes]), numbers)


def _join_neighbours(nodes: Pixels, shape: tuple[int, int]) -> "csr_array":
    """Make the graph of pixels that touch over edge or corner."""
    from scipy.sparse import csr_array

    # A frame of one pixel, so that the last column has no neighbour in the first.
    number = np.full((shape[0] + 2, shape[1] + 2), -1)
    rows, cols = np.divmod(nodes, shape[1])
    number[rows + 1, cols + 1] = np.arange(nodes.size)
    ends = []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        other = number[rows + 1 + down, cols + 1 + right]
        one = np.flatnonzero(other >= 0)
        ends.append(np.stack((one, other[one])))
    pairs = np.concatenate(ends, axis=1)
    pairs = np.concatenate((pairs, pairs[::-1]), axis=1)
    return csr_array((np.ones(pairs.shape[1], np.int8), pairs), (nodes.size, nodes.size))


def _find_long_path(graph: "csr_array") -> Pixels:
    """Find the longest path in a tree: from a node to the farthest, and from there again.

    In a skeleton with loops the result is long, but not always the longest. It is the shortest path
    between its ends, so it never visits a pixel twice.
    """
    from scipy.sparse.csgraph import breadth_first_order

    far = breadth_first_order(graph, 0, return_predecessors=False)[-1]
    order, before = breadth_first_order(graph, far)
    path = [int(order[-1])]
    while path[-1] != far:
        path.append(int(before[path[-1]]))
    return np.array(path, np.intp)
