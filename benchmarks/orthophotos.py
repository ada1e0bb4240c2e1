"""Time of tiling and annotating an orthophoto of real size, against a simple baseline.

Run it with ``PYTHONPATH=src python benchmarks/orthophotos.py [--images IMAGE …] [--mask MASK]``
(some minutes, 3 GB in a temporary folder). IMAGE are real orthophotos of any size, from which a
mosaic of the mask's size is made, each piece randomly rotated and flipped; without them, colours
with texture and noise are drawn over the mask. MASK is a mask of class ids 0 to 4, such as one of
LandCover.ai; without it, smooth areas of 9000 × 9500 px are drawn.

The baseline reads window by window with GDAL's default settings, as published code does, and writes
each tile as two PNGs with OpenCV. (GDAL caches decoded strips in up to a twentieth of the memory,
so that it decodes no strip twice here; ours caches 64 MB.) Originals are in GDAL's default format,
uncompressed strips, and in deflated strips of one row, like the masks of LandCover.ai. Inflating
them takes the same time for both: 0.8 s of ours' 2.2 s (9441 × 8825 px; then ZSTD 0.45, reading
back 0.3, counting and checksums 0.25, all else 0.4).

Each line is a new process, so that memory is its peak; all are timed in the same run. Compare CPU
times, and with other programs running only the ratios.
"""
# ruff: noqa: T201

import argparse
import multiprocessing
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from pointcover.annotation.annotate import Annotation, annotate_orthophoto, budgets_of
from pointcover.annotation.inputs import LabelInputs
from pointcover.config.params import load_params
from pointcover.datasets.card import DatasetCard, Pair
from pointcover.runtime.parallel import map_in_order
from pointcover.runtime.settings import MachineSettings
from pointcover.tileset.tiles import read_index, read_tile_set
from pointcover.tiling.cutting import CuttingPlan, cut_orthophoto
from pointcover.tiling.settings import TileSettings
from pointcover.tiling.tile_set import write_tiles

HEIGHT, WIDTH, TILE_PX = 9000, 9500, 512
CLASSES = ("background", "building", "woodland", "water", "road")
COLOURS = ("#D9C48F", "#D7263D", "#2E7D32", "#1E88E5", "#5E5E66")
CARD = DatasetCard.model_validate(
    {
        "title": "a true-size orthophoto",
        "images": "images/*.tif",
        "masks": "masks/*.tif",
        "classes": [
            {"name": name, "colour": colour} for name, colour in zip(CLASSES, COLOURS, strict=True)
        ],
    }
)
SETTINGS = TileSettings(size_px=TILE_PX, downsample=1, split_seed=0)
PARAMS = Path(__file__).parents[1] / "params.yaml"
PAIR = Pair("sheet", "sheet", "images/sheet.tif", "masks/sheet.tif")


def draw_mask(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw smooth areas, (height, width) uint8, with about the class fractions of LandCover.ai."""
    generator = np.random.default_rng(0)
    mask = np.zeros((height, width), np.uint8)
    for class_id, fraction, cell in ((2, 0.33, 256), (3, 0.06, 128), (4, 0.02, 24), (1, 0.01, 16)):
        coarse = generator.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        mask[field > np.quantile(field[::16, ::16], 1 - fraction)] = class_id
    return mask


def draw_image(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Draw an image over a mask: a colour for each class, texture and noise, (3, H, W) uint8."""
    generator = np.random.default_rng(1)
    colours = np.array([[150, 140, 100], [170, 90, 80], [50, 80, 45], [40, 60, 80], [120] * 3])
    image = np.empty((3, *mask.shape), np.uint8)
    for top in range(0, mask.shape[0], TILE_PX):
        rows = slice(top, top + TILE_PX)
        noise = generator.standard_normal(mask[rows].shape, np.float32) * 12
        texture = cv2.GaussianBlur(noise, (0, 0), 1.5) * 2 + noise / 3
        for band in range(3):
            values = colours[:, band].astype(np.float32)[mask[rows]] + texture
            image[band, rows] = np.clip(values, 0, 255)
    return image


def lay_mosaic(
    paths: Sequence[Path], height: int, width: int, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Fill (3, height, width) with square pieces of images, randomly rotated and flipped."""
    generator = np.random.default_rng(seed)
    images = []
    for path in paths:
        with rasterio.open(path) as file:
            images.append(file.read([1, 2, 3]))
    side = min(size for image in images for size in image.shape[1:])
    mosaic = np.empty((3, height, width), np.uint8)
    for row in range(0, height, side):
        for col in range(0, width, side):
            image = images[generator.integers(len(images))]
            top, left = (generator.integers(size - side + 1) for size in image.shape[1:])
            piece = image[:, top : top + side, left : left + side]
            piece = np.rot90(piece, int(generator.integers(4)), (1, 2))
            piece = piece[:, :, :: generator.choice([1, -1])]
            mosaic[:, row : row + side, col : col + side] = piece[:, : height - row, : width - col]
    return mosaic


def write_striped(path: Path, values: npt.NDArray[np.uint8], **options: object) -> None:
    """Write (bands, H, W) as a plain GeoTIFF of strips."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=bands,
        height=height,
        width=width,
        crs="EPSG:2180",
        transform=from_origin(500_000, 600_000, 0.25, 0.25),
        **options,
    ) as file:
        file.write(values)


def tile_simply(folder: Path, out: Path) -> None:
    """Read window by window and write PNGs."""
    out.mkdir()
    with (
        rasterio.open(folder / PAIR.image) as image,
        rasterio.open(folder / str(PAIR.mask)) as mask,
    ):
        for row in range(0, image.height, TILE_PX):
            for col in range(0, image.width, TILE_PX):
                window = Window(
                    col, row, min(TILE_PX, image.width - col), min(TILE_PX, image.height - row)
                )
                tile = image.read(window=window).transpose(1, 2, 0)[:, :, ::-1]
                cv2.imwrite(str(out / f"{row}_{col}.png"), np.ascontiguousarray(tile))
                cv2.imwrite(str(out / f"{row}_{col}_m.png"), mask.read(1, window=window))


def make_plan(folder: Path, out: Path) -> CuttingPlan:
    """Plan to cut the orthophoto as the tile stage does."""
    return CuttingPlan(CARD, folder, out, {"sheet": "train"}, SETTINGS)


def tile_ours(folder: Path, out: Path) -> None:
    """Cut like the tile stage, and return the index."""
    write_tiles(out, cut_orthophoto(make_plan(folder, out), PAIR), CARD, SETTINGS)


def cut_into(folder: Path, out: Path) -> None:
    """Cut the orthophoto once."""
    cut_orthophoto(make_plan(folder, out), PAIR)


def tile_two(folder: Path, out: Path) -> None:
    """Cut the orthophoto twice, in parallel."""
    cut = partial(cut_into, folder)
    outs = [out / str(number) for number in range(2)]
    machine = MachineSettings(workers=2, backend="loky", readers=0)
    list(map_in_order(cut, outs, machine, label="tiling", unit="sheet"))


def annotate(folder: Path, out: Path, propagator: str) -> None:
    """Annotate as the annotate stage does: many clicks per class and tile, propagated."""
    tiles = read_index(folder / "index.csv")
    chosen = {"unit": "per_class", "propagator": propagator}
    settings = load_params(PARAMS).annotate.model_copy(update=chosen)
    annotation = Annotation(
        tiles=folder,
        out=out,
        tile_set=read_tile_set(folder / "tiles.json"),
        settings=settings,
        inputs=LabelInputs(simulates=True, has_masks=True, vectors=None, clicks=None),
        budgets=budgets_of(settings, 500 if propagator == "link" else 40, tiles),
        seed=1,
    )
    annotate_orthophoto(annotation, tiles)


def measure(
    function: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None
) -> tuple[float, float, int]:
    """Run in a new process; return wall time and CPU time in seconds, and peak memory in MB."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(sender, function, arguments, environment or {})
    )
    process.start()
    try:
        result: tuple[float, float, int] = receiver.recv()
    finally:
        process.join()
    return result


def _run(
    sender: object,
    function: Callable[..., None],
    arguments: tuple[object, ...],
    environment: Mapping[str, str],
) -> None:
    os.environ.update(environment)
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    started_s, cpu_s = time.perf_counter(), cpu_seconds()
    function(*arguments)
    spent = time.perf_counter() - started_s, cpu_seconds() - cpu_s
    peak = _memory_mb("VmHWM") - before
    sender.send((*spent, peak))  # type: ignore[attr-defined]


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children, seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory_mb(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) // 1024  # type: ignore[union-attr]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time tiling and annotating an orthophoto.")
    parser.add_argument("--images", type=Path, nargs="+", default=[], metavar="IMAGE")
    parser.add_argument("--mask", type=Path)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    arguments = parse_arguments()
    # What raster.py sets as this script imports it: the baseline uses GDAL's default.
    gdals_own = {"GDAL_CACHEMAX": "5%"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mask = draw_mask(HEIGHT, WIDTH)
        if arguments.mask:
            with rasterio.open(arguments.mask) as file:
                mask = file.read(1)
        image = lay_mosaic(arguments.images, *mask.shape) if arguments.images else draw_image(mask)
        plain, deflated = folder / "plain", folder / "deflated"
        rows = {"compress": "deflate", "blockysize": 1}
        for place, options in ((plain, {}), (deflated, rows)):
            write_striped(place / PAIR.image, image, **options)
            write_striped(place / str(PAIR.mask), mask[np.newaxis], **rows)
        tiles = -(-mask.shape[0] // TILE_PX) * -(-mask.shape[1] // TILE_PX)
        made_of = f"a mosaic of {len(arguments.images)} images" if arguments.images else "drawn"
        print(f"{mask.shape[0]} × {mask.shape[1]} px, {tiles} tiles, image {made_of}\n")
        print(f"{'':38}{'s':>8}{'CPU s':>8}{'ms a tile':>11}{'MB more':>9}")

        def show(label: str, spent: tuple[float, float, int], count: int = tiles) -> None:
            clock_s, cpu_s, peak_mb = spent
            print(f"{label:38}{clock_s:8.1f}{cpu_s:8.1f}{1e3 * cpu_s / count:11.1f}{peak_mb:9}")

        ratios = []
        for kind, place in (("plain", plain), ("deflated", deflated)):
            simple = measure(tile_simply, place, place / "png", environment=gdals_own)
            show(f"tile {kind} strips: baseline", simple)
            ours = measure(tile_ours, place, place / "tiles")
            show(f"tile {kind} strips: ours", ours)
            two = measure(tile_two, place, place / "two")
            show(f"tile {kind} strips: ours, two at once", two, 2 * tiles)
            ratios.append(
                f"tiling {kind} strips: {simple[1] / ours[1]:.1f}x the simple way by processor "
                f"time, {simple[0] / ours[0]:.1f}x by the clock, two at once "
                f"{2 * simple[0] / two[0]:.1f}x"
            )
            for done in ("png", "two"):
                shutil.rmtree(place / done)
        tile_set = deflated / "tiles"
        show("annotate: 500 per class, link", measure(annotate, tile_set, folder / "a", "link"))
        show(
            "annotate: 40 per class, walkers",
            measure(annotate, tile_set, folder / "b", "random_walker"),
        )
        print("\n" + "\n".join(ratios))


if __name__ == "__main__":
    main()
