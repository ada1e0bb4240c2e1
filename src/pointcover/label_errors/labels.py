"""The features of point labels, and which pixels are one label."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pointcover.image_labels.source import LabelSource, LabelTile
from pointcover.label_errors.confident_learning import Ids
from pointcover.label_errors.settings import GROUPS
from pointcover.labels import IGNORE_INDEX, Mask
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.training.classifiers.labelled_pixels import (
    LabelledPixels,
    LabelledWindow,
    collect,
)


@dataclass(frozen=True)
class Labels:
    """Point labels with the features of their pixels.

    Adjacent pixels of one class in a tile are one label: a stroke, or a polygon.
    """

    pixels: LabelledPixels
    numbers: Ids
    """(P,) of the label that each pixel belongs to."""
    tiles: Ids
    """(N,) index of each label's tile."""
    rows: Ids
    """(N,) row of each label in its orthophoto; of several pixels, that nearest to their middle."""
    cols: Ids
    """(N,)."""
    class_ids: Ids
    """(N,)."""
    sizes: Ids
    """(N,) number of pixels."""


def read_labels(
    source: LabelSource, features: PixelFeatures, group_by: str, most: int, seed: int
) -> Labels:
    """Compute the features of all labels once.

    Args:
        source: of the labels.
        features: to compute.
        group_by: a key of GROUPS.
        most: pixels that are used; more are thinned at random.
        seed: of the thinning.

    Raises:
        ValueError: there is no label, or an image is damaged.
    """
    thinning = source.thinning(most, seed)
    kept = [thinning.thin(place, tile.clicks) for place, tile in enumerate(source.tiles)]

    def windows() -> Iterator[LabelledWindow]:
        read = source.read(features.margin_px, thinning)
        for tile, window in zip(source.tiles, read, strict=True):
            yield replace(window, group=getattr(tile, GROUPS[group_by]))

    pixels = collect(features, windows())
    parts = [_split_labels(tile, mask) for tile, mask in zip(source.tiles, kept, strict=True)]
    sizes = [len(part.middles) for part in parts]
    begins = np.cumsum(sizes) - sizes
    numbers = [part.numbers + begin for part, begin in zip(parts, begins, strict=True)]
    joined = np.concatenate(numbers)
    middles = np.concatenate([part.middles for part in parts])
    class_ids = np.zeros(len(middles), np.int64)
    class_ids[joined] = pixels.classes
    return Labels(
        pixels,
        joined,
        np.repeat(np.arange(len(parts)), sizes),
        middles[:, 0],
        middles[:, 1],
        class_ids,
        np.bincount(joined),
    )


@dataclass(frozen=True)
class _Parts:
    numbers: Ids
    """(p,) of the label that each pixel belongs to, in reading order."""
    middles: Ids
    """(n, 2) row and column of each label in its orthophoto."""


def _split_labels(tile: LabelTile, kept: Mask) -> _Parts:
    """Number the labels of a tile: adjacent pixels of one class, as they were before thinning."""
    rows, cols = np.nonzero(kept != IGNORE_INDEX)
    connected = np.zeros(kept.shape, np.int64)
    count = 0
    for class_id in np.unique(tile.clicks[tile.clicks != IGNORE_INDEX]):
        found, marks = cv2.connectedComponents((tile.clicks == class_id).astype(np.uint8))
        connected[marks > 0] = marks[marks > 0] + count
        count += found - 1
    _, numbers = np.unique(connected[rows, cols], return_inverse=True)
    places = np.stack([rows, cols], axis=1)
    return _Parts(
        numbers.astype(np.int64),
        _middles(places, numbers) + np.array([tile.row_off, tile.col_off]),
    )


def _middles(places: Ids, numbers: npt.NDArray[np.intp]) -> Ids:
    """Return the pixel of each label that is nearest to the mean of its pixels, (n, 2)."""
    sizes = np.bincount(numbers)
    means = np.stack([np.bincount(numbers, axis) / np.maximum(sizes, 1) for axis in places.T], 1)
    distances = ((places - means[numbers]) ** 2).sum(axis=1)
    order = np.lexsort((distances, numbers))
    first = np.cumsum(sizes) - sizes
    return np.asarray(places[order[first]], np.int64)
