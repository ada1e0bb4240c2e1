"""What a training reads: tile images and sparse masks, never dense ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pointcover.runtime.atomic_files import digest_values
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import Tile, TileSet, read_index, read_tile_set


@dataclass(frozen=True)
class SparseLabels:
    """The labels that a round of training is fitted on."""

    tiles: Sequence[Tile]
    """Of the train split, with their labelled pixels counted."""
    masks: Path
    """The folder of their masks."""
    has_propagated: bool
    """Whether there may be labels that are not point labels."""

    @property
    def labelled(self) -> list[Tile]:
        """Return the tiles with a label, which crops are drawn from."""
        return [tile for tile in self.tiles if sum(tile.pixels)]

    @property
    def pixels_by_class(self) -> list[int]:
        """Return the number of labelled pixels of each class."""
        return [sum(counts) for counts in zip(*(one.pixels for one in self.tiles), strict=True)]


@dataclass(frozen=True)
class TrainingData:
    """The tile set, its tiles of the splits train and val, and the folders of their rasters."""

    tile_set: TileSet
    tiles: Sequence[Tile]
    images: Path
    sparse: Path
    """The folder of `masks` and `clicks` (point labels)."""
    pseudo_labels: Path
    """The folder that masks with pseudo-labels are written to."""
    labels: SparseLabels
    """Of the first round."""

    @classmethod
    def read(
        cls,
        tile_set: Path,
        images: Path,
        sparse: Path,
        pseudo_labels: Path,
        *,
        has_propagated: bool,
    ) -> "TrainingData":
        """Read the tile set and the table of tiles.

        Raises:
            FileNotFoundError, ValueError: a file is missing or damaged.
        """
        known, tiles = read_tile_set(tile_set), read_index(sparse / "index.csv")
        train = [tile for tile in tiles if tile.split == "train"]
        labels = SparseLabels(train, sparse / "masks", has_propagated=has_propagated)
        return cls(known, tiles, images, sparse, pseudo_labels, labels)

    @property
    def digest(self) -> str:
        """Return a digest of the tile set and the table of tiles."""
        return digest_values([self.tile_set.to_json(), [asdict(tile) for tile in self.tiles]])

    @property
    def tiles_without_labels(self) -> int:
        """Count the tiles without a label."""
        return len([tile for tile in self.tiles if not sum(tile.pixels)])

    def clicks(self, *, are_needed: bool) -> Path | None:
        """Return the folder of the point labels, or None where they are not needed."""
        return self.sparse / "clicks" if are_needed else None

    def train_set(self, labels: SparseLabels, *, with_clicks: bool) -> TileDataset:
        """Return the train tiles that have a label."""
        clicks = self.clicks(are_needed=with_clicks)
        size_px = self.tile_set.size_px
        return TileDataset(labels.labelled, self.images, labels.masks, size_px, clicks)

    def val_set(self) -> TileDataset:
        """Return the val tiles that have a label."""
        labelled = [tile for tile in self.tiles if tile.split == "val" and sum(tile.pixels) > 0]
        return TileDataset(labelled, self.images, self.sparse / "masks", self.tile_set.size_px)
