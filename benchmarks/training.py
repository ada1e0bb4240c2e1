"""Throughput of training a U-Net, and its fraction of what the machine can do.

Run it with ``PYTHONPATH=src python benchmarks/training.py`` (a minute on a GPU); ``--quick`` runs
everything once, small. It trains like the stage, on the synthetic dataset in tiles of 512 px, and
prints images a second of

- the step alone, on one batch on the device;
- the whole loop, which reads and augments crops and copies them to the device, after another epoch
  and its validation;

with the fraction of the loop's time in which a GPU computes (the time of its kernels for a step, by
torch's profiler, times the steps), and the FLOP/s of the step (torch's FLOP counter; a
multiplication and an addition are two) relative to a matrix product of 8192² in the same precision.
"""
# ruff: noqa: T201

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sheets import write_sheet
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pointcover.config.params import load_params
from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.networks.build import BandStatistics, build_model
from pointcover.runtime.devices import Fabric, be_deterministic, count_readers, make_fabric
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.tileset.tiles import Tile
from pointcover.training.augmentation_levels import AUGMENTATIONS
from pointcover.training.crops import CropBatch, EpochBatches, read_epochs, train_loader
from pointcover.training.fit import validate
from pointcover.training.losses.partial import PartialLoss
from pointcover.training.settings import TrainSettings
from pointcover.training.step import Learner
from pointcover.training.totals import EpochSums

CLASSES = 5
CLICKS = 200
ROOT = Path(__file__).parents[1]
TABLE = ClassTable(tuple("abcde"), tuple((40 * i, 90, 250 - 40 * i) for i in range(CLASSES)))


def write_tiles(folder: Path, side: int, size_px: int) -> list[Tile]:
    """Write an orthophoto of side² equal synthetic tiles, with clicks; return its tiles."""
    generator = np.random.default_rng(0)
    image, mask = draw_orthophoto(size_px, generator)
    sparse = np.full_like(mask, IGNORE_INDEX)
    clicked = generator.choice(sparse.size, CLICKS, replace=False)
    sparse.ravel()[clicked] = mask.ravel()[clicked]
    image, sparse = np.tile(image, (1, side, side)), np.tile(sparse, (side, side))
    return write_sheet(folder, image, sparse, size_px, TABLE)


def read_settings(**changes: object) -> TrainSettings:
    """Return the settings of params.yaml with a small U-Net from scratch and other changes."""
    network = {"model": "unet", "encoder": "tu-regnetx_002", "weights": "none"}
    settings = load_params(ROOT / "params.yaml").train
    return settings.model_copy(update=network | changes)


def prepare(fabric: Fabric, settings: TrainSettings, batches: EpochBatches) -> Learner:
    """Prepare a U-Net for training."""
    model = build_model(settings, BandStatistics((100.0,) * 3, (50.0,) * 3), CLASSES)
    return Learner.prepare(fabric, model, PartialLoss(), settings, batches)


def wait_for(device: torch.device) -> None:
    """Synchronise with a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def per_second(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Measure calls a second, after a few for warm-up."""
    for _ in range(3 if seconds else 1):
        call()
    wait_for(device)
    started_s, count = time.perf_counter(), 0
    while count < 1 or time.perf_counter() - started_s < seconds:
        for _ in range(5 if seconds else 1):
            call()
            count += 1
        wait_for(device)
    return count / (time.perf_counter() - started_s)


def kernel_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds in which a GPU's kernels run for a call, by torch's profiler."""
    calls = 3
    wait_for(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
        wait_for(device)
    spent_us = sum(event.self_device_time_total for event in profiler.key_averages())
    return float(spent_us / 1e6 / calls)


def matrix_flops(fabric: Fabric, seconds: float) -> float:
    """Measure the arithmetic of a large matrix product, in FLOP/s, in a Fabric's precision."""
    size = 8192 if fabric.device.type == "cuda" else 1024
    dtype = torch.bfloat16 if "bf16" in fabric._precision.precision else torch.float32
    left, right = (torch.randn(size, size, dtype=dtype, device=fabric.device) for _ in range(2))
    return 2 * size**3 * per_second(lambda: left @ right, fabric.device, seconds)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--size", type=int, default=512, help="of tiles and crops, px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--readers", type=int, help="processes; by default as machine.readers auto")
    parser.add_argument("--augmentation", default="medium", choices=sorted(AUGMENTATIONS))
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--free", action="store_true", help="do not ask for the same bits again")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    size_px, batch = (64, 2) if options.quick else (options.size, options.batch)
    # An epoch is as long as a large data set's: its start counts for little.
    side, times = (2, 1) if options.quick else (8, 32)
    seconds = 0 if options.quick else 3
    if options.free:
        torch.backends.cudnn.benchmark = True
    else:
        be_deterministic()
    fabric = make_fabric("auto", options.precision)
    device = fabric.device
    readers = count_readers("auto" if options.readers is None else options.readers, fabric)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"torch {torch.__version__}, {name}, {fabric._precision.precision}: U-Net "
        f"{options.encoder}, {batch} × {size_px}², {CLICKS} clicks a tile"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        tiles = write_tiles(path, side, size_px)
        settings = read_settings(
            encoder=options.encoder,
            epochs=100,
            crop_px=size_px,
            zoom=1,
            augmentation=options.augmentation,
            batch_size=batch,
        )
        dataset = TileDataset(tiles * times, path / "images", path / "masks", size_px)
        loader = train_loader(dataset, settings, bands=3, workers=readers, seed=0)
        batches: Any = loader.batch_sampler
        learner = prepare(fabric, settings, batches)
        images, *masks = next(next(read_epochs(loader, (1,)))[1])
        # Masks come from the host as in the loop: what is labelled is counted there.
        taken: CropBatch = (fabric.to_device(images), *masks)

        sums = EpochSums(device)

        def step() -> None:
            learner.step([taken], 1, sums)

        learner.network.train()
        rate = batch * per_second(step, device, seconds)
        with FlopCounterMode(display=False) as counter:
            step()
        flops = counter.get_total_flops() / batch
        limit = matrix_flops(fabric, seconds)
        print(
            f"the step alone: {rate:.1f} images/s, {flops / 1e9:.0f} GFLOP an image: "
            f"{rate * flops / 1e12:.2f} of {limit / 1e12:.2f} TFLOP/s, {rate * flops / limit:.0%}"
        )
        val = fabric.setup_dataloaders(
            tile_loader(TileDataset(tiles, path / "images", path / "masks", size_px), batch),
            use_distributed_sampler=False,
        )
        epochs = read_epochs(loader, (1, 2, 3))  # of which 3 is read ahead while 2 is learned
        for epoch, crops in islice(epochs, 2):
            passed = learner.learn(crops, epoch, [], tqdm(disable=True))
            validate(learner.ema_network, val, PartialLoss(), TABLE.names)
        print(
            f"the whole loop, {readers} readers: "
            f"{batches.samples / passed.seconds:.1f} images/s, "
            f"{passed.waited_s / passed.seconds:.0%} of it waiting for crops"
        )
        if device.type == "cuda":
            fraction = kernel_seconds(step, device) * batches.samples / passed.seconds / batch
            memory = torch.cuda.max_memory_allocated(device) / 2**30
            print(
                f"the GPU computes in {fraction:.0%} of the loop's time; {memory:.1f} GiB at most"
            )


if __name__ == "__main__":
    main()
