"""Point labels of tiles or images: where they lie, and the windows around them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pointcover.label_errors.confident_learning import Ids
from pointcover.label_errors.settings import GROUPS
from pointcover.labels import IGNORE_INDEX, ClassTable, Mask
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.raster.raster_io import RasterInfo
from pointcover.training.classifiers.labelled_pixels import (
    LabelledPixels,
    LabelledWindow,
    Thinning,
    collect,
)


@dataclass(frozen=True)
class LabelTile:
    """A tile with point labels."""

    id: str
    region: str
    image: str
    """Name of its orthophoto."""
    split: str
    """train, val or test; empty outside a workspace."""
    grid: RasterInfo
    """Of the orthophoto."""
    row_off: int
    col_off: int
    clicks: Mask
    """(H, W) the point labels alone."""


@dataclass(frozen=True)
class LabelSource:
    """Tiles with point labels, and how their images are read."""

    tiles: Sequence[LabelTile]
    classes: ClassTable
    bands: int
    windows: Callable[[int], Iterator[LabelledWindow]]
    """From the features' margin in pixels: the window of each tile, in their order."""


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
    counts = [int(np.count_nonzero(tile.clicks != IGNORE_INDEX)) for tile in source.tiles]
    thinning = Thinning(counts, most, np.random.default_rng((seed, 1)))
    kept = [thinning.thin(place, tile.clicks) for place, tile in enumerate(source.tiles)]

    def windows() -> Iterator[LabelledWindow]:
        each = zip(source.tiles, source.windows(features.margin_px), strict=True)
        for place, (tile, window) in enumerate(each):
            group = getattr(tile, GROUPS[group_by])
            yield replace(window, mask=thinning.thin(place, window.mask), group=group)

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
