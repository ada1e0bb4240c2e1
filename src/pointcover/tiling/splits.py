"""Split regions, or listed tiles, into train, val and test."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pointcover.datasets.card import DatasetCard, matches
from pointcover.datasets.inventory import Inventory
from pointcover.labels import SPLITS, Split
from pointcover.text import shorten
from pointcover.tileset.tiles import Tile
from pointcover.tiling.settings import TileSettings


def choose_splits(dataset: Inventory, settings: TileSettings) -> dict[str, Split]:
    """Choose the split of every region, or of every tile on a published list.

    Raises:
        ValueError: the card's split does not fit the dataset, or the tile size the published lists.
    """
    regions = [pair.region for pair in dataset.pairs]
    splits = read_tile_lists(dataset.card, dataset.folder)
    if splits is None:
        splits = split_regions(dataset.card, regions, settings.split_seed)
    check_tile_size(dataset.card, splits, regions, settings)
    return splits


def split_regions(card: DatasetCard, regions: Sequence[str], seed: int) -> dict[str, Split]:
    """Return the split of every region, by the card's fractions or lists of regions.

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
    fractions = card.fractions()
    if fractions:
        order = np.random.default_rng(seed).permutation(len(names))
        counts = _whole_counts([fractions[split] for split in SPLITS], len(names))
        drawn = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
        return {names[place]: split for place, split in zip(order, drawn, strict=True)}
    return _listed_splits(card, names)


def _listed_splits(card: DatasetCard, names: Sequence[str]) -> dict[str, Split]:
    """Return the split of every region: the one whose list names it, or else train."""
    splits: dict[str, Split] = {}
    for split, entries in card.region_lists().items():
        for entry in entries:
            meant = [name for name in names if matches(name, entry)]
            if not meant:
                raise ValueError(
                    f"the card's split lists {entry}, but the regions are {shorten(names)}"
                )
            for name in meant:
                if name in splits:
                    raise ValueError(
                        f"the card's split lists {name} twice: each region belongs to one split"
                    )
                splits[name] = split
    rest = [name for name in names if name not in splits]
    if "train" in card.split and rest:
        raise ValueError(
            f"the card's split lists no split for {shorten(rest)}: list them, or leave out train"
        )
    splits |= dict.fromkeys(rest, "train")
    empty = sorted(set(SPLITS) - set(splits.values()))
    if empty:
        raise ValueError(f"the card's split leaves {', '.join(empty)} without a region")
    return splits


def _whole_counts(fractions: Sequence[float], total: int) -> list[int]:
    """Divide a total by fractions, by the largest remainder and with at least one each."""
    wanted = [fraction * total for fraction in fractions]
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
    splits: dict[str, Split] = {}
    for split in SPLITS:
        rule = card.split.get(split)
        if not isinstance(rule, str):
            return None
        if not (folder / rule).is_file():
            raise ValueError(f"the card's split names {rule}, but {folder / rule} does not exist")
        tile_ids = _read_list(folder / rule)
        if not tile_ids:
            raise ValueError(f"{folder / rule} is empty, wanted the ids of the {split} tiles")
        for tile_id in tile_ids:
            if splits.setdefault(tile_id, split) != split:
                raise ValueError(f"tile {tile_id} is listed for {splits[tile_id]} and for {split}")
    return splits


def _read_list(path: Path) -> list[str]:
    """Return the lines of a list, of which names may have blanks.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    return [line.strip() for line in lines if line.strip()]


def check_tile_size(
    card: DatasetCard, listed: Iterable[str], regions: Iterable[str], settings: TileSettings
) -> None:
    """Check that tiles have the size that published lists of tiles are made for.

    Tile numbers count cells of source pixels. So lists are valid only if the product of
    `tile.size_px` and `tile.downsample` is the card's `tile_px`.

    Args:
        card: the dataset's card.
        listed: regions and tile ids on the lists.
        regions: the dataset's regions; entries of `listed` that are none of them are tile ids.
        settings: of tiling.

    Raises:
        ValueError: tiles of another size are to be cut, or the card does not give their size.
    """
    size_px, downsample = settings.size_px, settings.downsample
    tiles = sorted(set(listed) - set(regions))
    if not tiles:
        return
    if card.tile_px is None:
        raise ValueError(
            f"the card's lists name {shorten(tiles, 5)}, but the regions are "
            f"{shorten(sorted(set(regions)), 5)}. If the lists name tiles, state with `tile_px` in "
            f"the card at which size they were cut"
        )
    if size_px * downsample != card.tile_px:
        raise ValueError(
            f"the card's lists name tiles of {card.tile_px} px, but tile.size_px is {size_px} and "
            f"tile.downsample {downsample}, which makes {size_px * downsample} px of the source: "
            f"set tile.size_px={card.tile_px} and tile.downsample=1 (or others of this product)"
        )


def check_splits(tiles: Sequence[Tile], splits: Mapping[str, str]) -> None:
    """Check that every split has tiles, and that each region or tile on a list was found.

    Raises:
        ValueError: a split is empty, or an entry of a list does not exist.
    """
    absent = sorted(splits.keys() - {tile.id for tile in tiles} - {tile.region for tile in tiles})
    if absent:
        raise ValueError(
            f"the card's `split` lists tiles that were not cut: {shorten(absent, 5)}. A "
            f"tile is called <orthophoto>_<k>, counted row by row: add the orthophotos, or correct "
            f"the lists or the card's `tile_px`"
        )
    empty = [split for split in SPLITS if all(tile.split != split for tile in tiles)]
    if empty:
        raise ValueError(f"{', '.join(empty)} got no tile: correct `split` in the card")
