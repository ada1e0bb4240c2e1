"""Whether the processes that read crops keep a GPU busy, told on a machine that has none.

Run it with ``PYTHONPATH=src python benchmarks/readers.py``. A step and the reading of a crop are
stand-ins that sleep, so any number of readers fits two cores; the loader is that of the training.
The step takes what `benchmarks/training.py` measured on an H200, and a crop what makes a pass an
epoch wait as long as it did there. It prints images a second of an epoch that follows on another
and its validation: with a pass an epoch, with one over all as in the training, and the step alone.
"""
# ruff: noqa: T201

import argparse
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from training import read_settings, write_tiles

from pointcover.tileset.dataset import TileDataset
from pointcover.training.crops import Clocked, read_epochs, train_loader

SIZE_PX = 64
TIMES = 32
"""64 tiles so many times are an epoch, as in `training.py`."""


class SlowTiles(TileDataset):
    """Tiles whose reading takes so long."""

    crop_s: float

    def read_around(self, place: int, side_px: int | None = None) -> Any:
        """Sleep, then read."""
        time.sleep(self.crop_s)
        return super().read_around(place, side_px)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--crop-ms", type=float, default=13)
    parser.add_argument("--step-ms", type=float, default=61.2, help="for a batch")
    parser.add_argument("--validation-ms", type=float, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more than there are cores
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        tiles = SlowTiles(
            write_tiles(path, 8, SIZE_PX) * TIMES, path / "images", path / "masks", SIZE_PX
        )
        tiles.crop_s = options.crop_ms / 1000
        settings = read_settings(
            crop_px=SIZE_PX, zoom=1, augmentation="weak", batch_size=options.batch
        )
        loader = train_loader(tiles, settings, bands=3, workers=options.readers, seed=0)
        # Its processes stay for the next pass, which would wait for new ones to start otherwise.
        lasting = DataLoader(
            loader.dataset,
            batch_sampler=loader.batch_sampler,
            num_workers=options.readers,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=True,
        )
        print(f"the step alone: {options.batch / options.step_ms * 1000:.0f} images/s")
        for name, passes in (
            ("a pass an epoch", (next(read_epochs(lasting, (epoch,))) for epoch in (1, 2))),
            ("one pass", islice(read_epochs(loader, (1, 2, 3)), 2)),
        ):
            for _, batches in passes:
                crops, started_s = Clocked(batches), time.perf_counter()
                for _ in crops:
                    time.sleep(options.step_ms / 1000)
                seconds = time.perf_counter() - started_s
                time.sleep(options.validation_ms / 1000)
            print(
                f"{name}, {options.readers} readers: {len(tiles) / seconds:.0f} images/s, "
                f"{crops.waited_s / seconds:.1%} of it waiting for crops"
            )


if __name__ == "__main__":
    main()
