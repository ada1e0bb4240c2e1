"""What tiling and annotating a true-size orthophoto costs, the simple way beside ours.

Run it with ``PYTHONPATH=src python benchmarks/orthophotos.py [MASK.tif]`` (some minutes, 2 GB in a
temporary folder). MASK.tif is a mask of class ids 0 to 4, such as one of LandCover.ai; without it,
smooth areas of 9000 × 9500 px are drawn. The image is drawn over the mask, and both are written as
the masks of LandCover.ai are: in strips of one row, deflated.

The simple way reads window by window, as published code does, and writes each tile as two PNGs.
Memory is the peak of a process of its own for each part. Everything is timed in the same run.
"""
# ruff: noqa: T201

import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from pointcover.annotating import Annotation, annotate_orthophoto
from pointcover.annotations import Annotator, tile_budgets
from pointcover.cutting import Cutting
from pointcover.datasets.card import DatasetCard, Pair
from pointcover.growing import GROWERS, LinkSettings, WalkerSettings
from pointcover.tiles import write_index

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
PAIR = Pair("sheet", "sheet", "images/sheet.tif", "masks/sheet.tif")


def draw_mask(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw smooth areas, (height, width) uint8, with about the class shares of LandCover.ai."""
    generator = np.random.default_rng(0)
    mask = np.zeros((height, width), np.uint8)
    for class_id, share, cell in ((2, 0.33, 256), (3, 0.06, 128), (4, 0.02, 24), (1, 0.01, 16)):
        coarse = generator.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        mask[field > np.quantile(field[::16, ::16], 1 - share)] = class_id
    return mask


def draw_image(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Draw an image over a mask: a colour for each class, texture and noise, (3, H, W) uint8."""
    generator = np.random.default_rng(1)
    colours = np.array([[150, 140, 100], [170, 90, 80], [50, 80, 45], [40, 60, 80], [120] * 3])
    tile = generator.normal(0, 12, (1024, 1024)).astype(np.int16)
    texture = cv2.GaussianBlur(tile.astype(np.float32), (0, 0), 1.5) * 2 + tile // 3
    repeats = (mask.shape[0] // 1024 + 1, mask.shape[1] // 1024 + 1)
    texture = np.tile(texture.astype(np.int16), repeats)[: mask.shape[0], : mask.shape[1]]
    bands = [
        np.clip(colours[:, band].astype(np.int16)[mask] + texture, 0, 255) for band in range(3)
    ]
    return np.stack(bands).astype(np.uint8)


def write_striped(path: Path, values: npt.NDArray[np.uint8]) -> None:
    """Write (bands, H, W) as a plain GeoTIFF of strips."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", compress="deflate", blockysize=1, dtype="uint8", count=bands,
        height=height, width=width, crs="EPSG:2180",
        transform=from_origin(500_000, 600_000, 0.25, 0.25),
    ) as file:  # fmt: skip
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
                window = Window(col, row, TILE_PX, TILE_PX)
                tile = image.read(window=window).transpose(1, 2, 0)[:, :, ::-1]
                cv2.imwrite(str(out / f"{row}_{col}.png"), np.ascontiguousarray(tile))
                cv2.imwrite(str(out / f"{row}_{col}_m.png"), mask.read(1, window=window))


def tile_ours(folder: Path, out: Path) -> None:
    """Cut as the tile stage does, and keep the index."""
    cutting = Cutting()
    cutting.cut(PAIR, CARD, folder, out, {"sheet": "train"}, TILE_PX, 1)
    write_index(out / "index.csv", cutting.tiles, CLASSES)


def annotate(folder: Path, out: Path, grower: str) -> None:
    """Annotate as the annotate stage does: 500 clicks per class and tile, grown."""
    from pointcover.tiles import read_index

    tiles = read_index(folder / "index.csv")
    annotator = Annotator(
        sampler="uniform", unit="per_class", points=500 if grower == "link" else 40,
        classes=len(CLASSES), boundary_px=5, scribble_px=100,
    )  # fmt: skip
    annotation = Annotation(
        tiles=folder, out=out, size_px=TILE_PX, classes=CARD.class_table(), annotator=annotator,
        budgets=tile_budgets(annotator, {tile.id: sum(tile.pixels) for tile in tiles}),
        vectors=None, all_touched=False, grower=GROWERS[grower],
        growth=LinkSettings() if grower == "link" else WalkerSettings(), seed=1,
    )  # fmt: skip
    annotate_orthophoto(annotation, tiles)


def measure(function: Callable[..., None], *arguments: object) -> tuple[float, float, int]:
    """Run in a fresh process: seconds by the clock, seconds of the processor, peak MB."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(sender, function, arguments)
    )
    process.start()
    try:
        result: tuple[float, float, int] = receiver.recv()
    finally:
        process.join()
    return result


def _run(sender: object, function: Callable[..., None], arguments: tuple[object, ...]) -> None:
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    started_s, cpu_s = time.perf_counter(), time.process_time()
    function(*arguments)
    spent = time.perf_counter() - started_s, time.process_time() - cpu_s
    peak = _memory_mb("VmHWM") - before
    sender.send((*spent, peak))  # type: ignore[attr-defined]


def _memory_mb(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) // 1024  # type: ignore[union-attr]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            with rasterio.open(sys.argv[1]) as file:
                mask = file.read(1)
        else:
            mask = draw_mask(HEIGHT, WIDTH)
        write_striped(folder / PAIR.image, draw_image(mask))
        write_striped(folder / str(PAIR.mask), mask[np.newaxis])
        tiles = -(-mask.shape[0] // TILE_PX) * -(-mask.shape[1] // TILE_PX)
        print(f"{mask.shape[0]} × {mask.shape[1]} px, {tiles} tiles\n")
        print(f"{'':34}{'s':>8}{'CPU s':>8}{'ms a tile':>11}{'MB more':>9}")
        seconds = {}
        for label, function, arguments in (
            ("tile: windows of strips, PNGs", tile_simply, (folder, folder / "png")),
            ("tile: ours", tile_ours, (folder, folder / "tiles")),
            ("annotate: 500 per class, link", annotate, (folder / "tiles", folder / "a", "link")),
            ("annotate: 40 per class, walkers", annotate,
             (folder / "tiles", folder / "b", "random_walker")),
        ):  # fmt: skip
            clock_s, cpu_s, peak_mb = measure(function, *arguments)
            seconds[label] = cpu_s
            print(f"{label:34}{clock_s:8.1f}{cpu_s:8.1f}{1e3 * cpu_s / tiles:11.1f}{peak_mb:9}")
        simple, ours = list(seconds.values())[:2]
        print(f"\ntiling: {simple / ours:.1f}x the simple way, by processor time")


if __name__ == "__main__":
    main()
