"""Label shares: how much of the training loss each class had, which a network takes for its share.

Where tiles are drawn by region or class, or classes and clicks count more than others, these are
not the shares of the labelled pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX
from pointcover.loading import Balance, crop_shares
from pointcover.tiles import Tile, TileReader


def expect_labels(
    tiles: Sequence[Tile], masks: Path, clicks: Path, *, size_px: int, crop_px: int,
    grown_weight: float = 1.0,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Say how many labelled pixels of each class a crop of each tile holds in the mean.

    Counted is what crops see around a tile, too. An orthophoto's edge is in fewer of them than its
    middle, and a narrow tile's crops hold mostly its neighbours: from the tiles' own labels alone,
    a rare class of small orthophotos had six times its share.

    Args:
        tiles: that crops are drawn from.
        masks: the folder of their masks.
        clicks: the folder of their clicks, which is read unless `grown_weight` is 1.
        size_px: of a tile.
        crop_px: height and width of a crop, at most `size_px`. That `zoom` has some see more ground
            and some less is not counted.
        grown_weight: of a labelled pixel that was not clicked.

    Returns:
        (tiles, classes).

    Raises:
        FileNotFoundError, ValueError: a raster is missing or damaged.
    """
    mask_reader, click_reader = (
        TileReader(folder, size_px, fill=IGNORE_INDEX) for folder in (masks, clicks)
    )
    expected = []
    for tile in tiles:
        mask = mask_reader.read_around(tile)[0][0]
        rows, columns = np.nonzero(mask != IGNORE_INDEX)
        by_row, by_column = (_cover(side, crop_px) for side in mask.shape)
        weights = by_row[rows] * by_column[columns]
        if grown_weight != 1:
            is_grown = click_reader.read_around(tile)[0][0][rows, columns] == IGNORE_INDEX
            weights = np.where(is_grown, grown_weight * weights, weights)
        expected.append(np.bincount(mask[rows, columns], weights, minlength=len(tile.pixels)))
    return np.array(expected, np.float64)


def _cover(side_px: int, crop_px: int) -> npt.NDArray[np.float64]:
    """Give how likely a crop that begins anywhere holds each row of a square: (side_px,)."""
    places = np.arange(side_px)
    starts = max(1, side_px - crop_px + 1)
    first, last = np.maximum(0, places - crop_px + 1), np.minimum(places, starts - 1)
    return np.asarray((last - first + 1) / starts)


def loss_shares(
    tiles: Sequence[Tile], labels: npt.NDArray[np.float64], class_weights: Sequence[float] | None,
    *, crop_px: int, balance: Balance,
) -> tuple[float, ...]:  # fmt: skip
    """Give each class's expected share of what the loss on labelled pixels divides by.

    Args:
        tiles: that crops are drawn from.
        labels: (tiles, classes) in a crop, of `expect_labels`.
        class_weights: of the loss, one a class; None is 1 each.
        crop_px: height and width of a crop.
        balance: how tiles are drawn, see `tile_shares`.

    Returns:
        One share a class, 0 where it has no label; they sum to 1.
    """
    weights = np.ones(labels.shape[1]) if class_weights is None else np.array(class_weights)
    by_class = crop_shares(tiles, crop_px, balance) @ labels * weights
    return tuple((by_class / by_class.sum()).tolist())
