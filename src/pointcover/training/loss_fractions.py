"""Fractions of the training loss: of point labels and other labels, and of each class.

Those of the classes are the class priors that a network learns. They differ from the fractions of
labelled pixels where tiles are drawn by region or class, or where classes or point labels are
weighted.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX
from pointcover.tileset.tiles import Tile, TileReader
from pointcover.training.settings import TrainSettings


def needs_point_labels(settings: TrainSettings) -> bool:
    """Return whether training must know which labels are point labels."""
    return settings.propagated_loss_fraction is not None


def loss_fractions(settings: TrainSettings) -> tuple[float, ...]:
    """Return the fractions of the loss: of all labels, or of point labels and of the others."""
    fraction = settings.propagated_loss_fraction
    return (1.0,) if fraction is None else (1 - fraction, fraction)


def expect_labels(
    tiles: Sequence[Tile], masks: Path, clicks: Path | None, *, size_px: int, crop_px: int
) -> npt.NDArray[np.float64]:
    """Return the expected number of labelled pixels of each class in a crop of each tile.

    Labels that crops see around a tile are counted too. An orthophoto's edge is in fewer crops than
    its middle, and a narrow tile's crops show mostly its neighbours: computed from the tiles' own
    labels only, the fraction of a rare class of small orthophotos was six times too large.

    Args:
        tiles: that crops are drawn from.
        masks: the folder of their masks.
        clicks: the folder of their point labels, if those are counted separately; else None.
        size_px: of a tile.
        crop_px: height and width of a crop, at most `size_px`. `zoom` is not taken into account.

    Returns:
        (1, tiles, classes); with `clicks` (2, tiles, classes): point labels, and the others.

    Raises:
        FileNotFoundError, ValueError: a raster is missing or damaged.
    """
    mask_reader = TileReader(masks, size_px, fill=IGNORE_INDEX)
    click_reader = None if clicks is None else TileReader(clicks, size_px, fill=IGNORE_INDEX)
    expected = []
    for tile in tiles:
        mask = mask_reader.read_around(tile)[0][0]
        parts = [mask != IGNORE_INDEX]
        if click_reader is not None:
            is_clicked = click_reader.read_around(tile)[0][0] != IGNORE_INDEX
            parts = [parts[0] & is_clicked, parts[0] & ~is_clicked]
        chances = np.multiply.outer(*(_cover(side, crop_px) for side in mask.shape))
        expected.append(
            [np.bincount(mask[one], chances[one], minlength=len(tile.pixels)) for one in parts]
        )
    return np.array(expected, np.float64).swapaxes(0, 1)


def _cover(side_px: int, crop_px: int) -> npt.NDArray[np.float64]:
    """Return the probability that a random crop of a square holds each of its rows: (side_px,)."""
    places = np.arange(side_px)
    starts = max(1, side_px - crop_px + 1)
    first, last = np.maximum(0, places - crop_px + 1), np.minimum(places, starts - 1)
    return np.asarray((last - first + 1) / starts)


def class_fractions(
    crops: npt.NDArray[np.float64],
    labels: npt.NDArray[np.float64],
    class_weights: Sequence[float] | None,
    parts: Sequence[float] = (1.0,),
) -> tuple[float, ...]:
    """Return each class's expected fraction of the divisor of the loss on labelled pixels.

    Args:
        crops: (tiles,), the fraction of the crops that each tile gets, see `crop_weights`.
        labels: (parts, tiles, classes) in a crop, of `expect_labels`.
        class_weights: of the loss, one a class; None is 1 each.
        parts: the fraction of the loss of each part; one without a label has none.

    Returns:
        One fraction a class, 0 where it has no label; they sum to 1.
    """
    weights = np.ones(labels.shape[2]) if class_weights is None else np.array(class_weights)
    by_class = crops @ labels * weights  # (parts, classes)
    sums = by_class.sum(axis=1)
    is_there = sums > 0
    present = np.array(parts)[is_there]
    means = by_class[is_there] / sums[is_there, np.newaxis]
    return tuple((present / present.sum() @ means).tolist())
