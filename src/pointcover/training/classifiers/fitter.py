"""The way of fitting pixel classifiers: collect features of labelled pixels, fit, validate."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from pointcover.features.encoder_pyramid import use_cache
from pointcover.features.level_cache import LevelCache
from pointcover.labels import Image
from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.networks.pixel_classifiers.classifier import PixelClassifier
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.runtime.devices import peak_memory_mib
from pointcover.runtime.progress import show_duration, show_progress
from pointcover.tileset.dataset import TileDataset, keep_own
from pointcover.training.classifiers.features import make_features
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.classifiers.labelled_pixels import (
    LabelledPixels,
    LabelledWindow,
    PixelTable,
    Thinning,
    UnlabelledDraw,
    collect,
)
from pointcover.training.classifiers.sample_weights import (
    fix_fraction,
    weight_classes,
    weight_fractions,
)
from pointcover.training.data import SparseLabels
from pointcover.training.fit import NO_VAL_LABELS, weights_of
from pointcover.training.loss_fractions import needs_point_labels
from pointcover.training.results import Callbacks, EpochResult, Fitted
from pointcover.training.task import TrainingTask

logger = logging.getLogger(__name__)

THINNING_SEED: Final = 1
"""Beside the seed of the experiment, so that nothing else is drawn by this generator."""


def fit_pixel_classifier(task: TrainingTask, labels: SparseLabels, callbacks: Callbacks) -> Fitted:
    """Fit a pixel classifier on the labelled pixels of the train tiles.

    Raises:
        ValueError: no val tile has a label, several devices are wanted, or what features and
            weights say.
    """
    settings, data = task.settings_for(labels), task.data
    if not len(data.val_set()):
        raise ValueError(NO_VAL_LABELS)
    start = time.perf_counter()
    names = data.tile_set.classes.names
    fit = ClassifierFit(settings.model, settings.classifier, len(names), task.seed)
    features = make_features(settings, fit, len(data.tile_set.mean))
    use_cache(features, LevelCache.of(task.machine))
    features.to(task.fabric.device).eval()
    windows = read_windows(task, labels, features.margin_px)
    draw = UnlabelledDraw(len(labels.labelled), fit.unlabelled_pixels, task.seed)
    pixels = collect(features, map(draw.mark, windows))
    weights = weight_classes(pixels.classes, pixels.weights, task.loss(labels).class_weights)
    if settings.propagated_loss_fraction is not None:
        weights = fix_fraction(weights, pixels.is_clicked, settings.propagated_loss_fraction)
    pixels = replace(pixels, weights=weights)
    logger.info(
        "%d labelled pixels of %d tiles, %d features, in %s",
        len(pixels.classes),
        len(labels.labelled),
        features.count,
        show_duration(time.perf_counter() - start),
    )
    classifier = fit.fit(features, pixels, data.tile_set.std)
    train_loss = classifier_loss(classifier, pixels)
    seconds = time.perf_counter() - start
    result = replace(
        validate_classifier(task, classifier),
        train_loss=train_loss,
        seconds=seconds,
        images_per_s=len(labels.labelled) / seconds,
    )
    segmenter = PixelSegmenter(classifier, data.tile_set.mean, data.tile_set.std)
    preview(task, segmenter, callbacks)
    callbacks.report(result)
    fractions = weight_fractions(pixels.classes, weights, len(names))
    return Fitted(result, weights_of(segmenter), classifier.settings, fractions)


def read_windows(
    task: TrainingTask, labels: SparseLabels, margin_px: int
) -> Iterator[LabelledWindow]:
    """Read each labelled train tile with its surroundings, and at most `max_pixels` labels."""
    needs_clicks = needs_point_labels(task.settings_for(labels))
    return thin_tiles(task, task.data.train_set(labels, with_clicks=needs_clicks), margin_px)


def thin_tiles(task: TrainingTask, tiles: TileDataset, margin_px: int) -> Iterator[LabelledWindow]:
    """Read tiles with their surroundings, and at most `max_pixels` of their labels."""
    counts = [sum(tile.pixels) for tile in tiles.tiles]
    generator = np.random.default_rng((task.seed, THINNING_SEED))
    thinning = Thinning(counts, task.settings.classifier.max_pixels, generator)
    for place, window in enumerate(read_tiles(tiles, margin_px)):
        yield replace(window, mask=thinning.thin(place, window.mask))


def read_tiles(tiles: TileDataset, margin_px: int) -> Iterator[LabelledWindow]:
    """Read tiles with their surroundings, and their own labels.

    Tiles that follow each other in one orthophoto not larger than that have one image.
    """
    side_px = tiles.size_px + 2 * margin_px
    last: tuple[object, Image] | None = None
    for place, tile in enumerate(show_progress(tiles.tiles, "pixel features", "tile")):
        image, around, row, column = tiles.read_around(place, side_px)
        square = (tile.split, tile.orthophoto, tile.row_off - row, tile.col_off - column)
        if last is not None and last[0] == square:
            image = last[1]
        last = square, image
        mask = keep_own(tile, around, row, column)
        clicks = tiles.read_clicks_around(place, side_px)
        own = slice(row, row + tile.height), slice(column, column + tile.width)
        yield LabelledWindow(image, mask, tile.id, clicks[0] if clicks else None, own)


def score_pixels(classifier: PixelClassifier, pixels: LabelledPixels) -> torch.Tensor:
    """Return the logits of labelled pixels, (1, classes, 1, P)."""
    with torch.no_grad():
        logits: torch.Tensor = classifier.head(PixelTable(pixels))
    return logits


def classifier_loss(classifier: PixelClassifier, pixels: LabelledPixels) -> float:
    """Return the weighted mean cross-entropy of a classifier on labelled pixels."""
    logits = score_pixels(classifier, pixels)[0, :, 0].T
    losses = functional.cross_entropy(logits, torch.from_numpy(pixels.classes), reduction="none")
    return float(np.average(losses.numpy(), weights=pixels.weights))


def validate_classifier(task: TrainingTask, classifier: PixelClassifier) -> EpochResult:
    """Score a classifier on labelled pixels of the val tiles; it counts as one epoch.

    Of more than `max_pixels` so many are drawn, whose features would take too much memory.
    """
    data = task.data
    names = data.tile_set.classes.names
    features = classifier.features
    pixels = collect(features, thin_tiles(task, data.val_set(), features.margin_px))
    logits = score_pixels(classifier, pixels)
    mask = torch.from_numpy(pixels.classes).to(torch.uint8)[None, None]
    confusion = confusion_matrix(logits.argmax(dim=1), mask, len(names))
    found = scores(confusion.numpy(), names)
    return EpochResult(
        epoch=1,
        train_loss=0.0,
        val_loss=float(task.loss(data.labels)(logits, mask)),
        val_miou=found["miou"],
        val_iou={name: entry["iou"] for name, entry in found["by_class"].items()},
        lr=0.0,
        batches_without_labels=0,
        grad_norm=None,
        images_per_s=0.0,
        seconds=0.0,
        waited_fraction=0.0,
        peak_memory_mib=peak_memory_mib(task.fabric.device),
        terms={},
        is_kept=True,
    )


@torch.inference_mode()
def preview(task: TrainingTask, segmenter: PixelSegmenter, callbacks: Callbacks) -> None:
    """Predict the val tiles that are watched, whole."""
    if callbacks.watch is None:
        return
    tiles = task.data.val_set()
    network = task.fabric.to_device(segmenter).eval()
    for place in range(len(tiles)) if callbacks.watched is None else callbacks.watched:
        image = task.fabric.to_device(tiles[place][0][None])
        callbacks.watch(place, network(image).argmax(dim=1))
