"""Answering: clicks that a model asks for on train tiles, answered from their dense masks.

One round of the loop between a model and its annotator, simulated: what comes out is labels as
`annotate` writes them, with which the next round begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.active.select import Suggestion
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.raster_io import RasterInfo, RasterReader, Window, write_mask
from pointcover.tileset.tiles import Tile, TileReader, TileSet, raster_path

SPLIT: Final = "train"
"""Questions are asked there alone: labels of other splits choose and score models."""

HEADER: Final = ("orthophoto", "row", "col", "uncertainty", "predicted", "answer")


def count_questions(points: int, unit: str, tiles: int) -> int:
    """Return how many clicks a round has.

    Args:
        points: clicks in the unit.
        unit: `per_tile`, on average over all tiles, or `total`.
        tiles: of the train split.
    """
    return points * tiles if unit == "per_tile" else points


@dataclass(frozen=True)
class Questionable:
    """An orthophoto's part in the train split: its image, and where a click would tell something.

    That is where the dense mask knows an answer, and nobody has clicked before.
    """

    image: RasterReader
    dense: RasterReader
    clicks: RasterReader

    @property
    def grid(self) -> RasterInfo:
        """The grid that all three lie on."""
        return self.image.info()

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read whole rows: (bands, rows, W) uint8, and (rows, W): may be asked about.

        Raises:
            ValueError: a file is damaged there.
        """
        window = Window(0, top, self.grid.width, bottom - top)
        image = np.asarray(self.image.read(window), np.uint8)
        known = self.dense.read(window)[0] != IGNORE_INDEX
        return image, known & (self.clicks.read(window)[0] == IGNORE_INDEX)


def open_questionable(tiles: Path, clicks: Path, orthophoto: str) -> Questionable:
    """Open an orthophoto's part in the train split.

    Args:
        tiles: the folder of the tile set.
        clicks: the folder of click rasters.
        orthophoto: its name.

    Raises:
        FileNotFoundError: one of its rasters is missing.
        ValueError: one is damaged.
    """
    return Questionable(
        *(
            RasterReader(raster_path(folder, SPLIT, orthophoto))
            for folder in (tiles / "images", tiles / "masks", clicks)
        )
    )


def write_answered(
    folder: Path,
    masks: Path,
    clicks: Path,
    tiles: Sequence[Tile],
    asked: Sequence[Suggestion],
    tile_set: TileSet,
    like: RasterInfo,
) -> npt.NDArray[np.uint8]:
    """Answer what is asked of an orthophoto, and write its clicks with the answers among them.

    Args:
        folder: gets SPLIT/ORTHOPHOTO.tif.
        masks: the folder of the dense masks.
        clicks: the folder of the clicks so far.
        tiles: of one orthophoto in the train split.
        asked: places in it.
        tile_set: to which the tiles belong.
        like: the orthophoto's grid.

    Returns:
        (N,) class ids, what is at the places.
    """
    size_px = tile_set.size_px
    dense, before = (TileReader(path, size_px, IGNORE_INDEX) for path in (masks, clicks))
    rows = np.array([one.row for one in asked], int)
    cols = np.array([one.col for one in asked], int)
    answers = np.full(len(asked), IGNORE_INDEX, np.uint8)
    path = raster_path(folder, SPLIT, tiles[0].orthophoto)
    with write_mask(path, like=like, block_px=size_px, classes=tile_set.classes) as writer:
        for tile in tiles:
            values = before.read(tile)[:, : tile.height, : tile.width].copy()
            down, across = rows - tile.row_off, cols - tile.col_off
            here = (down >= 0) & (down < tile.height) & (across >= 0) & (across < tile.width)
            if here.any():
                answers[here] = dense.read(tile)[0, down[here], across[here]]
                values[0, down[here], across[here]] = answers[here]
            writer.write(values, tile.extent)
    return answers


def rows_of(
    suggestions: Sequence[Suggestion],
    answers: Sequence[int],
    orthophotos: Sequence[str],
    classes: ClassTable,
) -> list[tuple[str | int | float, ...]]:
    """Return a table of what was asked and answered, see HEADER; rows and columns count from 0."""
    return [
        (
            orthophotos[asked.image],
            asked.row,
            asked.col,
            round(asked.uncertainty, 3),
            classes.names[asked.class_id],
            classes.names[answer],
        )
        for asked, answer in zip(suggestions, answers, strict=True)
    ]
