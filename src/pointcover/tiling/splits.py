"""Splits: which regions, or which listed tiles, are for training, validation and test."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pointcover.datasets.card import DatasetCard, matches
from pointcover.labels import SPLITS, Split
from pointcover.text import shorten


def split_regions(card: DatasetCard, regions: Sequence[str], seed: int) -> dict[str, Split]:
    """Return every region one split, by the card's shares or lists of regions.

    Raises:
        ValueError: there are fewer than three regions, or a listed one does not exist.
    """
    names = sorted(set(regions))
    if len(names) < len(SPLITS):
        raise ValueError(
            f"the dataset has {len(names)} region(s) ({', '.join(names)}), wanted at least three: "
            f"one each for train, val and test. Add orthophotos, or make regions smaller with "
            f"`region` in the card"
        )
    shares = card.shares()
    if shares:
        order = np.random.default_rng(seed).permutation(len(names))
        counts = _whole_counts([shares[split] for split in SPLITS], len(names))
        sides = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
        return {names[place]: side for place, side in zip(order, sides, strict=True)}
    return _listed_sides(card, names)


def _listed_sides(card: DatasetCard, names: Sequence[str]) -> dict[str, Split]:
    """Return every region the split whose list names it, or train where none does."""
    sides: dict[str, Split] = {}
    for split, entries in card.region_lists().items():
        for entry in entries:
            meant = [name for name in names if matches(name, entry)]
            if not meant:
                raise ValueError(
                    f"the card's split lists {entry}, but the regions are {shorten(names)}"
                )
            for name in meant:
                if name in sides:
                    raise ValueError(
                        f"the card's split lists {name} twice: each region belongs to one split"
                    )
                sides[name] = split
    rest = [name for name in names if name not in sides]
    if "train" in card.split and rest:
        raise ValueError(
            f"the card's split lists no side for {shorten(rest)}: list them, or leave out train"
        )
    sides |= dict.fromkeys(rest, "train")
    empty = sorted(set(SPLITS) - set(sides.values()))
    if empty:
        raise ValueError(f"the card's split leaves {', '.join(empty)} without a region")
    return sides


def _whole_counts(shares: Sequence[float], total: int) -> list[int]:
    """Divide a total by shares: at least one each, the rest by largest remainder."""
    wanted = [share * total for share in shares]
    counts = [max(1, math.floor(value)) for value in wanted]
    while sum(counts) < total:
        lacking = [value - count for value, count in zip(wanted, counts, strict=True)]
        counts[int(np.argmax(lacking))] += 1
    while sum(counts) > total:
        counts[int(np.argmax(counts))] -= 1
    return counts


def read_tile_lists(card: DatasetCard, folder: Path) -> dict[str, Split] | None:
    """Read published lists, one file a split; None where the card names no files.

    Returns:
        Split by what the lists hold: regions, or ids of tiles of `tile_px` (`<orthophoto>_<k>`).

    Raises:
        ValueError: a list is missing or empty, or an entry is on two of them.
    """
    sides: dict[str, Split] = {}
    for split in SPLITS:
        rule = card.split.get(split)
        if not isinstance(rule, str):
            return None
        if not (folder / rule).is_file():
            raise ValueError(f"the card's split names {rule}, but {folder / rule} does not exist")
        tile_ids = (folder / rule).read_text(encoding="utf-8").split()
        if not tile_ids:
            raise ValueError(f"{folder / rule} is empty, wanted the ids of the {split} tiles")
        for tile_id in tile_ids:
            if sides.setdefault(tile_id, split) != split:
                raise ValueError(f"tile {tile_id} is listed for {sides[tile_id]} and for {split}")
    return sides


def check_tile_size(
    card: DatasetCard, listed: Iterable[str], regions: Iterable[str], size_px: int, downsample: int
) -> None:
    """Check that tiles are those that published lists mean.

    A tile's number counts cells of the source's pixels, so lists hold for a `tile.size_px` and
    `tile.downsample` whose product is the card's `tile_px`, and mean other places for any other.

    Args:
        card: the dataset's card.
        listed: what the lists name.
        regions: the dataset's regions; what of `listed` is none of them must be a tile.
        size_px: height and width of a tile, after downsampling.
        downsample: how many source pixels become one, along each side.

    Raises:
        ValueError: tiles of another size are to be cut, or the card does not say of which.
    """
    tiles = sorted(set(listed) - set(regions))
    if not tiles:
        return
    if card.tile_px is None:
        raise ValueError(
            f"the card's lists name {shorten(tiles, 5)}, but the regions are "
            f"{shorten(sorted(set(regions)), 5)}. Where the lists name tiles, say with `tile_px` "
            f"in the card at which size they were cut"
        )
    if size_px * downsample != card.tile_px:
        raise ValueError(
            f"the card's lists name tiles of {card.tile_px} px, but tile.size_px is {size_px} and "
            f"tile.downsample {downsample}, which makes {size_px * downsample} px of the source: "
            f"set tile.size_px={card.tile_px} and tile.downsample=1 (or others of this product)"
        )
