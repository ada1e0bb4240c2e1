"""Time and memory of the tile and annotate stages on a dataset of the size of LandCover.ai.

Run it with ``python benchmarks/full_size.py [--fraction 0.1] [--images IMAGE …] [--masks MASK …]``,
with ``PYTHONPATH=src``. It makes 41 orthophotos in a temporary folder, 33 of about 9000 × 9500 px
and 8 of about 4200 × 4700 px, and runs the stages on them like DVC, on all cores: tiles of 512 px,
then 500 clicks per class and tile, linked. With ``--fraction 0.1`` it makes 3 and 1 of them. The
files take 20 GB of disk, and are removed at the end.

IMAGE are real orthophotos, of which mosaics are made; MASK are masks of ids 0 to 4, such as those
of LandCover.ai, which are used in rotation and set the size of the orthophotos. Without them, both
are synthetic.

Originals are deflated in strips of one row. CPU time includes that of all workers. Memory is the
greatest proportional set size (PSS) of the stage and its workers, sampled twice a second.
"""
# ruff: noqa: T201

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio
import yaml
from orthophotos import CARD, TILE_PX, draw_image, draw_mask, lay_mosaic, write_striped

from pointcover.labels import Mask

ROOT = Path(__file__).parents[1]
LARGE, SMALL = (33, 9000, 9500), (8, 4200, 4700)
GOAL_MINUTES = 10


def read_mask(path: Path) -> Mask:
    """Read the first band."""
    with rasterio.open(path) as file:
        return np.asarray(file.read(1), np.uint8)


def make_dataset(folder: Path, fraction: float, images: list[Path], masks: list[Path]) -> float:
    """Write orthophotos and masks; return their number of megapixels."""
    pixels, number = 0, 0
    real = [read_mask(path) for path in masks]
    for count, height, width in (LARGE, SMALL):
        kind = [mask for mask in real if (max(mask.shape) > 7000) == (height == LARGE[1])]
        for one in range(max(1, round(fraction * count))):
            mask = kind[one % len(kind)] if kind else draw_mask(height, width)
            image = lay_mosaic(images, *mask.shape, seed=number) if images else draw_image(mask)
            name = f"sheet{number:02}.tif"
            rows = {"compress": "deflate", "zlevel": 1, "blockysize": 1}
            write_striped(folder / "images" / name, image, **rows)
            write_striped(folder / "masks" / name, mask[np.newaxis], **rows)
            pixels, number = pixels + mask.size, number + 1
    return pixels / 1e6


def run_stage(folder: Path, name: str) -> tuple[float, float, float]:
    """Run a stage; return its wall time and CPU time in minutes, and its peak memory in GB."""
    before, started_s, most = os.times(), time.perf_counter(), 0
    stage = psutil.Popen(
        [sys.executable, str(ROOT / "stages" / f"{name}.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    while stage.poll() is None:
        most = max(most, sum(map(memory, [stage, *children(stage)])))
        time.sleep(0.5)
    if stage.returncode:
        raise subprocess.CalledProcessError(stage.returncode, name)
    after = os.times()
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return (time.perf_counter() - started_s) / 60, cpu_s / 60, most / 1e9


def children(process: psutil.Process) -> list[psutil.Process]:
    """List a process's workers; none if it has ended."""
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def memory(process: psutil.Process) -> int:
    """Return the proportional set size of a process in bytes; 0 if it has ended."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time the stages on a full-size dataset.")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the orthophotos")
    parser.add_argument("--images", type=Path, nargs="+", default=[], metavar="IMAGE")
    parser.add_argument("--masks", type=Path, nargs="+", default=[], metavar="MASK")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source = folder / "sources" / "large"
        megapixels = make_dataset(source, arguments.fraction, arguments.images, arguments.masks)
        count = len(list((source / "images").iterdir()))
        card = CARD.model_dump(mode="json", exclude_unset=True)
        (folder / "sources" / "large.yaml").write_text(yaml.safe_dump(card))
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params |= {"dataset": "sources/large.yaml", "source": str(source), "points": 500}
        params["tile"] |= {"size_px": TILE_PX, "downsample": 1}
        params["annotate"] |= {"sampler": "uniform", "unit": "per_class", "propagator": "link"}
        params["machine"] |= {"workers": -1, "backend": "loky"}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        print(f"{count} orthophotos, {megapixels:.0f} megapixels, {os.cpu_count()} cores\n")
        print(f"{'':12}{'minutes':>10}{'CPU minutes':>13}{'GB at most':>12}")
        run_stage(folder, "download")
        total = np.zeros(2)
        for stage in ("tile", "annotate"):
            clock, cpu, peak = run_stage(folder, stage)
            total += clock, cpu
            print(f"{stage:12}{clock:10.2f}{cpu:13.2f}{peak:12.2f}", flush=True)
        print(f"{'together':12}{total[0]:10.2f}{total[1]:13.2f}")
        whole = total[1] / megapixels * sum(n * h * w for n, h, w in (LARGE, SMALL)) / 1e6
        print(
            f"\nall 41 at this rate: {whole:.1f} CPU minutes, {whole / 2:.1f} minutes on two idle "
            f"cores (aim: {GOAL_MINUTES})"
        )


if __name__ == "__main__":
    main()
