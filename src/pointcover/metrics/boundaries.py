"""Compute boundary F1, and erode the classes of masks.

Eight classes are processed at once: a pixel's class is a bit of a byte, and the dilation by a
distance is the OR of shifted copies. This takes a tenth of the time of a distance transform for
each class, and runs on the tensors' device.
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
"""Tolerances of boundary F1: 0.25, 0.75 and 1.25 m at a GSD of 0.25 m."""

_PLANES: Final = 8
"""Classes that are processed at once."""

BoundaryCounts = npt.NDArray[np.int64]
"""(..., distances, classes, 4) counts: true boundary pixels, matched true boundary pixels,
predicted boundary pixels, matched predicted boundary pixels."""


def count_boundaries(
    prediction: Tensor, mask: Tensor, classes: int, distances_px: Sequence[int] = DISTANCES_PX
) -> Tensor:
    """Count the boundary pixels of masks and predictions, and those that match, by tile.

    A boundary pixel of a class has a 4-neighbour of another class. It is matched if the other of
    mask and prediction has a boundary pixel of the class within the distance, from centre to
    centre. This is the contour measure of Csurka et al. (What is a good evaluation measure for
    semantic segmentation?, BMVC 2013) and Perazzi et al. (A benchmark dataset and evaluation
    methodology for video object segmentation, CVPR 2016). Sum the counts over tiles before
    computing F1. Unlabelled pixels are ignored in mask and prediction, both as boundary and as
    neighbour. The edge of a tile is not a boundary, and nothing beyond it is matched.

    Args:
        prediction: (B, H, W) uint8 class ids.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
        classes: number of classes.
        distances_px: tolerances in whole pixels.

    Returns:
        (B, distances, classes, 4) int64 on the device of `mask`; see BoundaryCounts.
    """
    batch, pixels = len(mask), mask[0].numel() if len(mask) else 1
    labelled = mask != IGNORE_INDEX
    counts = torch.zeros(
        (batch, len(distances_px), classes, 4), dtype=torch.int64, device=mask.device
    )
    sides = (mask.contiguous(), prediction.contiguous())
    # Boundary pixels are few, so their values are gathered at their indices.
    places = [_edges(ids, labelled).view(-1).nonzero().squeeze(1) for ids in sides]
    class_ids = [ids.view(-1).take(place) for ids, place in zip(sides, places, strict=True)]
    cells = [
        place.div(pixels, rounding_mode="floor") * classes + ids
        for place, ids in zip(places, class_ids, strict=True)
    ]

    def count(side: int, chosen: Tensor) -> Tensor:
        """Return the number of chosen boundary pixels by tile and class: (B, classes)."""
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
    """Return boundary F1 by distance and class, from counts that are summed over tiles.

    Precision is the fraction of predicted boundary pixels that are matched, recall that of true
    ones, and F1 their harmonic mean. F1 is 0 for a class with boundaries only in the masks or only
    in the predictions. It is None for a class without any boundary, and for all classes if the
    masks have no boundary at all, as eroded masks do.

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
    """Set pixels within a distance of another class to IGNORE_INDEX.

    This makes the "eroded" masks of the ISPRS semantic labelling contest: each class is eroded by a
    disc (of 3 px there), since annotators can only guess where exactly an object ends. Unlabelled
    pixels and the raster's edge do not count as another class.

    Args:
        mask: (H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
        radius_px: radius of the disc; 0 changes nothing.

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
    """Return (B, H, W) bool: labelled pixels with a labelled 4-neighbour of another class."""
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
    """Return uint8 with bit k for class first + k, and 0 for all but these eight classes."""
    shifts = ids.int() - first
    is_among = (shifts >= 0) & (shifts < _PLANES)
    return torch.where(is_among, 1 << shifts.clamp(0, _PLANES - 1), 0).to(torch.uint8)


def _widen(bits: Tensor, most_px: int) -> Iterator[Tensor]:
    """Yield the bits dilated along the rows by 0, 1, 2, … px."""
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
    """Return the bits dilated by a disc of a radius; `widened` is the output of `_widen`."""
    height = widened[0].shape[-2]
    spread = widened[radius_px].clone()
    for rows in range(1, min(radius_px, height - 1) + 1):
        row = widened[math.isqrt(radius_px**2 - rows**2)]
        spread[..., rows:, :] |= row[..., :-rows, :]
        spread[..., :-rows, :] |= row[..., rows:, :]
    return spread
