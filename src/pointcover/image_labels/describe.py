"""Describe a pixel classifier that was fitted on labelled pixels, as model.json does."""

from pointcover.networks.description import Checkpoint
from pointcover.networks.pixel_classifiers.classifier import PixelClassifier
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.tileset.tiles import TileSet
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.sample_weights import weight_fractions


def describe_classifier(
    classifier: PixelClassifier,
    network: NetworkSettings,
    tile_set: TileSet,
    pixels: LabelledPixels,
) -> tuple[PixelSegmenter, Checkpoint]:
    """Return the segmenter of a classifier, and its description.

    Args:
        classifier: that was fitted.
        network: names of the model and its encoder.
        tile_set: how images are read, and the classes.
        pixels: that it was fitted on.
    """
    clicked = int(pixels.is_clicked.sum())
    checkpoint = Checkpoint(
        network,
        tile_set,
        {"labelled_points": clicked},
        weight_fractions(pixels.classes, pixels.weights, len(tile_set.classes)),
        classifier.settings,
    )
    return PixelSegmenter(classifier, tile_set.mean, tile_set.std), checkpoint
