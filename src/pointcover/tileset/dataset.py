"""Tiles and their masks as a torch dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pointcover.labels import IGNORE_INDEX, Image, Mask
from pointcover.raster.raster_io import mirror, pad
from pointcover.tileset.tiles import Tile, TileReader

Batch = tuple[Tensor, Tensor]


class TileDataset(Dataset[Batch]):
    """Tiles with their surroundings: image (bands, size_px, size_px) uint8, mask (…) uint8.

    Each labelled pixel of the split occurs once: labels in the surroundings of an edge tile are
    IGNORE_INDEX, since they belong to another tile.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        images: Path,
        masks: Path,
        size_px: int,
        clicks: Path | None = None,
    ) -> None:
        """Store the tiles and the folders of their rasters; `clicks` only if crops need them."""
        self.tiles = tiles
        self.size_px = size_px
        self._images = TileReader(images, size_px, fill=0)
        self._masks = TileReader(masks, size_px, fill=IGNORE_INDEX)
        self._clicks = TileReader(clicks, size_px, fill=IGNORE_INDEX) if clicks else None

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.tiles)

    def __getitem__(self, place: int) -> Batch:
        """Read one tile, mirrored where its orthophoto is smaller, without labels there."""
        tile = self.tiles[place]
        image, around, row, column = self.read_around(place)
        mask = keep_own(tile, around, row, column)
        size = (self.size_px, self.size_px)
        return (
            torch.from_numpy(mirror(image, *size)),
            torch.from_numpy(pad(mask, *size, IGNORE_INDEX)),
        )

    def read_around(self, place: int, side_px: int | None = None) -> tuple[Image, Mask, int, int]:
        """Read a tile and its surroundings, unpadded, with all labels; see TileReader."""
        tile = self.tiles[place]
        image, row, column = self._images.read_around(tile, side_px)
        return image, self._masks.read_around(tile, side_px)[0][0], row, column

    def read_clicks_around(self, place: int, side_px: int | None = None) -> Sequence[Mask]:
        """Read the clicks of the same square as `read_around`; nothing without their folder."""
        if self._clicks is None:
            return ()
        return (self._clicks.read_around(self.tiles[place], side_px)[0][0],)


def keep_own(tile: Tile, around: Mask, row: int, column: int) -> Mask:
    """Return the mask of a tile and its surroundings, with IGNORE_INDEX in the surroundings.

    Args:
        tile: whose labels are kept.
        around: of `read_around`, as are the row and the column at which the tile begins in it.
        row: see above.
        column: see above.
    """
    own = (slice(row, row + tile.height), slice(column, column + tile.width))
    mask = np.full_like(around, IGNORE_INDEX)
    mask[own] = around[own]
    return mask


def tile_loader(tiles: TileDataset, batch_size: int, workers: int = 0) -> DataLoader[Batch]:
    """Make a loader of tiles in their order, for validation and test."""
    return DataLoader(
        tiles,
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
