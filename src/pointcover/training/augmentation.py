"""Augmentation: crops, scale, symmetries, colours, holes. Labels are moved as points.

No transform resamples a mask: rotations or affine transforms that fill with 0 turned 500 labelled
pixels into 45 122, and halving the size by nearest neighbour loses two point labels of three.
"""

import os
from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

import cv2
import numpy as np

from pointcover.labels import IGNORE_INDEX, Image, Mask
from pointcover.training.augmentation_levels import AugmentationLevel

HUE_FACTOR: Final = 0.15
"""Change of hue relative to that of saturation: small, so that no class looks like another."""

CUTOUT_PROBABILITY: Final = 0.5
BLUR_PROBABILITY: Final = 0.5
NOISE_PROBABILITY: Final = 0.5


class Augmentation:
    """A random crop that is scaled, flipped or rotated, and changed in colours and sharpness."""

    def __init__(self, crop_px: int, level: AugmentationLevel, bands: int) -> None:
        """Build the transforms.

        Args:
            crop_px: height and width of the crop.
            level: how much a crop is changed.
            bands: bands of the images; hue and saturation are changed with three bands only.
        """
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request for newer versions
        import albumentations as albu

        self.crop_px = crop_px
        self._level = level
        colour_jitter = level.colour_jitter
        steps: list[Any] = [albu.D4(p=1)] if level.symmetries else []
        if colour_jitter > 0:
            steps.append(albu.RandomBrightnessContrast(colour_jitter, colour_jitter, p=0.8))
            if bands == 3:
                hue, saturation = 180 * HUE_FACTOR * colour_jitter, 255 * colour_jitter / 2
                steps.append(albu.HueSaturationValue(hue, saturation, 0, p=0.5))
        self._compose = albu.Compose(steps)
        # Area interpolation averages, as a sensor of coarser GSD does; it cannot enlarge.
        self._shrink = albu.Resize(crop_px, crop_px, interpolation=cv2.INTER_AREA)
        self._enlarge = albu.Resize(crop_px, crop_px, interpolation=cv2.INTER_LINEAR)

    def __call__(
        self, image: Image, mask: Mask, side_px: int, seed: int, *others: Mask
    ) -> tuple[Image, Mask, *tuple[Mask, ...]]:
        """Augment one sample; the same seed gives the same result in every process.

        albumentations' own seeds repeat over workers and epochs, so each sample is seeded here.

        Args:
            image: (bands, H, W) uint8.
            mask: (H, W) uint8.
            side_px: height and width of the square that is cut and scaled to crop_px; at most H, W.
            seed: 0 to 2³² - 1, of this epoch and sample.
            others: further masks of the same pixels, (H, W) uint8 each, transformed as the first.

        Returns:
            image (bands, crop_px, crop_px) uint8 and the masks, (crop_px, crop_px) uint8 each.
        """
        generator = np.random.default_rng(seed)
        rows, columns = (
            slice(start, start + side_px)
            for start in (generator.integers(size - side_px + 1) for size in mask.shape)
        )
        # Thirty times as fast as numpy's transposed copy
        crop = cv2.merge(list(image[:, rows, columns])).reshape(side_px, side_px, len(image))
        masks = [labels[rows, columns] for labels in (mask, *others)]
        if side_px != self.crop_px:
            resize = self._shrink if side_px > self.crop_px else self._enlarge
            crop = resize(image=crop)["image"]
            masks = [scale_labels(labels, self.crop_px) for labels in masks]
        self._compose.set_random_seed(seed)
        # By band: numpy is twenty times slower in reducing a short last axis
        bands = (crop[:, :, band] for band in range(crop.shape[2]))
        is_empty = (reduce(np.bitwise_or, bands) == 0).astype(np.uint8)
        out = self._compose(image=crop, masks=[*masks, is_empty])
        *new_masks, new_empty = out["masks"]
        new, new_masks = self._degrade(out["image"], new_masks, generator)
        if is_empty.any():  # no data stays 0 in every band, as in maps
            new = np.where(new_empty[:, :, np.newaxis], np.uint8(0), new)
        first, *further = map(np.ascontiguousarray, new_masks)
        return np.ascontiguousarray(new.transpose(2, 0, 1)), first, *further

    def _degrade(
        self, image: Image, masks: Sequence[Mask], generator: np.random.Generator
    ) -> tuple[Image, Sequence[Mask]]:
        """Blur, add noise and cut a hole, as far as the level does so.

        Args:
            image: (H, W, bands) uint8.
            masks: (H, W) uint8 each.
            generator: of this sample.
        """
        level, shape = self._level, image.shape
        if level.blur_px and generator.random() < BLUR_PROBABILITY:
            sigma_px = generator.uniform(0.3, level.blur_px)  # less is no blur
            blurred = cv2.GaussianBlur(image, (0, 0), sigma_px)
            image = np.asarray(blurred, np.uint8).reshape(shape)
        if level.noise and generator.random() < NOISE_PROBABILITY:
            noise = generator.standard_normal(shape, np.float32)
            noisy = image + noise * np.float32(255 * generator.uniform(0, level.noise))
            image = noisy.round().clip(0, 255).astype(np.uint8)
        if level.cutout and generator.random() < CUTOUT_PROBABILITY:
            image, masks = image.copy(), [labels.copy() for labels in masks]
            largest = max(1, round(level.cutout * self.crop_px))
            height, width = generator.integers(max(1, largest // 4), largest + 1, size=2)
            row, column = generator.integers(0, self.crop_px + 1 - np.array([height, width]))
            hole = slice(row, row + height), slice(column, column + width)
            image[hole] = image.mean(axis=(0, 1)).round()
            for labels in masks:
                labels[hole] = IGNORE_INDEX
        return image, masks


def scale_labels(mask: Mask, side_px: int) -> Mask:
    """Scale a sparse mask as points: each labelled pixel moves to the one that holds its centre.

    So a point label stays one pixel when the image is enlarged, and is kept when it shrinks. Where
    labels of two classes meet in one pixel, it has no label.

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
