"""Errors of the simulated annotator: position noise and label noise."""

import math

import numpy as np

from pointcover.annotation.samplers.annotator import Annotator, Clicks, Pixels
from pointcover.labels import Mask


def add_noise(
    clicks: Clicks, mask: Mask, annotator: Annotator, generator: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Move clicks and change their labels.

    - A click lands on any of the pixels within `position_noise_px` of the one that was meant, all
      equally likely; one that would leave the tile is mirrored at its edge. It keeps the class that
      was meant, so near edges its label is wrong. It may land where the dense mask has no class.
    - With probability `label_noise_rate` a click gets the label of another class of the class
      table, all equally likely. The clicks that are wrong at a lower rate are wrong in the same way
      at every higher one.
    - A stroke is moved and labelled as a whole.

    Every click draws three numbers, whatever the budget and the settings, so the errors of a click
    do not depend on later ones.

    Args:
        clicks: the clicks as meant.
        mask: dense mask, (H, W) uint8.
        annotator: the noise, and the classes that a label can be of.
        generator: advanced by three draws a click.

    Returns:
        The pixels on which clicks land, in the order of `clicks.pixels`, (N,), possibly with
        repeats; and the class ids they get, (N,) uint8.
    """
    count = int(clicks.numbers[-1]) + 1 if clicks.numbers.size else 0
    where, whether, what = generator.random((count, 3))[clicks.numbers].T

    offsets = _disc(annotator.settings.position_noise_px)
    moves = offsets[(where * len(offsets)).astype(np.intp)]
    height, width = mask.shape
    rows, cols = np.divmod(clicks.pixels, width)
    landed = _mirror(rows + moves[:, 0], height) * width + _mirror(cols + moves[:, 1], width)

    ids = mask.ravel()[clicks.pixels]
    # Of the ids 0 … classes - 2, those from the right one on are shifted by one.
    others = (what * (len(annotator.classes) - 1)).astype(np.uint8)
    others += others >= ids
    return landed, np.where(whether < annotator.settings.label_noise_rate, others, ids)


def _disc(radius: float) -> Pixels:
    """List the (row, col) offsets no longer than `radius`, (N, 2), in reading order."""
    reach = math.floor(radius)
    line = np.arange(-reach, reach + 1)
    return np.argwhere(line[:, np.newaxis] ** 2 + line**2 <= radius**2) - reach


def _mirror(places: Pixels, size: int) -> Pixels:
    """Fold places back into 0 … size - 1: -1 is 0, -2 is 1, size is size - 1, and so on."""
    places = places % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)
