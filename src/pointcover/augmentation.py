"""Augmentation: crops, scale, the symmetries of the square, colours. Labels move as points.

No transform here resamples a mask: a rotation or an affine that fills with 0 turned 500 labelled
pixels into 45 122, and halving the size by nearest neighbour loses two clicks of three. The one
door to albumentations.
"""

import os
from typing import Any

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network at import
import albumentations as albu
import cv2

from pointcover.labels import IGNORE_INDEX, Image, Mask

HUE_SHARE = 0.15
"""Hue moves by this share of what saturation does: a meadow must not become a lake."""


class Augmentation:
    """A random crop at some scale, one of the square's eight symmetries (D4), other colours."""

    def __init__(self, crop_px: int, colour_jitter: float, bands: int) -> None:
        """Build the transforms.

        Args:
            crop_px: height and width of the crop.
            colour_jitter: how far brightness, contrast and saturation may move, as a share; 0
                leaves colours alone.
            bands: bands of the images; hue and saturation exist with three only.
        """
        self.crop_px = crop_px
        steps: list[Any] = [albu.D4(p=1)]
        if colour_jitter > 0:
            steps.append(albu.RandomBrightnessContrast(colour_jitter, colour_jitter, p=0.8))
            if bands == 3:
                hue, saturation = 180 * HUE_SHARE * colour_jitter, 255 * colour_jitter / 2
                steps.append(albu.HueSaturationValue(hue, saturation, 0, p=0.5))
        self._compose = albu.Compose(steps)
        # Area averages as a coarser sensor would; it cannot enlarge.
        self._shrink = albu.Resize(crop_px, crop_px, interpolation=cv2.INTER_AREA)
        self._enlarge = albu.Resize(crop_px, crop_px, interpolation=cv2.INTER_LINEAR)

    def __call__(self, image: Image, mask: Mask, side_px: int, seed: int) -> tuple[Image, Mask]:
        """Augment one sample, the same way for the same seed, in whatever process.

        The library's own seeding repeats itself over workers and epochs, so each sample is seeded.

        Args:
            image: (bands, H, W) uint8.
            mask: (H, W) uint8.
            side_px: height and width of what is cut out and then scaled to crop_px; at most H, W.
            seed: 0 to 2³² - 1, of this epoch and sample.

        Returns:
            image (bands, crop_px, crop_px) uint8 and mask (crop_px, crop_px) uint8.
        """
        generator = np.random.default_rng(seed)
        rows, columns = (
            slice(start, start + side_px)
            for start in (generator.integers(size - side_px + 1) for size in mask.shape)
        )
        crop, mask = image[:, rows, columns].transpose(1, 2, 0), mask[rows, columns]
        if side_px != self.crop_px:
            resize = self._shrink if side_px > self.crop_px else self._enlarge
            crop, mask = resize(image=crop)["image"], scale_labels(mask, self.crop_px)
        self._compose.set_random_seed(seed)
        out = self._compose(image=np.ascontiguousarray(crop), mask=mask)
        return np.ascontiguousarray(out["image"].transpose(2, 0, 1)), np.ascontiguousarray(
            out["mask"]
        )


def scale_labels(mask: Mask, side_px: int) -> Mask:
    """Scale a sparse mask as points: each labelled pixel moves to the one that holds its centre.

    So a click stays one click when the image is enlarged, and is not lost when it shrinks, unless
    pixels of two classes meet in one: that one has no label.

    Args:
        mask: (S, S) uint8, IGNORE_INDEX where unlabelled.
        side_px: height and width of the result.

    Returns:
        (side_px, side_px) uint8.
    """
    rows, columns = np.nonzero(mask != IGNORE_INDEX)
    ids = mask[rows, columns]
    # (row + ½) · side_px / S in whole numbers
    places = (2 * np.stack((rows, columns)) + 1) * side_px // (2 * len(mask))
    target = places[0] * side_px + places[1]
    scaled = np.full(side_px * side_px, IGNORE_INDEX, np.uint8)
    scaled[target] = ids
    scaled[target[scaled[target] != ids]] = IGNORE_INDEX
    return scaled.reshape(side_px, side_px)
