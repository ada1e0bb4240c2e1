"""Time of a map against the network alone, and memory of a map.

Run it with ``PYTHONPATH=src python benchmarks/mapping.py`` (some minutes, 1 GB in a temporary
folder); ``--quick`` runs everything once and small, as a test.

The network alone predicts windows in memory, batch by batch, as many as the map has. The map reads
the image, predicts the same windows, and writes all its files. Both are timed in alternation in one
process; each time is the best of three. The ratio is the fraction of the network's throughput.
Overlaps of windows are computed twice in both, so there are fewer megapixels of map.

Memory is the increase of the peak of a new process while it maps a raster with a network of one
convolution, which needs almost no memory itself.
"""
# ruff: noqa: T201

import argparse
import multiprocessing
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window
from torch import nn

from pointcover.labels import ClassTable
from pointcover.maps.mapper import Mapper
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.description import Checkpoint
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.prediction.sliding_window import plan_windows
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.tiles import TileSet

WINDOW_PX, BATCH, ROUNDS = 512, 4, 3
NAMES = ("background", "building", "woodland", "water", "road")
CLASSES = ClassTable(NAMES, tuple((40 * number, 90, 90) for number in range(len(NAMES))))
MEAN, STD = (120.0,) * 3, (50.0,) * 3
TILE_SET = TileSet(CLASSES, WINDOW_PX, (0.25,), MEAN, STD, (0.0, 255.0), (1, 2, 3))


def write_image(path: Path, height: int, width: int) -> None:
    """Write areas with texture in GDAL's default format: in strips, not compressed."""
    generator = np.random.default_rng(0)
    texture = generator.normal(0, 12, (3, 512, width)).astype(np.float32)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=3,
        height=height,
        width=width,
        crs="EPSG:2180",
        transform=from_origin(500_000, 600_000, 0.25, 0.25),
    ) as file:
        for top in range(0, height, 512):
            coarse = generator.integers(40, 220, (3, 8, width // 64 + 1))
            areas = np.kron(coarse, np.ones((64, 64)))[:, :, :width]
            values = np.clip(areas + texture, 0, 255).astype(np.uint8)
            rows = min(512, height - top)
            file.write(values[:, :rows], window=Window(0, top, width, rows))


NETWORK = NetworkSettings(model="unet", encoder="resnet18", width=1)


def name(segmenter: Segmenter) -> NamedModel:
    """Make a model of a network and the tile set."""
    checkpoint = Checkpoint(NETWORK, TILE_SET, {})
    return NamedModel("benchmark", segmenter, checkpoint, "0" * 64)


def make_mapper(model: NamedModel, *, blend: bool = False) -> Mapper:
    """Prepare to map with one model."""
    settings = MapSettings(window_px=WINDOW_PX, batch_size=BATCH, blend=blend)
    return Mapper(make_fabric("auto", "auto"), [model], settings, ReadingSettings())


def map_image(mapper: Mapper, image: Path, out: Path) -> tuple[float, float]:
    """Map an image; return the wall time and the CPU time in seconds."""
    (task,) = mapper.prepare([image], out, replace=True)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    mapper.make(task, lambda megapixels, was_done: None)
    return time.perf_counter() - started_s, time.process_time() - cpu_s


def compare(folder: Path, side: int, width: float) -> None:
    """Print the throughput of a map and of the network alone."""
    image = folder / "image.tif"
    write_image(image, side, side)
    model = name(
        build_model(
            NETWORK.model_copy(update={"width": width}),
            BandStatistics(TILE_SET.mean, TILE_SET.std),
            len(CLASSES),
        )
    )
    mapper = make_mapper(model)
    plan = plan_windows(side, side, WINDOW_PX, 0.25, False)
    count = len(plan.rows.starts) * len(plan.columns.starts)
    with rasterio.open(image) as file:
        tile = torch.from_numpy(file.read(window=Window(0, 0, WINDOW_PX, WINDOW_PX)))
    fabric = make_fabric("auto", "auto")
    network = fabric.setup_module(model.segmenter, move_to_device=True).eval()
    in_row = len(plan.columns.starts)
    sizes = [min(BATCH, in_row - at) for at in range(0, in_row, BATCH)] * len(plan.rows.starts)
    batches = {n: tile.repeat(n, 1, 1, 1).to(fabric.device) for n in set(sizes)}

    def run_bare() -> tuple[float, float]:
        started_s, cpu_s = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            for size in sizes:
                network(batches[size])[:, 0, 0, 0].cpu()  # waits for a GPU
        return time.perf_counter() - started_s, time.process_time() - cpu_s

    run_bare()
    spent = [
        (run_bare(), map_image(mapper, image, folder / f"out{number}")) for number in range(ROUNDS)
    ]
    print(
        f"{side} × {side} px, U-Net with resnet18, width {width}, {count} windows of {WINDOW_PX} "
        f"px, {torch.get_num_threads()} thread(s), {fabric.device}, "
        f"{fabric.strategy.precision.precision}"
    )
    print(f"{'':14}{'s':>8}{'MPix/s of map':>15}{'CPU s':>8}")
    columns = zip(*spent, strict=True)
    best = [[min(times) for times in zip(*column, strict=True)] for column in columns]
    for label, (clock_s, cpu_s) in zip(("bare network", "whole map"), best, strict=True):
        print(f"{label:14}{clock_s:8.2f}{side * side / 1e6 / clock_s:15.2f}{cpu_s:8.2f}")
    (bare_s, bare_cpu_s), (ours_s, ours_cpu_s) = best
    print(
        f"the map has {bare_s / ours_s:.1%} of the bare network's throughput by the clock, "
        f"{bare_cpu_s / ours_cpu_s:.1%} by processor time"
    )


def measure_memory(image: Path, out: Path, *, blend: bool) -> tuple[float, int]:
    """Map an image in a new process; return seconds, and the increase of peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_map_and_tell, args=(sender, image, out, blend))
    process.start()
    result: tuple[float, int] = receiver.recv()
    process.join()
    return result


def _map_and_tell(sender: object, image: Path, out: Path, blend: bool) -> None:
    torch.manual_seed(0)
    mapper = make_mapper(name(Segmenter(nn.Conv2d(3, len(CLASSES), 1), MEAN, STD)), blend=blend)
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    seconds, _ = map_image(mapper, image, out)
    sender.send((seconds, _memory_mb("VmHWM") - before))  # type: ignore[attr-defined]


def _memory_mb(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) // 1024  # type: ignore[union-attr]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=2048, help="of the image that is timed")
    parser.add_argument("--width", type=float, default=1.0, help="of the network")
    parser.add_argument("--raster", type=int, default=12_000, help="side of the large raster")
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    options = parser.parse_args()
    side, raster = (600, 1200) if options.quick else (options.side, options.raster)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        compare(folder, side, options.width)
        print(f"\n{'raster':>16}{'s':>8}{'MPix/s':>8}{'MB more':>9}")
        for height, blend in ((raster // 4, False), (raster, False), (raster, True)):
            image = folder / f"{height}.tif"
            write_image(image, height, raster)
            seconds, peak = measure_memory(image, folder / f"{height}{blend}", blend=blend)
            speed = height * raster / 1e6 / seconds
            how = "  blended" if blend else ""
            print(f"{height:7} × {raster:6}{seconds:8.1f}{speed:8.1f}{peak:9}{how}", flush=True)


if __name__ == "__main__":
    main()
