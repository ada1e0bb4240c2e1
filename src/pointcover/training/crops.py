"""Training crops: images (B, bands, H, W) uint8 and masks (B, H, W) uint8, and their order."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pointcover.labels import IGNORE_INDEX
from pointcover.raster.raster_io import mirror, pad
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import Tile
from pointcover.training.augmentation import Augmentation
from pointcover.training.augmentation_levels import AUGMENTATIONS
from pointcover.training.settings import Balance, TrainSettings

CropBatch = tuple[Tensor, Tensor, *tuple[Tensor, ...]]
"""Images, masks and, where point labels and other labels have their own fractions of the loss, the
masks of the point labels."""
Draw = tuple[int, int]
"""A sample of an epoch: (epoch, number). It seeds augmentation, whichever worker reads it."""


SCALE: Final = 1
"""Makes the generator of a crop's scale differ from that of its augmentation."""

TILE: Final = 2
"""Makes the generator of a crop's tile differ from both."""


class CropDataset(Dataset[CropBatch]):
    """Augmented crops around tiles: as many in an epoch as cover each orthophoto's tiles once.

    A crop is cut from the orthophoto, with all labels there. Only an orthophoto smaller than the
    crop's ground is mirrored at its edges, without labels in the mirrored part.
    """

    def __init__(
        self,
        tiles: TileDataset,
        augmentation: Augmentation,
        seed: int,
        zoom: float = 1,
        balance: Balance = "none",
    ) -> None:
        """Take tiles and the augmentation that crops them.

        Args:
            tiles: that crops are cut from and around.
            augmentation: cuts and changes a crop.
            seed: of the experiment.
            zoom: a crop shows between 1 / zoom and zoom times its own height and width of ground
                (log-uniform); 1 keeps the scale.
            balance: see `tile_weights`. `none` takes an orthophoto's tiles at equal steps of area,
                from a different start in each epoch: a tile of the area of four crops is taken
                four times, one of a quarter of a crop in one epoch of four.
        """
        self._tiles = tiles
        self._augmentation = augmentation
        self._zoom = zoom
        self._seed = seed
        crops = crops_of(tiles.tiles, augmentation.crop_px)
        self._count = round(float(crops.sum()))
        self._ends = np.cumsum(crops)[:-1]
        self._weights = None if balance == "none" else tile_weights(tiles.tiles, balance)

    def __len__(self) -> int:
        """Count the crops of an epoch."""
        return self._count

    def __getitem__(self, draw: Draw) -> CropBatch:
        """Read around a tile and augment, by the seed of this epoch and number."""
        epoch, number = draw
        seed = sample_seed(self._seed, epoch, number)
        scale = self._zoom ** np.random.default_rng([seed, SCALE]).uniform(-1, 1)
        side_px = round(self._augmentation.crop_px * scale)
        if self._weights is None:
            place = self._tile_at(epoch, number)
        else:
            draw_place = np.random.default_rng([seed, TILE])
            place = int(draw_place.choice(len(self._weights), p=self._weights))
        around_px = max(side_px, self._tiles.size_px)
        image, mask, _, _ = self._tiles.read_around(place, around_px)
        clicks = self._tiles.read_clicks_around(place, around_px)
        height, width = (max(side, side_px) for side in mask.shape)
        crop, crop_mask, *crop_clicks = self._augmentation(
            mirror(image, height, width),
            pad(mask, height, width, IGNORE_INDEX),
            side_px,
            seed,
            *(pad(labels, height, width, IGNORE_INDEX) for labels in clicks),
        )
        return (
            torch.from_numpy(crop),
            torch.from_numpy(crop_mask),
            *map(torch.from_numpy, crop_clicks),
        )

    def _tile_at(self, epoch: int, number: int) -> int:
        begin = np.random.default_rng([self._seed, epoch, TILE]).uniform()
        return int(np.searchsorted(self._ends, number + begin, side="right"))


def crops_of(tiles: Sequence[Tile], crop_px: int) -> npt.NDArray[np.float64]:
    """Return how many crops of an epoch each tile gets: (tiles,), below 1 for smaller tiles.

    The tiles of an orthophoto get as many together as cover them, and at least one: no crop is of
    two orthophotos.
    """
    areas = np.array([tile.height * tile.width for tile in tiles], np.float64)
    _, owners = np.unique([tile.orthophoto for tile in tiles], return_inverse=True)
    whole = np.bincount(owners, areas)
    crops = np.maximum(1, np.rint(whole / crop_px**2))
    return np.asarray(areas * (crops / whole)[owners])


def tile_weights(tiles: Sequence[Tile], balance: Balance) -> npt.NDArray[np.float64]:
    """Return the fraction of the crops that each tile gets.

    Args:
        tiles: with their regions, sizes and labelled pixels by class.
        balance: `none` is proportional to area. `region` gives each region the same number of
            crops, and its tiles by area: otherwise regions of fine GSD would have most of them.
            `class` draws a class uniformly, then a tile in proportion to its labelled pixels of
            that class (rare class sampling, Hoyer et al., DAFormer, CVPR 2022, at temperature 0).

    Returns:
        (tiles,), which sums to 1.
    """
    areas = np.array([tile.height * tile.width for tile in tiles], np.float64)
    if balance == "class":
        labelled = np.array([tile.pixels for tile in tiles], np.float64)
        totals = labelled.sum(axis=0)
        weights = (labelled[:, totals > 0] / totals[totals > 0]).sum(axis=1)
    elif balance == "region":
        _, region = np.unique([tile.region for tile in tiles], return_inverse=True)
        weights = areas / np.bincount(region, areas)[region]
    else:
        weights = areas
    return np.asarray(weights / weights.sum())


def crop_weights(tiles: Sequence[Tile], crop_px: int, balance: Balance) -> npt.NDArray[np.float64]:
    """Return the fraction of a training's crops that each tile gets: (tiles,), which sums to 1."""
    if balance != "none":
        return tile_weights(tiles, balance)
    crops = crops_of(tiles, crop_px)
    return np.asarray(crops / crops.sum())


def sample_seed(seed: int, epoch: int, number: int) -> int:
    """Return the seed of a sample of an epoch, 0 to 2³² - 1."""
    digest = hashlib.blake2b(f"{seed}:{epoch}:{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


class EpochBatches(Sampler[list[Draw]]):
    """Batches of (epoch, number) in an order that depends on the seed and the epoch only.

    A pass yields those of `epochs`, one epoch after the other. A last batch of one sample is left
    out, as batch normalisation needs two.

    Of several processes that train together, each takes its part of every batch: set `rank` (from
    0) and `ranks`. A last batch without two samples for each process is left out.
    """

    def __init__(self, length: int, batch_size: int, seed: int) -> None:
        """Take the number of samples in an epoch."""
        self.epochs: Sequence[int]  # set before a pass, as by `read_epochs`
        self.rank, self.ranks = 0, 1
        self.seed = seed
        self._length = length
        self._batch_size = batch_size

    @property
    def samples(self) -> int:
        """Count the samples of an epoch, over all ranks."""
        return min(self._length, len(self) * self._batch_size)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        full, rest = divmod(self._length, self._batch_size)
        return full + (rest >= 2 * self.ranks)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Return the batches of the epochs that are set."""
        for epoch in self.epochs:
            order = np.random.default_rng([self.seed, epoch]).permutation(self._length)
            for number in range(len(self)):
                chosen = order[number * self._batch_size : (number + 1) * self._batch_size]
                yield [(epoch, int(place)) for place in chosen[self.rank :: self.ranks]]


class Clocked:
    """Batches of a loader, and the seconds that were spent waiting for them."""

    def __init__(self, loader: Iterable[CropBatch]) -> None:
        """Take a loader."""
        self._loader = loader
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[CropBatch]:
        """Pass over the loader once, with the clock running while it works."""
        started_s = time.perf_counter()
        for batch in self._loader:
            self.waited_s += time.perf_counter() - started_s
            yield batch
            started_s = time.perf_counter()


def train_loader(
    tiles: TileDataset, settings: TrainSettings, *, bands: int, workers: int, seed: int
) -> DataLoader[CropBatch]:
    """Make the loader of augmented training crops; its `batch_sampler` is an EpochBatches.

    Args:
        tiles: that crops are cut from and around.
        settings: crop_px, zoom, augmentation, balance and batch_size.
        bands: bands of the images.
        workers: processes that read; 0 reads in this one.
        seed: of the experiment.

    Raises:
        ValueError: there are fewer than two crops in an epoch.
    """
    level = AUGMENTATIONS[settings.augmentation]
    augmentation = Augmentation(settings.crop_px, level, bands)
    crops = CropDataset(tiles, augmentation, seed, settings.zoom or level.zoom, settings.balance)
    if len(crops) < 2:
        raise ValueError(
            f"training has {len(crops)} crop(s) an epoch, wanted two or more for batch "
            f"normalisation: add train tiles, or halve train.crop_px"
        )
    return DataLoader(
        crops,
        batch_sampler=EpochBatches(len(crops), settings.batch_size, seed),
        num_workers=workers,
        prefetch_factor=4 if workers else None,  # GPUs' steps are short, crops' times vary
        pin_memory=torch.cuda.is_available(),
    )


def read_epochs(
    loader: DataLoader[CropBatch], epochs: Sequence[int]
) -> Iterator[tuple[int, Iterator[CropBatch]]]:
    """Yield epochs and their batches, all in one pass over a loader.

    Its workers continue with the next epoch while an epoch is validated.

    Args:
        loader: from `train_loader`.
        epochs: their numbers, from 1.

    Yields:
        an epoch's number and its batches, all of which must be consumed.
    """
    batches = loader.batch_sampler
    assert isinstance(batches, EpochBatches)
    batches.epochs = epochs
    passing = iter(loader) if epochs else iter(())
    for epoch in epochs:
        yield epoch, islice(passing, len(batches))
