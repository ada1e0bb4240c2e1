"""Label shares: how much of the training loss each class had, which a network takes for its share.

Where tiles are drawn by region or class, or classes and clicks count more than others, these are
not the shares of the labelled pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX
from pointcover.tileset.tiles import Tile, TileReader
from pointcover.training.crops import Balance, crop_weights


def expect_labels(
    tiles: Sequence[Tile], masks: Path, clicks: Path | None, *, size_px: int, crop_px: int
) -> npt.NDArray[np.float64]:
    """Return how many labelled pixels of each class a crop of each tile holds in the mean.

    Counted is what crops see around a tile, too. An orthophoto's edge is in fewer of them than its
    middle, and a narrow tile's crops hold mostly its neighbours: from the tiles' own labels alone,
    a rare class of small orthophotos had six times its share.

    Args:
        tiles: that crops are drawn from.
        masks: the folder of their masks.
        clicks: the folder of their clicks, where they are counted apart; None where they are not.
        size_px: of a tile.
        crop_px: height and width of a crop, at most `size_px`. That `zoom` has some see more ground
            and some less is not counted.

    Returns:
        (1, tiles, classes); with `clicks` (2, tiles, classes): clicked ones, and the others.

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
    """Return how likely a crop that begins anywhere holds each row of a square: (side_px,)."""
    places = np.arange(side_px)
    starts = max(1, side_px - crop_px + 1)
    first, last = np.maximum(0, places - crop_px + 1), np.minimum(places, starts - 1)
    return np.asarray((last - first + 1) / starts)


def loss_shares(
    tiles: Sequence[Tile],
    labels: npt.NDArray[np.float64],
    class_weights: Sequence[float] | None,
    *,
    crop_px: int,
    balance: Balance,
    shares: Sequence[float] = (1.0,),
) -> tuple[float, ...]:
    """Return each class's expected share of what the loss on labelled pixels divides by.

    Args:
        tiles: that crops are drawn from.
        labels: (parts, tiles, classes) in a crop, of `expect_labels`.
        class_weights: of the loss, one a class; None is 1 each.
        crop_px: height and width of a crop.
        balance: how tiles are drawn, see `tile_weights`.
        shares: of each part in the loss; one without a label has none.

    Returns:
        One share a class, 0 where it has no label; they sum to 1.
    """
    weights = np.ones(labels.shape[2]) if class_weights is None else np.array(class_weights)
    by_class = crop_weights(tiles, crop_px, balance) @ labels * weights  # (parts, classes)
    sums = by_class.sum(axis=1)
    is_there = sums > 0
    present = np.array(shares)[is_there]
    means = by_class[is_there] / sums[is_there, np.newaxis]
    return tuple((present / present.sum() @ means).tolist())
