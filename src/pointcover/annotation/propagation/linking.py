"""Propagation by links: straight lines between near clicks of one class."""

import math

import numpy as np
import numpy.typing as npt

from pointcover.annotation.propagation.base import ClickedTile, Proposal
from pointcover.annotation.propagation.settings import LinkSettings
from pointcover.labels import IGNORE_INDEX

_MAX_PAIRS = 4_000_000
"""Pairs of clicks held at a time: 16 bytes each, and about 50 with the arrays derived from them."""

_LINE_PIXELS = 1 << 17
"""Line pixels computed at a time: few enough to stay in the processor's cache."""


def link(tile: ClickedTile, settings: LinkSettings) -> Proposal:
    """Label straight lines, one pixel wide, between all clicks of one class near each other.

    Two clicks of one class near each other are likely on one area, of which the pixels between them
    are a part. On 14 real tiles with 200 clicks, links up to 64 px labelled 8 % of the pixels,
    98.7 % of them correctly: more precise than dilation at the same coverage, but thin classes get
    few labels.

    - Two clicks are near if the Euclidean distance of their centres is at most `distance_px`.
    - A line has one pixel per step along the longer axis. With displacement (dr, dc) from the click
      that comes first in row-major order and n = max(|dr|, |dc|), it has, for t = 1 … n - 1, the
      pixels (r + ⌊t·dr/n + ½⌋, c + ⌊t·dc/n + ½⌋), in exact integers. (Halves round down the rows
      and to the right, so the links of a transposed tile are not always the transposed links.)
    - A pixel on lines of two or more classes stays unlabelled.
    - Lines cross clicked pixels and pixels without data.
    - The confidence is 1 on all lines.

    Memory stays below about 300 MB on a 512² tile, dense clicks included: a class with more
    than four million pairs is linked displacement by displacement, with the same result, in time
    proportional to `distance_px` cubed instead of the number of pairs.
    """
    clicks = tile.clicks
    free = clicks == IGNORE_INDEX
    clicked = np.flatnonzero(~free)
    ids = clicks.ravel()[clicked]
    class_ids = np.unique(ids).tolist()
    # No line is longer than the tile's diagonal.
    reach = square_reach(min(settings.distance_px, math.hypot(*clicks.shape)))
    lines = _lines(clicks.shape, [clicked[ids == class_id] for class_id in class_ids], reach)
    free &= lines.sum(axis=0, dtype=np.uint8) == 1
    linked = np.full(clicks.shape, IGNORE_INDEX, np.uint8)
    for class_id, lines_of_class in zip(class_ids, lines, strict=True):
        linked.ravel()[np.flatnonzero(lines_of_class & free)] = class_id
    return Proposal(linked, np.ones(clicks.shape, np.float32))


def square_reach(distance_px: float) -> int:
    """Find the greatest whole number whose square root is at most `distance_px`.

    Squaring alone is not exact: math.sqrt(13) ** 2 is below 13. It is never too large: the square
    of a number below the rounded root of n is below n by more than the rounding error.
    """
    reach = math.floor(distance_px**2)
    return reach + 1 if math.sqrt(reach + 1) <= distance_px else reach


def _lines(
    shape: tuple[int, int], clicked: list[npt.NDArray[np.intp]], reach: int
) -> npt.NDArray[np.bool_]:
    """Draw the lines between the clicks of every class.

    Args:
        shape: H and W.
        clicked: for each class the positions of its clicks in the flattened mask, (N,), ascending.
        reach: the greatest squared distance of two clicks.

    Returns:
        (classes, H, W) bool: true on every pixel strictly between two clicks of the class that are
        near each other.
    """
    from scipy.spatial import cKDTree

    # Squared distances of pixels are integers, so half-way between two no rounding matters.
    radius = math.sqrt(reach + 0.5)
    # One tree for all classes, in planes too far apart for a pair between two classes.
    planes = np.repeat(np.arange(len(clicked)), [len(pixels) for pixels in clicked])
    rows, cols = np.divmod(np.concatenate(clicked), shape[1])
    tree = cKDTree(np.column_stack((rows, cols, planes * (math.ceil(radius) + 1))))
    # count_neighbors counts each pair twice.
    if rows.size**2 > 2 * _MAX_PAIRS and tree.count_neighbors(tree, radius) > 2 * _MAX_PAIRS:
        if len(clicked) == 1:
            return _lines_by_displacement(shape, clicked[0], reach)[np.newaxis]
        return np.concatenate([_lines(shape, [pixels], reach) for pixels in clicked])
    pairs = tree.query_pairs(radius, output_type="ndarray")

    # Half the bytes, half the time; 64 bits only where 32 could overflow.
    small = max(shape[0] * shape[1], 2 * max(shape) ** 2) < 2**31
    whole = np.int32 if small else np.int64
    # A pair has the smaller index first, and indices are in row-major order.
    first, second = pairs[:, 0], pairs[:, 1]
    rows, cols = rows.astype(whole), cols.astype(whole)
    start = (planes * (shape[0] * shape[1]) + rows * shape[1] + cols)[first]
    down, right = rows[second] - rows[first], cols[second] - cols[first]
    touched = np.zeros((len(clicked), *shape), bool)
    _draw(touched.ravel(), shape[1], start, down, right)
    return touched


def _draw(
    touched: npt.NDArray[np.bool_],
    width: int,
    start: npt.NDArray[np.signedinteger],
    down: npt.NDArray[np.signedinteger],
    right: npt.NDArray[np.signedinteger],
) -> None:
    """Draw many lines, those of one length together.

    Args:
        touched: flattened mask that the lines are drawn into, bool.
        width: W.
        start: where the lines start in the flattened mask, (P,).
        down: rows from there to where they end, (P,).
        right: columns from there to where they end, (P,).
    """
    lengths = np.maximum(down, np.abs(right))
    # Small integers are sorted by radix, ten times as fast.
    order = np.argsort(lengths.astype(np.min_scalar_type(lengths.max(initial=0))), kind="stable")
    start, down, right = start[order], down[order], right[order]
    ends = np.cumsum(np.bincount(lengths)).tolist()
    for length in range(2, len(ends)):
        chunk = max(1, _LINE_PIXELS // length)
        for begin in range(ends[length - 1], ends[length], chunk):
            lines = slice(begin, min(begin + chunk, ends[length]))
            pixels = _steps(down[lines], length) * width
            pixels += _steps(right[lines], length)
            touched[pixels + start[lines]] = True


def _steps(delta: npt.NDArray[np.signedinteger], length: int) -> npt.NDArray[np.signedinteger]:
    """Compute the offset of each pixel of a line along one axis: t · delta / length, halves up.

    Args:
        delta: from the start to the end of the lines, (P,).
        length: along their longer axis.

    Returns:
        For t = 1 … length - 1, (length - 1, P), of the type of `delta`.
    """
    time = np.arange(1, length, dtype=delta.dtype)[:, np.newaxis]
    steps = 2 * delta * time
    steps += length
    steps //= 2 * length
    return steps


def _lines_by_displacement(
    shape: tuple[int, int], clicked: npt.NDArray[np.intp], reach: int
) -> npt.NDArray[np.bool_]:
    """Draw the lines of one class, those of all pairs with the same displacement together.

    Args:
        shape: H and W.
        clicked: the positions of the clicks in the flattened mask, (N,).
        reach: the greatest squared distance of two clicks.

    Returns:
        (H, W) bool.
    """
    height, width = shape
    clicks = np.zeros(shape, bool)
    clicks.ravel()[clicked] = True
    touched = np.zeros(shape, bool)
    for down in range(min(math.isqrt(reach), height - 1) + 1):
        widest = min(math.isqrt(reach - down**2), width - 1)
        for right in range(-widest if down else 1, widest + 1):
            west, east = max(0, -right), width - max(0, right)
            pairs = clicks[: height - down, west:east] & clicks[down:, west + right : east + right]
            if not pairs.any():
                continue
            for row, col in _steps(np.array([down, right]), max(down, abs(right))).tolist():
                touched[row : height - down + row, west + col : east + col] |= pairs
    return touched
