"""Boundaries: how well predicted ones meet the true ones, and masks without their surroundings.

All classes are handled at once: a pixel's class is a bit, eight classes to a byte, and what lies
within a distance is the OR of shifted copies. That is a tenth of the time of a distance transform
for each class, and runs where the tensors are.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX, Mask

DISTANCES_PX: Final = (1, 3, 5)
"""Boundary F1 is told for these; at 0.25 m a pixel they are a quarter, three quarters and five
quarters of a metre."""

_PLANES: Final = 8

BoundaryCounts = npt.NDArray[np.int64]
"""(..., distances, classes, 4): true boundary pixels, those of them that are met by predicted ones
of the class; predicted boundary pixels, those of them that are met by true ones."""


def count_boundaries(
    prediction: Tensor, mask: Tensor, classes: int, distances_px: Sequence[int] = DISTANCES_PX
) -> Tensor:
    """Count boundary pixels, and those that the other side meets, tile by tile.

    A boundary pixel of a class is one of that class with a neighbour (above, below, left, right)
    of another. It is met where the other side has a boundary pixel of the class within the
    distance, centre to centre. This is the contour measure of Csurka et al. (What is a good
    evaluation measure for semantic segmentation?, BMVC 2013) and Perazzi et al. (A benchmark
    dataset and evaluation methodology for video object segmentation, CVPR 2016), whose counts are
    to be summed over tiles before they are divided. Unlabelled pixels and what is predicted there
    have no part in it, neither as boundary nor as neighbour. A tile stands for itself: its edge is
    no boundary, and what lies beyond meets nothing.

    Args:
        prediction: (B, H, W) uint8 class ids.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
        classes: how many classes there are.
        distances_px: whole pixels.

    Returns:
        (B, distances, classes, 4) int64 on the device of `mask`, as BoundaryCounts.
    """
    batch, pixels = len(mask), mask[0].numel() if len(mask) else 1
    labelled = mask != IGNORE_INDEX
    counts = torch.zeros(
        (batch, len(distances_px), classes, 4), dtype=torch.int64, device=mask.device
    )
    sides = (mask.contiguous(), prediction.contiguous())
    # Boundary pixels are few: what is said of them alone is gathered from their places.
    places = [_edges(ids, labelled).view(-1).nonzero().squeeze(1) for ids in sides]
    class_ids = [ids.view(-1).take(place) for ids, place in zip(sides, places, strict=True)]
    cells = [
        place.div(pixels, rounding_mode="floor") * classes + ids
        for place, ids in zip(places, class_ids, strict=True)
    ]

    def count(side: int, chosen: Tensor) -> Tensor:
        """Count chosen boundary pixels by tile and class: (B, classes)."""
        found = torch.where(chosen, cells[side], batch * classes)
        return torch.bincount(found, minlength=batch * classes + 1)[:-1].view(batch, classes)

    for first in range(0, classes, _PLANES):
        bits = [_bits(ids, first) for ids in class_ids]
        planes = [torch.zeros_like(mask) for _ in sides]
        for plane, place, bit in zip(planes, places, bits, strict=True):
            plane.view(-1).scatter_(0, place, bit)
        widened = [list(_widen(plane, max(distances_px, default=0))) for plane in planes]
        for side in (0, 1):
            counts[..., 2 * side] += count(side, bits[side] > 0)[:, None]
            for number, distance_px in enumerate(distances_px):
                near = _spread(widened[1 - side], distance_px).view(-1).take(places[side])
                counts[:, number, :, 2 * side + 1] += count(side, (near & bits[side]) > 0)
    return counts


def boundary_f1(counts: BoundaryCounts) -> list[list[float | None]]:
    """Compute boundary F1 by distance and class from counts that are summed over tiles.

    Precision is the share of the predicted boundary pixels that are met, recall that of the true
    ones, F1 their harmonic mean. It is None for a class that has a boundary on neither side, and
    for all where the masks show no boundary at all, such as eroded ones; 0 for a class with a
    boundary on one side alone.

    Args:
        counts: (distances, classes, 4) int64.
    """
    return [_f1_by_class(at_distance) for at_distance in counts.tolist()]


def _f1_by_class(counts: list[list[int]]) -> list[float | None]:
    if not any(true for true, *_ in counts):
        return [None] * len(counts)
    found: list[float | None] = []
    for true, true_met, predicted, predicted_met in counts:
        if not true and not predicted:
            found.append(None)
        elif not true_met or not predicted_met:
            found.append(0.0)
        else:
            precision, recall = predicted_met / predicted, true_met / true
            found.append(2 * precision * recall / (precision + recall))
    return found


def erode_classes(mask: Mask, radius_px: int) -> Mask:
    """Leave unlabelled what lies within a distance of another class.

    So the ISPRS semantic labelling contest scores its "eroded" masks: each class is eroded by a
    disc (of 3 px there), since where exactly an object ends is the annotator's guess. Unlabelled
    pixels and the raster's edge are no other class: next to them nothing is taken away.

    Args:
        mask: (H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
        radius_px: of the disc; 0 changes nothing.

    Returns:
        (H, W) uint8, a new array.
    """
    ids = torch.from_numpy(np.ascontiguousarray(mask))[None]
    labelled = ids != IGNORE_INDEX
    near_another = torch.zeros_like(labelled)
    if radius_px and bool(labelled.any()):
        for first in range(0, int(ids[labelled].max()) + 1, _PLANES):
            own = _bits(ids, first)
            near = _spread(list(_widen(own, radius_px)), radius_px)
            near_another |= (near & ~own) > 0
    return torch.where(near_another, IGNORE_INDEX, ids)[0].to(torch.uint8).numpy()


def _edges(ids: Tensor, labelled: Tensor) -> Tensor:
    """Mark the labelled pixels that have a labelled neighbour of another class: (B, H, W) bool."""
    edges = torch.zeros_like(labelled)
    for axis in (1, 2):
        size = ids.shape[axis] - 1
        before, after = (
            [values.narrow(axis, start, size) for values in (ids, labelled, edges)]
            for start in (0, 1)
        )
        differ = (before[0] != after[0]) & before[1] & after[1]
        before[2].logical_or_(differ)
        after[2].logical_or_(differ)
    return edges


def _bits(ids: Tensor, first: int) -> Tensor:
    """Return class first + k the bit k, and 0 to what is none of eight classes: uint8."""
    shifts = ids.int() - first
    is_among = (shifts >= 0) & (shifts < _PLANES)
    return torch.where(is_among, 1 << shifts.clamp(0, _PLANES - 1), 0).to(torch.uint8)


def _widen(bits: Tensor, most_px: int) -> Iterator[Tensor]:
    """Return what lies in the row within 0, 1, 2, … px."""
    width = bits.shape[-1]
    widened = bits
    yield widened
    for px in range(1, most_px + 1):
        if px < width:
            widened = widened.clone()
            widened[..., px:] |= bits[..., :-px]
            widened[..., :-px] |= bits[..., px:]
        yield widened


def _spread(widened: Sequence[Tensor], radius_px: int) -> Tensor:
    """Return what lies within a radius, row by row of the disc; `widened` is of `_widen`."""
    height = widened[0].shape[-2]
    spread = widened[radius_px].clone()
    for rows in range(1, min(radius_px, height - 1) + 1):
        row = widened[math.isqrt(radius_px**2 - rows**2)]
        spread[..., rows:, :] |= row[..., :-rows, :]
        spread[..., :-rows, :] |= row[..., rows:, :]
    return spread
