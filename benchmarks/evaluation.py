"""Time of scoring on 512² tiles, against simple baselines and against inference.

Run it with ``OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/evaluation.py`` (about a minute).
The first table is in milliseconds of one core a tile, the best of several runs. Compare the ratios:
all sides are timed in the same run. The baselines are torchmetrics and scikit-learn for the
confusion matrix and the calibration error, and SciPy's distance transform, class by class, for
boundary F1.

The second table is the overhead: a U-Net with ResNet18 predicts tiles in batches of four, without
and with the counts of the evaluate stage, in alternation. The goal is at most 10 %.
"""
# ruff: noqa: T201

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import sklearn.metrics as reference
import torch
from clicks import FRACTIONS, SIZE, best_ms, make_mask, report
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from pointcover.evaluation.accumulate import count_tiles
from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.bootstrap import miou_interval
from pointcover.metrics.boundaries import DISTANCES_PX, count_boundaries
from pointcover.metrics.calibration import BINS, count_confidences
from pointcover.metrics.confusion import confusion_matrix
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.settings import NetworkSettings
from pointcover.prediction.predict import Predictor, predict
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.tiles import Tile

CLASSES = len(FRACTIONS)
TILES, BATCH, ROUNDS = 8, 4, 4


def count_boundaries_simply(prediction: Tensor, mask: Tensor) -> None:
    """Match boundaries class by class, by a distance transform of each side."""
    for class_id in range(CLASSES):
        edges = [edge_of(side[0].numpy() == class_id) for side in (mask, prediction)]
        for one, other in (edges, edges[::-1]):
            distances = distance_transform_edt(~other)
            for distance_px in DISTANCES_PX:
                np.count_nonzero(one & (distances <= distance_px))


def edge_of(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark the pixels of an area that have a neighbour outside."""
    padded = np.pad(inside, 1, mode="edge")
    kept = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~kept


def print_parts(generator: np.random.Generator) -> None:
    """Print the time of each count."""
    mask = torch.from_numpy(make_mask(generator))[None]
    prediction = torch.where(torch.rand(mask.shape) < 0.02, mask.roll(40, 1), mask.roll(3, 2))
    mask[torch.rand(mask.shape) < 0.02] = IGNORE_INDEX
    probability = torch.rand(1, CLASSES, SIZE, SIZE).softmax(dim=1)
    confidence = probability.amax(dim=1)
    whole, known = mask.long(), (mask != IGNORE_INDEX).numpy()
    print(f"{'a tile, ms of one core':34}{'baseline':>11}{'ours':>11}{'ratio':>8}")
    confusion = best_ms(lambda: confusion_matrix(prediction, mask, CLASSES), 30)
    for name, simple in (
        (
            "torchmetrics",
            lambda: multiclass_confusion_matrix(
                prediction.long(), whole, CLASSES, ignore_index=IGNORE_INDEX
            ),
        ),
        (
            "torchmetrics, not validated",
            lambda: multiclass_confusion_matrix(
                prediction.long(), whole, CLASSES, ignore_index=IGNORE_INDEX, validate_args=False
            ),
        ),
        (
            "scikit-learn",
            lambda: reference.confusion_matrix(
                mask.numpy()[known], prediction.numpy()[known], labels=range(CLASSES)
            ),
        ),
    ):
        report(f"confusion matrix, {name}", best_ms(simple, 10), confusion)
    report(
        "boundaries at 1, 3, 5 px, SciPy",
        best_ms(lambda: count_boundaries_simply(prediction, mask), 3),
        best_ms(lambda: count_boundaries(prediction, mask, CLASSES), 15),
    )
    report(
        "calibration, torchmetrics",
        best_ms(
            lambda: multiclass_calibration_error(
                probability, whole, CLASSES, BINS, ignore_index=IGNORE_INDEX
            ),
            5,
        ),
        best_ms(lambda: count_confidences(confidence, prediction, mask), 15),
    )
    report(
        "class and confidence, argmax, amax",
        best_ms(lambda: (probability.argmax(dim=1), probability.amax(dim=1)), 5),
        best_ms(lambda: probability.max(dim=1), 15),
    )
    confusions = generator.multinomial(SIZE**2, np.ones(CLASSES**2) / CLASSES**2, 1602)
    matrices = confusions.reshape(-1, CLASSES, CLASSES)
    seconds = best_ms(
        lambda: miou_interval(matrices, np.ones(CLASSES, bool), np.random.default_rng(0)), 2
    )
    print(f"\ninterval of mIoU over 1602 tiles, once: {seconds:.0f} ms")


def print_whole(generator: np.random.Generator) -> None:
    """Print the overhead of counting over inference."""
    masks = torch.from_numpy(np.stack([make_mask(generator) for _ in range(TILES)]))
    images = (masks[:, None] * 40 + torch.randint(0, 40, (TILES, 3, SIZE, SIZE))).to(torch.uint8)
    network = NetworkSettings(model="unet", encoder="resnet18", width=1)
    model = build_model(network, BandStatistics((100.0,) * 3, (50.0,) * 3), CLASSES)
    fabric = make_fabric("auto", "auto")
    # On a processor its own time, as other programs run, too; on a GPU that of the wall.
    clock = time.process_time if fabric.device.type == "cpu" else time.perf_counter
    loader = DataLoader(TensorDataset(images, masks), BATCH)
    tiles = [Tile(str(k), "o", "r", "test", 0, 0, SIZE, SIZE, (1,)) for k in range(TILES)]
    foresee = partial(predict, fabric, Predictor([model]), loader)

    def throw_away() -> None:
        for _ in foresee():
            pass

    ways: dict[str, Callable[[], object]] = {
        "inference alone": throw_away,
        "with all counts": lambda: count_tiles(foresee(), tiles, CLASSES),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = clock()
            way()
            best[name] = min(best[name], (clock() - start) / TILES)
    plain, full = best.values()
    print(f"\nU-Net of ResNet18, {fabric.device}, {fabric.strategy.precision.precision}")
    for name, seconds in best.items():
        print(f"{name:34}{1000 * seconds:8.1f} ms a tile")
    print(f"{'more':34}{100 * (full / plain - 1):8.1f} %")


def main() -> None:
    """Print both tables."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print_parts(generator)
    print_whole(generator)


if __name__ == "__main__":
    main()
