"""Time of the parts of training on this machine, against simple baselines.

Run it with ``PYTHONPATH=src python benchmarks/learning.py`` (two minutes on an idle machine with
two cores); ``--quick`` runs everything once, as a test. Names of parts (``loss``, ``step``,
``read``, ``matrix``) select among them. Each time is the processor time of the best of several
calls, in milliseconds: other load of the machine disturbs it least. Compare the ratios: both sides
are timed in alternation in the same run.

The baselines: ``F.cross_entropy`` with ``ignore_index`` over every pixel, a focal loss with one-hot
labels, a gated CRF at full size; a training step in fp32 with contiguous weights; a PNG for each
tile and another for its mask; scikit-learn's ``confusion_matrix``.
"""
# ruff: noqa: T201

import argparse
import ctypes
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ["GDAL_CACHEMAX"] = "8"  # MB: a data set is larger than GDAL's cache, the test is not

import cv2
import numpy as np
import rasterio
import sklearn.metrics
import torch
from lightning_fabric import Fabric
from sheets import write_sheet
from torch import Tensor
from torch.nn import functional

from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.metrics.confusion import confusion_matrix
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.settings import NetworkSettings
from pointcover.raster.raster_io import Window
from pointcover.runtime.devices import computes_in_bf16
from pointcover.tileset.tiles import TileReader
from pointcover.training.losses.partial import PartialLoss
from pointcover.training.semi_supervised.gated_crf import gated_crf
from pointcover.training.semi_supervised.settings import GatedCrfSettings

Loss = Callable[[Tensor, Tensor], Tensor]
SIZE, CLASSES = 512, 5
TABLE = ClassTable(tuple("abcde"), tuple((40 * i, 90, 250 - 40 * i) for i in range(CLASSES)))


def best_ms(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Time calls in alternation, so that other load affects all; return the best, milliseconds.

    The time is that of the processor, of all threads together.
    """
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for place, call in enumerate(calls):
            start = time.process_time()
            call()
            best[place] = min(best[place], time.process_time() - start)
    return [1e3 * value for value in best]


def extra_mb(call: Callable[[], object]) -> float:
    """Measure the growth of this process's memory in a call, MB; NaN without Linux' /proc."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return float("nan")

    def kilobytes(key: str) -> int:
        return int(status.read_text().split(f"{key}:")[1].split()[0])

    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not to be used again unseen
    reset.write_text("5")  # the peak begins again at what is held now
    before = kilobytes("VmRSS")
    call()
    return (kilobytes("VmHWM") - before) / 1e3


def report(name: str, values: Sequence[float], unit: str = "ms") -> None:
    """Print a row: the baseline, ours, and the ratio."""
    simple, ours = values
    print(f"{name:46}{simple:9.2f} {unit:3}{ours:9.2f} {unit:3}{simple / ours:7.1f}x", flush=True)


def dense_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Take the mean over labelled pixels, computed over all."""
    return functional.cross_entropy(logits, mask.long(), ignore_index=IGNORE_INDEX)


def one_hot_focal(logits: Tensor, mask: Tensor) -> Tensor:
    """Take the focal loss as published, with one-hot labels, over all pixels."""
    labelled = mask != IGNORE_INDEX
    one_hot = functional.one_hot(torch.where(labelled, mask, 0).long(), CLASSES).movedim(-1, 1)
    p = logits.softmax(dim=1)
    losses = -(one_hot * (1 - p) ** 2 * (p + 1e-8).log()).sum(dim=1) * labelled
    return losses.sum() / labelled.sum()


def compare_losses(quick: bool) -> None:
    """Compare forward and backward of losses of 8 × 5 × 512², in time and memory.

    A lower bound is the gradient of one pixel, which is almost only writing zeros.
    """
    for clicks in (100, 2100):
        mask = torch.full((8, SIZE, SIZE), IGNORE_INDEX, dtype=torch.uint8)
        for tile in mask:
            tile.view(-1)[torch.randperm(SIZE * SIZE)[:clicks]] = torch.randint(
                CLASSES, (clicks,), dtype=torch.uint8
            )
        # As from networks: no leaves; ours are channels last, like our networks' logits.
        logits = torch.randn(8, CLASSES, SIZE, SIZE)
        last = logits.to(memory_format=torch.channels_last)

        def run(loss: Loss, logits: Tensor, mask: Tensor = mask) -> None:
            torch.autograd.grad(loss(logits, mask), logits)

        dense, sparse = logits.requires_grad_(), last.requires_grad_()
        ours = partial(run, PartialLoss(), sparse)
        print(f"losses, 8 × 5 × {SIZE}², {clicks} clicks a tile")
        for name, calls in {
            "cross-entropy": [partial(run, dense_cross_entropy, dense), ours],
            "cross-entropy, both of channels last": [
                partial(run, dense_cross_entropy, sparse),
                ours,
            ],
            "focal": [
                partial(run, one_hot_focal, dense),
                partial(run, PartialLoss(gamma=2.0), sparse),
            ],
            "one pixel's gradient, ours": [
                partial(run, lambda logits, _: logits[0, 0, 0, 0], sparse),
                ours,
            ],
        }.items():
            report(f"  {name}", best_ms(calls, 1 if quick else 9))
            memory = [extra_mb(call) for call in calls]
            report("    extra memory, a gradient of 42 MB with it", memory, unit="MB")
    compare_crf(quick)


def compare_crf(quick: bool) -> None:
    """Compare the gated CRF loss of 8 × 5 × 256² by how it is scaled."""
    size = 64 if quick else 256
    logits = torch.randn(8, CLASSES, size, size, requires_grad=True)
    images = torch.rand(8, 3, size, size)

    def run(scale: int) -> None:
        settings = GatedCrfSettings(
            weight=1, radius_px=5, sigma_px=6, sigma_colour=0.1, scale=scale
        )
        torch.autograd.grad(gated_crf(logits, images, settings), logits)

    for scale in (2, 4):
        calls = [partial(run, 1), partial(run, scale)]
        report(
            f"gated CRF, 8 × 5 × {size}², scale 1 and {scale}", best_ms(calls, 1 if quick else 3)
        )
        report("  extra memory", [extra_mb(call) for call in calls], unit="MB")


def compare_steps(quick: bool) -> None:
    """Compare training steps of a ResNet34 U-Net at 256², batch 8."""
    size, batch = (64, 2) if quick else (256, 8)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    mask = torch.full((batch, size, size), IGNORE_INDEX, dtype=torch.uint8)
    mask[:, ::16, ::16] = torch.randint(CLASSES, mask[:, ::16, ::16].shape, dtype=torch.uint8)

    def make_step(precision: str, loss: Loss, channels_last: bool) -> Callable[[], None]:
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
        settings = NetworkSettings(model="unet", encoder="resnet34", width=1)
        model = build_model(settings, BandStatistics((100.0,) * 3, (50.0,) * 3), CLASSES)
        inputs, network = images, model
        if not channels_last:
            # The segmenter itself asks for channels last: the baseline bypasses it.
            network = model.network.to(memory_format=torch.contiguous_format)  # type: ignore[assignment]
            inputs = (images.float() - 100) / 50
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        wrapped, optimizer = fabric.setup(network, optimizer)

        def step() -> None:
            optimizer.zero_grad()
            fabric.backward(loss(wrapped(inputs), mask))
            optimizer.step()

        step()  # the first one prepares
        return step

    if not computes_in_bf16("cpu"):
        print("this processor has no bf16 arithmetic: ours may be slower here")
    calls = [
        make_step("32-true", dense_cross_entropy, False),
        make_step("bf16-mixed", PartialLoss(), True),
    ]
    simple, ours = best_ms(calls, 1 if quick else 4)
    report(f"training step, U-Net resnet34, {batch} × {size}²", (simple, ours))
    print(f"  images a second: {1e3 * batch / simple:.1f} and {1e3 * batch / ours:.1f}")


def compare_reading(quick: bool) -> None:
    """Compare reading 512² tiles and masks of one orthophoto, all of them in the file cache."""
    image, mask = draw_orthophoto(1024, np.random.default_rng(0))
    times = 1 if quick else 4
    image, mask = np.tile(image, (1, times, times)), np.tile(mask, (times, times))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiles = write_sheet(folder, image, mask, SIZE, TABLE)
        for tile in tiles:
            rows, cols = Window(tile.col_off, tile.row_off, SIZE, SIZE).toslices()
            for kind, values in (
                ("image", image[::-1, rows, cols]),
                ("mask", mask[None, rows, cols]),
            ):
                cv2.imwrite(str(folder / f"{tile.id}.{kind}.png"), values.transpose(1, 2, 0))
        readers = TileReader(folder / "images", SIZE, 0), TileReader(folder / "masks", SIZE, 255)

        def ours() -> None:
            for tile in tiles:
                for reader in readers:
                    reader.read(tile)

        def pngs_by_opencv() -> None:
            for tile in tiles:
                read = cv2.imread(str(folder / f"{tile.id}.image.png"), cv2.IMREAD_COLOR_RGB)
                np.ascontiguousarray(np.asarray(read).transpose(2, 0, 1))
                cv2.imread(str(folder / f"{tile.id}.mask.png"), cv2.IMREAD_UNCHANGED)

        def pngs_by_rasterio() -> None:
            for tile in tiles:
                for kind in ("image", "mask"):
                    with rasterio.open(folder / f"{tile.id}.{kind}.png") as file:
                        file.read()

        names = ("OpenCV", "rasterio")
        *simple, own = best_ms([pngs_by_opencv, pngs_by_rasterio, ours], 1 if quick else 7)
        for library, spent in zip(names, simple, strict=True):
            report(
                f"read a tile and mask, PNGs by {library}", (spent / len(tiles), own / len(tiles))
            )
        png_mb = sum(file.stat().st_size for file in folder.glob("*.png")) / 1e6
        blocked_mb = sum(file.stat().st_size for file in folder.rglob("*.tif")) / 1e6
        report("  on disk", (png_mb, blocked_mb), unit="MB")


def compare_matrices(quick: bool) -> None:
    """Compare the confusion matrix of one 512² tile."""
    generator = np.random.default_rng(0)
    mask = generator.integers(0, CLASSES, (SIZE, SIZE), np.uint8)
    guess = np.where(generator.random(mask.shape) < 0.8, mask, (mask + 1) % CLASSES).astype(
        np.uint8
    )
    mask[generator.random(mask.shape) < 0.05] = IGNORE_INDEX
    tensors = torch.from_numpy(guess)[None], torch.from_numpy(mask)[None]

    def simple() -> object:
        labelled = mask != IGNORE_INDEX
        return sklearn.metrics.confusion_matrix(
            mask[labelled], guess[labelled], labels=range(CLASSES)
        )

    calls = [simple, lambda: confusion_matrix(*tensors, CLASSES)]
    report(f"confusion matrix of {SIZE}²", best_ms(calls, 1 if quick else 50))


PARTS = {
    "loss": compare_losses,
    "read": compare_reading,
    "matrix": compare_matrices,
    "step": compare_steps,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"got {', '.join(sorted(unknown))}, wanted some of {', '.join(PARTS)}")
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(f"{'':46}{'baseline':>12}{'ours':>13}{'ratio':>8}")
    for name in options.parts or PARTS:
        PARTS[name](options.quick)


if __name__ == "__main__":
    main()
