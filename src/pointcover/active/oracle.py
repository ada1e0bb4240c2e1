"""Simulate an annotator (oracle) who answers queries on train tiles from their dense masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.active.select import Suggestion
from pointcover.labels import IGNORE_INDEX
from pointcover.raster.raster_io import RasterInfo, RasterReader, Window, write_mask
from pointcover.tileset.tiles import Tile, TileReader, TileSet, raster_path

SPLIT: Final = "train"
"""The split in which pixels are queried, since labels of the others choose and score models."""


@dataclass(frozen=True)
class QueryRaster:
    """An orthophoto's part in the train split, and the pixels that may be queried.

    These are labelled in the dense mask, and have no point label yet.
    """

    image: RasterReader
    dense: RasterReader
    clicks: RasterReader

    @property
    def grid(self) -> RasterInfo:
        """Grid of the three rasters."""
        return self.image.info()

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return whole rows: (bands, rows, W) uint8, and (rows, W) bool: may be queried.

        Raises:
            ValueError: a file is damaged there.
        """
        window = Window(0, top, self.grid.width, bottom - top)
        image = np.asarray(self.image.read(window), np.uint8)
        is_labelled = self.dense.read(window)[0] != IGNORE_INDEX
        return image, is_labelled & (self.clicks.read(window)[0] == IGNORE_INDEX)

    def is_wrong(self, top: int, class_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Return where predicted classes differ from the dense mask.

        Args:
            top: the first row.
            class_ids: (h, W) of whole rows.

        Raises:
            ValueError: the mask is damaged there.
        """
        height, width = class_ids.shape
        return np.asarray(self.dense.read(Window(0, top, width, height))[0] != class_ids)


@dataclass(frozen=True)
class Oracle:
    """Dense masks that answer queries, and the existing point labels."""

    tiles: Path
    """The folder of the tile set."""
    clicks: Path
    """The folder of click rasters."""
    tile_set: TileSet

    def open(self, orthophoto: str) -> QueryRaster:
        """Open an orthophoto's part in the train split.

        Raises:
            FileNotFoundError: a raster is missing.
            ValueError: a raster is damaged.
        """
        folders = (self.tiles / "images", self.tiles / "masks", self.clicks)
        return QueryRaster(
            *(RasterReader(raster_path(folder, SPLIT, orthophoto)) for folder in folders)
        )

    def answer(
        self,
        folder: Path,
        tiles: Sequence[Tile],
        queries: Sequence[Suggestion],
        like: RasterInfo,
    ) -> npt.NDArray[np.uint8]:
        """Answer the queries of an orthophoto, and write a raster of all its point labels.

        Args:
            folder: in which SPLIT/ORTHOPHOTO.tif is written.
            tiles: of one orthophoto in the train split.
            queries: in this orthophoto.
            like: the orthophoto's grid.

        Returns:
            (N,) uint8 class ids, one for each query.
        """
        size_px = self.tile_set.size_px
        dense = TileReader(self.tiles / "masks", size_px, IGNORE_INDEX)
        before = TileReader(self.clicks, size_px, IGNORE_INDEX)
        rows = np.array([query.row for query in queries], int)
        cols = np.array([query.col for query in queries], int)
        answers = np.full(len(queries), IGNORE_INDEX, np.uint8)
        path = raster_path(folder, SPLIT, tiles[0].orthophoto)
        with write_mask(path, like=like, block_px=size_px, classes=self.tile_set.classes) as writer:
            for tile in tiles:
                values = before.read(tile)[:, : tile.height, : tile.width].copy()
                down, across = rows - tile.row_off, cols - tile.col_off
                here = (down >= 0) & (down < tile.height) & (across >= 0) & (across < tile.width)
                if here.any():
                    answers[here] = dense.read(tile)[0, down[here], across[here]]
                    values[0, down[here], across[here]] = answers[here]
                writer.write(values, tile.extent)
        return answers
