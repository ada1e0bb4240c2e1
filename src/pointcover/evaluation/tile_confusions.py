"""Write and read the confusion matrices of tiles as a table, from which scores can be computed."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointcover.metrics.confusion import Confusion
from pointcover.runtime.atomic_files import publish_csv
from pointcover.tileset.tiles import Tile

_HEADER = ("tile", "region", "split")
_SEPARATOR = ">"


@dataclass(frozen=True)
class TileConfusions:
    """Contents of the table, in its order."""

    tiles: tuple[str, ...]
    regions: tuple[str, ...]
    splits: tuple[str, ...]
    names: tuple[str, ...]
    """Class names, by id."""
    confusions: Confusion
    """(tiles, C, C) int64; rows true, columns predicted."""

    def of_split(self, split: str) -> "TileConfusions":
        """Return the tiles of one split."""
        chosen = [place for place, name in enumerate(self.splits) if name == split]
        return TileConfusions(
            tuple(self.tiles[place] for place in chosen),
            tuple(self.regions[place] for place in chosen),
            tuple(self.splits[place] for place in chosen),
            self.names,
            self.confusions[chosen],
        )


def write_tile_confusions(
    path: Path, tiles: Sequence[Tile], confusions: Confusion, names: Sequence[str]
) -> None:
    """Write one row for each tile: id, region and split, then pixels by true and predicted class.

    The table is not compressed, so that equal counts have equal bytes with any library. A row has
    some hundred bytes.

    Args:
        path: of the CSV.
        tiles: in the order of `confusions`.
        confusions: (tiles, C, C) int64.
        names: the C class names; columns are named `true>predicted`.
    """
    cells = [f"{true}{_SEPARATOR}{predicted}" for true in names for predicted in names]
    publish_csv(
        path,
        [*_HEADER, *cells],
        (
            [tile.id, tile.region, tile.split, *confusion.ravel().tolist()]
            for tile, confusion in zip(tiles, confusions, strict=True)
        ),
    )


def read_tile_confusions(path: Path) -> TileConfusions:
    """Read a table of `write_tile_confusions`, such as metrics/evaluation/tiles.csv.

    The sum over tiles is the confusion matrix of a split or region, from which
    `metrics.scores.split_scores` computes the scores.

    Raises:
        FileNotFoundError: the evaluate stage has not run.
        ValueError: the table is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run `dvc repro`, which writes it")
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    cells = header[len(_HEADER) :]
    classes = math.isqrt(len(cells))
    widths = {len(row) for row in rows} - {len(header)}
    try:
        if tuple(header[: len(_HEADER)]) != _HEADER or classes**2 != len(cells) or widths:
            raise ValueError("its columns are not those of a class table")
        confusions = np.array([[int(cell) for cell in row[len(_HEADER) :]] for row in rows], int)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it and run `dvc repro`, which writes it again"
        ) from None
    # Columns of the diagonal hold a name twice, so it is found even if it contains the separator.
    doubled = cells[:: classes + 1]
    return TileConfusions(
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
        tuple(text[: len(text) // 2] for text in doubled),
        confusions.reshape(len(rows), classes, classes).astype(np.int64),
    )
