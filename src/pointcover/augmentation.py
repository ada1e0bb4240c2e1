"""Augmentation: crops and the symmetries of the square, which move labels exactly; and colours.

No transform here resamples a mask: a rotation or an affine that fills with 0 turned 500 labelled
pixels into 45 122. The one door to albumentations.
"""

import os
from typing import Any

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network at import
import albumentations as albu

from pointcover.labels import Image, Mask

HUE_SHARE = 0.15
"""Hue moves by this share of what saturation does: a meadow must not become a lake."""


class Augmentation:
    """A random crop, one of the eight symmetries of the square (D4), and a change of colours."""

    def __init__(self, crop_px: int, colour_jitter: float, bands: int) -> None:
        """Build the transforms.

        Args:
            crop_px: height and width of the crop.
            colour_jitter: how far brightness, contrast and saturation may move, as a share; 0
                leaves colours alone.
            bands: bands of the images; hue and saturation exist with three only.
        """
        steps: list[Any] = [albu.RandomCrop(crop_px, crop_px), albu.D4(p=1)]
        if colour_jitter > 0:
            steps.append(albu.RandomBrightnessContrast(colour_jitter, colour_jitter, p=0.8))
            if bands == 3:
                hue, saturation = 180 * HUE_SHARE * colour_jitter, 255 * colour_jitter / 2
                steps.append(albu.HueSaturationValue(hue, saturation, 0, p=0.5))
        self._compose = albu.Compose(steps)

    def __call__(self, image: Image, mask: Mask, seed: int) -> tuple[Image, Mask]:
        """Augment one sample, the same way for the same seed, in whatever process.

        The library's own seeding repeats itself over workers and epochs, so each sample is seeded.

        Args:
            image: (bands, H, W) uint8.
            mask: (H, W) uint8.
            seed: 0 to 2³² - 1, of this epoch and sample.

        Returns:
            image (bands, crop_px, crop_px) uint8 and mask (crop_px, crop_px) uint8.
        """
        self._compose.set_random_seed(seed)
        out = self._compose(image=np.ascontiguousarray(image.transpose(1, 2, 0)), mask=mask)
        return np.ascontiguousarray(out["image"].transpose(2, 0, 1)), np.ascontiguousarray(
            out["mask"]
        )
