"""Throughput and memory of maps with pixel classifiers, beside a U-Net with ResNet18.

Run it with ``PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/classifier_maps.py`` (ten
minutes, 1 GB in a temporary folder); ``--quick`` runs everything once and small, as a test.

Classifiers are fitted on 1100 pixels of the synthetic image that they map, as many as ten clicks a
tile give on Dubai, and have the default settings and windows of `predict`; single heads are not
smoothed. Maps are made in turns in one process, each time is the best of its rounds, in processor
seconds: trust the ratios. Memory is the increase of the peak of a new process that maps a raster,
after the model was loaded and a small image mapped.
"""
# ruff: noqa: T201

import argparse
import multiprocessing
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from mapping import CLASSES, NETWORK, TILE_SET, _memory_mb, map_image, write_image

from pointcover.config.recipes import RECIPES
from pointcover.features.settings import EncoderFeatureSettings, LocalStatisticsSettings
from pointcover.maps.mapper import Mapper
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.description import Checkpoint
from pointcover.networks.pixel_classifiers.encoder_weights import load_encoder
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.networks.weights_files import find_packaged_weights
from pointcover.prediction.windows import usual_window_px
from pointcover.runtime.devices import make_fabric
from pointcover.training.classifiers.fit import MEAN, ClassifierFit
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.settings import ClassifierSettings
from pointcover.yaml_files import read_yaml

PARAMS = read_yaml(Path(__file__).parents[1] / "params.yaml")["train"]["classifier"]
LABELS, TILE_PX = 1100, 256
ENCODER = "tf_efficientnet_lite0"
UNET = "unet, resnet18"


@dataclass(frozen=True)
class Case:
    """Heads with their inputs, scales of the encoder, and smoothing."""

    heads: tuple[str, ...]
    scales: tuple[int, ...] = ()
    views: int = 1
    """Of the image, over which the encoder's features are averaged."""
    smoothing_px: int = 0
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def settings(self) -> ClassifierSettings:
        """Return the settings of `train.classifier`."""
        values: dict[str, Any] = PARAMS | {
            "mean_of": self.heads,
            "scales": self.scales or (2,),
            "smoothing_px": self.smoothing_px,
        }
        for head in self.heads:
            inputs = self.inputs.get(head, values[head]["inputs"])
            there = [name for name in inputs if self.scales or name != "encoder"]
            values |= {head: values[head] | {"inputs": there}}
        return ClassifierSettings.model_validate(values)


def recipe(name: str) -> Case:
    """Return the classifiers of a recipe."""
    section = "train.classifier."
    settings = RECIPES[name].settings
    ours = {key.removeprefix(section): value for key, value in settings.items() if section in key}
    heads = ours.pop("mean_of")
    scales, views = ours.pop("scales", ()), ours.pop("encoder_views", 1)
    smoothing_px = ours.pop("smoothing_px")
    inputs = {key.partition(".")[0]: ours[key] for key in ours if key.endswith(".inputs")}
    return Case(tuple(heads), tuple(scales), views, smoothing_px, inputs)


BANK = ("filter_bank",)
SINGLE = ("logistic_regression", "perceptron", "random_forest", "extra_trees", "gradient_boosting")
CASES = {
    **{f"{name}, filters": Case((name,)) for name in SINGLE},
    "extra_trees, filter bank": Case(("extra_trees",), inputs={"extra_trees": BANK}),
    **{
        f"{name}, encoder": Case((name,), (2,), inputs={name: ("filter_bank", "encoder")})
        for name in SINGLE
        if name != "extra_trees"
    },
    **{f"recipe {name}": recipe(name) for name in ("filters", "fast", "best")},
}
"""Classifiers by name."""


def fit(case: Case, image: np.ndarray) -> PixelSegmenter:
    """Fit a classifier on some pixels of an image, (bands, H, W)."""
    settings = case.settings()
    needed = {block for head in case.heads for block in getattr(settings, head).inputs}
    has_statistics = "local_statistics" in needed
    scales = EncoderFeatureSettings.model_validate(
        {"scales": case.scales or (2,), "views": case.views}
    )
    features = PixelFeatures(
        PixelFeatureSettings(
            local_statistics=LocalStatisticsSettings() if has_statistics else None,
            encoder=EncoderBlockSettings(features=scales) if case.scales else None,
        ),
        bands=len(image),
    ).eval()
    weights = find_packaged_weights(ENCODER)
    if case.scales and weights:
        load_encoder(features, str(weights))
    generator = np.random.default_rng(0)
    rows, cols = generator.integers(0, image.shape[1:], (LABELS, 2)).T
    brightness = image[:, rows, cols].mean(0) + generator.normal(0, 25, LABELS)
    classes = (brightness / 256 * len(CLASSES)).astype(np.int64).clip(0, len(CLASSES) - 1)
    found = features.at(torch.from_numpy(image), torch.from_numpy(rows), torch.from_numpy(cols))
    pixels = LabelledPixels(
        {name: values.numpy() for name, values in found.items()},
        classes,
        rows // TILE_PX * 100 + cols // TILE_PX,
        np.ones(LABELS, bool),
        np.ones(LABELS),
    )
    name = MEAN if len(case.heads) > 1 else case.heads[0]
    classifier = ClassifierFit(name, settings, len(CLASSES), seed=0).fit(
        features, pixels, TILE_SET.std
    )
    return PixelSegmenter(classifier.eval(), TILE_SET.mean, TILE_SET.std)


def make_mapper(name: str, image: np.ndarray) -> Mapper:
    """Prepare to map with a model as `predict` does."""
    if name == UNET:
        network, classifier = NETWORK, None
        statistics = BandStatistics(TILE_SET.mean, TILE_SET.std)
        segmenter = build_model(NETWORK, statistics, len(CLASSES))
    else:
        network = NetworkSettings(model="classifier_mean", encoder="none", width=1)
        segmenter = fit(CASES[name], image)
        classifier = segmenter.network.settings
    model = NamedModel(
        name, segmenter, Checkpoint(network, TILE_SET, {}, classifier=classifier), "0" * 64
    )
    settings = MapSettings(window_px=usual_window_px(TILE_PX, model.window_needs))
    return Mapper(make_fabric("auto", "auto"), [model], settings, ReadingSettings())


def read(path: Path) -> np.ndarray:
    """Read the upper left of an image."""
    with rasterio.open(path) as file:
        return file.read(window=((0, min(file.height, 768)), (0, min(file.width, 768))))


def measure_memory(name: str, image: Path, out: Path) -> int:
    """Map an image in a new process; return the increase of peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_map_and_tell, args=(sender, name, image, out))
    process.start()
    result: int = receiver.recv()
    process.join()
    return result


def _map_and_tell(sender: Any, name: str, image: Path, out: Path) -> None:
    torch.set_num_threads(1)
    mapper = make_mapper(name, read(image))
    small = out.parent / "small.tif"
    write_image(small, 64, 64)
    map_image(mapper, small, out.parent / f"{out.name} small")
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    map_image(mapper, image, out)
    sender.send(_memory_mb("VmHWM") - before)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=1152, help="of the image that is timed")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--raster", type=int, nargs=2, default=(700, 10_000), help="of memory: height, width"
    )
    parser.add_argument("--memory-of", nargs="*", default=["recipe fast", "recipe best"])
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    options = parser.parse_args()
    if options.quick:
        options.side, options.rounds, options.raster = 256, 1, (256, 512)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        image = folder / "image.tif"
        write_image(image, options.side, options.side)
        names = [UNET, *options.cases]
        mappers = {name: make_mapper(name, read(image)) for name in names}
        best = dict.fromkeys(names, np.inf)
        for number in range(options.rounds):
            for name, mapper in mappers.items():
                _, cpu_s = map_image(mapper, image, folder / f"{name} {number}")
                best[name] = min(best[name], cpu_s)
        precision = mappers[UNET].scoring.precision
        print(f"{options.side} × {options.side} px, {precision}, processor time of one thread")
        print(f"{'':28}{'s/MPix':>8}{'MPix/s':>8}{'of U-Net':>10}")
        megapixels = options.side**2 / 1e6
        for name, cpu_s in best.items():
            ratio = best[UNET] / cpu_s
            print(
                f"{name:28}{cpu_s / megapixels:8.2f}{megapixels / cpu_s:8.3f}{ratio:10.2f}",
                flush=True,
            )
        raster = folder / "raster.tif"
        write_image(raster, *options.raster)
        for name in options.memory_of:
            peak = measure_memory(name, raster, folder / f"{name} of the raster")
            height, width = options.raster
            print(f"{name}: {peak} MB beyond the model for {height} × {width} px", flush=True)


if __name__ == "__main__":
    main()
