"""Fit a pixel classifier on labelled images that are open; this imports torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from pointcover.api.model import Model
from pointcover.image_labels.class_weights import weight_pixels
from pointcover.image_labels.describe import describe_classifier
from pointcover.image_labels.images import LabelledImages
from pointcover.image_labels.sample import ImageSample
from pointcover.image_labels.settings import ImageLabelSettings
from pointcover.image_labels.source import LabelSource
from pointcover.models.load import NamedModel
from pointcover.networks.checkpoint import save_checkpoint
from pointcover.prediction.settings import DeviceSettings
from pointcover.runtime.devices import be_deterministic, make_fabric
from pointcover.training.classifiers.features import make_features
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.classifiers.labelled_pixels import (
    LabelledPixels,
    LabelledWindow,
    UnlabelledDraw,
    collect,
)
from pointcover.training.fit import weights_of
from pointcover.training.settings import TrainSettings

CALLED: Final = "pointcover.fit"
"""Stands for the path of a model that is no file."""

EVERY: Final = 8
"""Of the windows around the labels, every so-many-th row and column is taken for the statistics of
the bands."""


def fit_source(
    source: LabelSource,
    opened: LabelledImages,
    own: ImageLabelSettings,
    train: TrainSettings,
    gsd_m: float | None,
) -> Model:
    """Fit a pixel classifier on the labelled pixels of images.

    Args:
        source: of the labelled pixels.
        opened: images.
        own: how they are read.
        train: of the classifier.
        gsd_m: of images without a CRS as they are read, metres, if known.

    Raises:
        ValueError: all labels are of one class, or there is no such device.
    """
    fabric = make_fabric(train.device, train.precision)
    be_deterministic()
    names = source.classes.names
    fit_of = ClassifierFit(train.model, train.classifier, len(names), own.seed)
    features = make_features(train, fit_of, source.bands).to(fabric.device).eval()
    thinning = source.thinning(train.classifier.max_pixels, own.seed)
    seen: list[Any] = []
    windows = _watched(source.read(features.margin_px, thinning), seen)
    draw = UnlabelledDraw(len(source.tiles), fit_of.unlabelled_pixels, own.seed)
    pixels = weight_pixels(train, names, collect(features, map(draw.mark, windows)))
    _check(pixels, names)
    sample = ImageSample(
        [tile.grid for tile in source.tiles],
        opened.bands,
        opened.value_range,
        np.concatenate(seen, axis=1),
        gsd_m,
    )
    tile_set = sample.tile_set(source.classes, own.tile_px)
    classifier = fit_of.fit(features, pixels, tile_set.std)
    segmenter, checkpoint = describe_classifier(classifier, train, tile_set, pixels)
    with TemporaryDirectory() as folder:  # the digest is that of the file that `save` writes
        digest = save_checkpoint(Path(folder), checkpoint, weights_of(segmenter))
    device = DeviceSettings(device=train.device, precision=train.precision)
    return Model(device, [NamedModel(CALLED, segmenter.eval(), checkpoint, digest)])


def _watched(windows: Iterator[LabelledWindow], seen: list[Any]) -> Iterator[LabelledWindow]:
    """Keep some pixels with data of each window."""
    for window in windows:
        some = window.image[:, ::EVERY, ::EVERY].reshape(len(window.image), -1)
        seen.append(some[:, some.any(axis=0)])
        yield window


def _check(pixels: LabelledPixels, names: Sequence[str]) -> None:
    known = np.unique(pixels.classes)
    if len(known) < 2:
        raise ValueError(
            f"all labels on the images are {names[known[0]]!r}, so there is nothing to tell apart: "
            f"label other classes, too"
        )
