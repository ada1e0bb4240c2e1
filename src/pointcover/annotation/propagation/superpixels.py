"""Superpixels: small areas of like colour take the class that was clicked in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.segmentation import slic

from pointcover.annotation.propagation.base import Flags, Proposal, require_positive
from pointcover.labels import IGNORE_INDEX, Image, Mask

_LAB_RANGE = 100
"""Lightness in Lab runs from 0 to 100, a band that is not converted from 0 to 1."""


@dataclass(frozen=True)
class SuperpixelSettings:
    """How a tile is cut into superpixels, and how united the clicks in one must be.

    Attributes:
        side_px: about the side of a superpixel, in pixels, above 0.
        compactness: what distance weighs against colour, above 0; from 1 (ragged, along every
            edge) to 100 (nearly squares).
        min_fraction: share of the clicks in a superpixel that must be of one class, 0 to 1.
    """

    side_px: float = 24.0
    compactness: float = 20.0
    min_fraction: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what is not above 0 and finite, and a share that is none."""
        require_positive("side_px", self.side_px)
        require_positive("compactness", self.compactness)
        if not 0 <= self.min_fraction <= 1:
            raise ValueError(f"got min_fraction={self.min_fraction}, wanted 0 to 1: give a share")


def superpixel(clicks: Mask, image: Image, valid: Flags, settings: SuperpixelSettings) -> Proposal:
    """Return each superpixel the class that most of the clicks in it have.

    Superpixels are those of SLIC (Achanta et al., TPAMI 2012), in Lab where the image has three
    bands, taken as red, green and blue; other bands are compared as they are.

    - A class wins a superpixel if it has more clicks there than any other, and at least
      `min_fraction` of all; else nothing grows there, and nothing where no click is.
    - Clicked pixels keep their own class, outvoted ones too.
    - Pixels without data lie in superpixels like others, with the image's mean colour.
    - The trust is the winner's share of the clicks in the superpixel. One click alone has all of
      them: it is as sure as ten that agree.

    Args:
        clicks: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        image: (bands, H, W) uint8.
        valid: where the image has data, (H, W) bool.
        settings: of the superpixels and the vote.
    """
    areas = _cut(image, valid, settings)
    clicked = clicks != IGNORE_INDEX
    class_ids, ranks = np.unique(clicks[clicked], return_inverse=True)
    count = int(areas.max()) + 1
    votes = np.bincount(areas[clicked] * len(class_ids) + ranks, minlength=count * len(class_ids))
    votes = votes.reshape(count, len(class_ids))
    most = votes.max(axis=1)
    share = most / np.maximum(votes.sum(axis=1), 1)
    alone = np.count_nonzero(votes == most[:, np.newaxis], axis=1) == 1
    won = (most > 0) & alone & (share >= settings.min_fraction)
    ids = np.where(won, class_ids[votes.argmax(axis=1)], np.uint8(IGNORE_INDEX))
    return Proposal(ids[areas], share.astype(np.float32)[areas])


def _cut(image: Image, valid: Flags, settings: SuperpixelSettings) -> npt.NDArray[np.intp]:
    """Cut a tile into superpixels, (H, W), numbered from 0."""
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
