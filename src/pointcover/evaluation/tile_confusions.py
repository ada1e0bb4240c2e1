"""Write the confusion matrices of tiles as a table, from which scores can be computed."""

from collections.abc import Sequence
from pathlib import Path

from pointcover.metrics.confusion import Confusion
from pointcover.runtime.atomic_files import publish_csv
from pointcover.tileset.tiles import Tile

_HEADER = ("tile", "region", "split")
_SEPARATOR = ">"


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
