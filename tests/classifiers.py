"""Pixel classifiers that are fitted in milliseconds, and their settings."""

from dataclasses import replace
from typing import Any

import numpy as np
import yaml

from pointcover.features.settings import (
    EncoderFeatureSettings,
    FilterBankSettings,
    LocalStatisticsSettings,
)
from pointcover.networks.pixel_classifiers.classifier import PixelClassifier
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from pointcover.training.classifiers.fit import MEAN, ClassifierFit
from pointcover.training.classifiers.labelled_pixels import LabelledPixels, LabelledWindow, collect
from pointcover.training.classifiers.sample_weights import weight_classes
from pointcover.training.classifiers.settings import ClassifierSettings
from tests.imagery import ROOT, change

FILTERS_ALONE = {
    f"{head}.inputs": ["filter_bank"]
    for head in (
        "logistic_regression",
        "linear_discriminant",
        "perceptron",
        "random_forest",
        "extra_trees",
        "gradient_boosting",
    )
}

SMALL: dict[str, Any] = FILTERS_ALONE | {
    "logistic_regression.inverse_penalties": [0.01],
    "linear_discriminant.shrinkages": [0.3],
    "perceptron.hidden": 8,
    "perceptron.steps": 200,
    "random_forest.trees": 12,
    "extra_trees.trees": 12,
    "gradient_boosting.rounds": 8,
    "smoothing_px": 0,
}
"""Changes of `train.classifier` in params.yaml."""


def classifier_settings(**changes: Any) -> ClassifierSettings:
    """Return `train.classifier` of params.yaml, made small, with further changes."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return ClassifierSettings.model_validate(change(values["train"]["classifier"], SMALL | changes))


CLASSES = 4
BAND_STD = 50.0
FILTERS = FilterBankSettings(sigmas_px=(0.7, 1.6))
STATISTICS = LocalStatisticsSettings(sigmas_px=(2.0,), fine_sigmas_px=(0.7,))
ENCODER = EncoderBlockSettings(features=EncoderFeatureSettings(scales=(1,), levels=(1, 3)))


def draw_image(seed: int = 0, bands: int = 3, size: int = 64) -> np.ndarray:
    """Draw patches of different colours, with noise."""
    generator = np.random.default_rng(seed)
    patches = generator.integers(30, 220, (bands, size // 16, size // 16))
    image = patches.repeat(16, 1).repeat(16, 2) + generator.normal(0, 20, (bands, size, size))
    return image.clip(0, 255).astype(np.uint8)


def draw_windows(known: tuple[int, ...] = (0, 2, 3), bands: int = 3) -> list[LabelledWindow]:
    """Draw images, labelled at some pixels by how bright their first band is."""
    windows = []
    for seed in range(3):
        image = draw_image(seed, bands)
        mask = np.full(image.shape[1:], 255, np.uint8)
        rows, cols = np.random.default_rng(seed).integers(0, 64, (2, 80))
        brightness = image[0, rows, cols].astype(int) * len(known) // 256
        mask[rows, cols] = np.array(known)[brightness]
        windows.append(LabelledWindow(image, mask, f"tile {seed}"))
    return windows


VISION_TRANSFORMER = EncoderBlockSettings(
    name="test_vit", blocks=(3, 6), features=EncoderFeatureSettings(scales=(1,))
)


def fit(
    *heads: str, known=(0, 2, 3), bands: int = 3, encoder=ENCODER, **changes
) -> PixelClassifier:
    """Fit one head or the mean of several; changes are of the settings of `train.classifier`."""
    settings = classifier_settings(mean_of=heads, **changes)
    has_encoder = any("encoder" in getattr(settings, name).inputs for name in heads)
    features = PixelFeatures(
        PixelFeatureSettings(
            filter_bank=FILTERS,
            local_statistics=STATISTICS,
            encoder=encoder if has_encoder else None,
        ),
        bands,
    )
    model = heads[0] if len(heads) == 1 else MEAN
    return ClassifierFit(model, settings, CLASSES, seed=1).fit(
        features, balanced(collect(features, draw_windows(known, bands))), [BAND_STD] * bands
    )


def balanced(pixels: LabelledPixels) -> LabelledPixels:
    counts = np.bincount(pixels.classes, minlength=CLASSES)
    factors = len(pixels.classes) / np.maximum(counts, 1)
    return replace(pixels, weights=weight_classes(pixels.classes, pixels.weights, factors))
