"""Superpixel propagation: small areas of similar colour get the class that was clicked in them."""

import numpy as np
import numpy.typing as npt

from pointcover.annotation.propagation.base import ClickedTile, Flags, Proposal
from pointcover.annotation.propagation.settings import SuperpixelSettings
from pointcover.labels import IGNORE_INDEX, Image

_LAB_RANGE = 100
"""Lightness in Lab runs from 0 to 100, a band that is not converted from 0 to 1."""


def superpixel(tile: ClickedTile, settings: SuperpixelSettings) -> Proposal:
    """Label each superpixel with the class of most of the clicks in it.

    Superpixels are those of SLIC (Achanta et al., TPAMI 2012), in Lab where the image has three
    bands, taken as red, green and blue; other bands are compared as they are.

    - A superpixel gets a class if the class has more clicks in it than any other, and at least
      `min_fraction` of all; else it stays unlabelled, as does one without clicks.
    - Pixels without data are part of superpixels, with the image's mean colour.
    - The confidence is the class's fraction of the clicks in the superpixel. With a single click
      it is 1, as with ten that agree.
    """
    clicks = tile.clicks
    areas = _segment(tile.image, tile.valid, settings)
    clicked = clicks != IGNORE_INDEX
    class_ids, ranks = np.unique(clicks[clicked], return_inverse=True)
    count = int(areas.max()) + 1
    votes = np.bincount(areas[clicked] * len(class_ids) + ranks, minlength=count * len(class_ids))
    votes = votes.reshape(count, len(class_ids))
    most = votes.max(axis=1)
    fraction = most / np.maximum(votes.sum(axis=1), 1)
    unique = np.count_nonzero(votes == most[:, np.newaxis], axis=1) == 1
    won = (most > 0) & unique & (fraction >= settings.min_fraction)
    ids = np.where(won, class_ids[votes.argmax(axis=1)], np.uint8(IGNORE_INDEX))
    return Proposal(ids[areas], fraction.astype(np.float32)[areas])


def _segment(image: Image, valid: Flags, settings: SuperpixelSettings) -> npt.NDArray[np.intp]:
    """Segment a tile into superpixels, (H, W), numbered from 0."""
    from skimage.segmentation import slic

    pixels = np.where(valid, image, image[:, valid].mean(axis=1)[:, np.newaxis, np.newaxis])
    in_lab = len(image) == 3
    areas: npt.NDArray[np.intp] = slic(
        pixels.transpose(1, 2, 0).astype(np.float32),
        n_segments=max(1, round(valid.size / settings.side_px**2)),
        compactness=settings.compactness if in_lab else settings.compactness / _LAB_RANGE,
        convert2lab=in_lab,
        channel_axis=-1,
        start_label=0,
    )
    return areas
