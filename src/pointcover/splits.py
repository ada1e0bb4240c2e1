"""Splits: which regions, or which listed tiles, are for training, validation and test."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pointcover.datasets.card import SPLITS, DatasetCard, Split


def split_regions(card: DatasetCard, regions: Sequence[str], seed: int) -> dict[str, Split]:
    """Give every region one split, by the card's shares or lists of regions.

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
    lists = {split: rule for split, rule in card.split.items() if isinstance(rule, tuple)}
    listed = {region: split for split, rule in lists.items() for region in rule}
    total = sum(len(rule) for rule in lists.values())
    if total != len(listed):
        raise ValueError("the card's split lists a region twice: each belongs to one split")
    unknown = sorted(set(listed) - set(names))
    if unknown:
        raise ValueError(
            f"the card's split lists {', '.join(unknown)}, but the regions are {', '.join(names)}"
        )
    sides_by_name = {name: listed.get(name, "train") for name in names}
    if "train" in card.split and len(listed) < len(names):
        rest = ", ".join(sorted(set(names) - set(listed)))
        raise ValueError(
            f"the card's split lists no side for {rest}: list them, or leave out train"
        )
    empty = sorted(set(SPLITS) - set(sides_by_name.values()))
    if empty:
        raise ValueError(f"the card's split leaves {', '.join(empty)} without a region")
    return sides_by_name


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
    """Read published lists of tile ids, one file a split; None where the card gives no such lists.

    Raises:
        ValueError: a list is missing or empty, or a tile is on two of them.
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
