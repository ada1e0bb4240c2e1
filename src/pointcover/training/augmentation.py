"""Augmentation: crops, scale, the square's symmetries, colours, holes. Labels move as points.

No transform here resamples a mask: a rotation or an affine that fills with 0 turned 500 labelled
pixels into 45 122, and halving the size by nearest neighbour loses two clicks of three. The one
door to albumentations.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network at import
import albumentations as albu
import cv2

from pointcover.labels import IGNORE_INDEX, Image, Mask

HUE_SHARE = 0.15
"""Hue moves by this share of what saturation does: a meadow must not become a lake."""


CUTOUT_SHARE = 0.5
BLUR_SHARE = 0.5
NOISE_SHARE = 0.5
"""Shares of the samples that get a hole, are blurred, get noise."""


@dataclass(frozen=True)
class Strength:
    """How far a sample is moved from what was photographed."""

    turns: bool = True
    """One of the square's eight symmetries (D4)."""
    colour_jitter: float = 0
    """How far brightness, contrast and saturation may move, as a share."""
    zoom: float = 1
    """A crop shows 1/zoom to zoom times its size of ground. Loading draws the scale: it is what
    decides how much is read."""
    blur_px: float = 0
    """Largest standard deviation of a Gaussian blur."""
    noise: float = 0
    """Largest standard deviation of Gaussian noise, as a share of 255."""
    cutout: float = 0
    """Largest height and width of a hole, as a share of the crop's (DeVries and Taylor, 2017): it
    has the crop's mean colour and no label."""


STRENGTHS: Final[dict[str, Strength]] = {
    "none": Strength(turns=False),
    "weak": Strength(),
    "medium": Strength(colour_jitter=0.1),
    "strong": Strength(colour_jitter=0.3, zoom=1.5, blur_px=1.5, noise=0.05, cutout=0.4),
}


class Augmentation:
    """A random crop at some scale, turned, in other colours, degraded."""

    def __init__(self, crop_px: int, strength: Strength, bands: int) -> None:
        """Build the transforms.

        Args:
            crop_px: height and width of the crop.
            strength: what is done to a crop, and how much.
            bands: bands of the images; hue and saturation exist with three only.
        """
        self.crop_px = crop_px
        self._strength = strength
        colour_jitter = strength.colour_jitter
        steps: list[Any] = [albu.D4(p=1)] if strength.turns else []
        if colour_jitter > 0:
            steps.append(albu.RandomBrightnessContrast(colour_jitter, colour_jitter, p=0.8))
            if bands == 3:
                hue, saturation = 180 * HUE_SHARE * colour_jitter, 255 * colour_jitter / 2
                steps.append(albu.HueSaturationValue(hue, saturation, 0, p=0.5))
        self._compose = albu.Compose(steps)
        # Area averages as a coarser sensor would; it cannot enlarge.
        self._shrink = albu.Resize(crop_px, crop_px, interpolation=cv2.INTER_AREA)
        self._enlarge = albu.Resize(crop_px, crop_px, interpolation=cv2.INTER_LINEAR)

    def __call__(
        self, image: Image, mask: Mask, side_px: int, seed: int, *others: Mask
    ) -> tuple[Image, Mask, *tuple[Mask, ...]]:
        """Augment one sample, the same way for the same seed, in whatever process.

        The library's own seeding repeats itself over workers and epochs, so each sample is seeded.

        Args:
            image: (bands, H, W) uint8.
            mask: (H, W) uint8.
            side_px: height and width of what is cut out and then scaled to crop_px; at most H, W.
            seed: 0 to 2³² - 1, of this epoch and sample.
            others: further masks of the same pixels, (H, W) uint8 each, moved as the first.

        Returns:
            image (bands, crop_px, crop_px) uint8 and the masks, (crop_px, crop_px) uint8 each.
        """
        generator = np.random.default_rng(seed)
        rows, columns = (
            slice(start, start + side_px)
            for start in (generator.integers(size - side_px + 1) for size in mask.shape)
        )
        # A thirtieth of the time of numpy's transposed copy
        crop = cv2.merge(list(image[:, rows, columns])).reshape(side_px, side_px, len(image))
        masks = [labels[rows, columns] for labels in (mask, *others)]
        if side_px != self.crop_px:
            resize = self._shrink if side_px > self.crop_px else self._enlarge
            crop = resize(image=crop)["image"]
            masks = [scale_labels(labels, self.crop_px) for labels in masks]
        self._compose.set_random_seed(seed)
        # By band, for numpy reduces a short last axis twenty times as slowly
        bands = (crop[:, :, band] for band in range(crop.shape[2]))
        is_empty = (reduce(np.bitwise_or, bands) == 0).astype(np.uint8)
        out = self._compose(image=crop, masks=[*masks, is_empty])
        *turned_masks, turned_empty = out["masks"]
        turned, turned_masks = self._degrade(out["image"], turned_masks, generator)
        if is_empty.any():  # no data stays 0 in every band, as the network will see it in maps
            turned = np.where(turned_empty[:, :, np.newaxis], np.uint8(0), turned)
        first, *further = map(np.ascontiguousarray, turned_masks)
        return np.ascontiguousarray(turned.transpose(2, 0, 1)), first, *further

    def _degrade(
        self, image: Image, masks: Sequence[Mask], generator: np.random.Generator
    ) -> tuple[Image, Sequence[Mask]]:
        """Blur, add noise, cut a hole, as far as the strength has them.

        Args:
            image: (H, W, bands) uint8.
            masks: (H, W) uint8 each.
            generator: of this sample.
        """
        strength, shape = self._strength, image.shape
        if strength.blur_px and generator.random() < BLUR_SHARE:
            sigma_px = generator.uniform(0.3, strength.blur_px)  # less is no blur
            blurred = cv2.GaussianBlur(image, (0, 0), sigma_px)
            image = np.asarray(blurred, np.uint8).reshape(shape)
        if strength.noise and generator.random() < NOISE_SHARE:
            noise = generator.standard_normal(shape, np.float32)
            noisy = image + noise * np.float32(255 * generator.uniform(0, strength.noise))
            image = noisy.round().clip(0, 255).astype(np.uint8)
        if strength.cutout and generator.random() < CUTOUT_SHARE:
            image, masks = image.copy(), [labels.copy() for labels in masks]
            largest = max(1, round(strength.cutout * self.crop_px))
            height, width = generator.integers(max(1, largest // 4), largest + 1, size=2)
            row, column = generator.integers(0, self.crop_px + 1 - np.array([height, width]))
            hole = slice(row, row + height), slice(column, column + width)
            image[hole] = image.mean(axis=(0, 1)).round()
            for labels in masks:
                labels[hole] = IGNORE_INDEX
        return image, masks


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
