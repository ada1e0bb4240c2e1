"""Levels of augmentation, by name. A level is one line of AUGMENTATIONS."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class AugmentationLevel:
    """How much a training crop is changed."""

    symmetries: bool = True
    """Apply one of the square's eight symmetries (D4)."""
    colour_jitter: float = 0
    """Largest relative change of brightness, contrast and saturation."""
    zoom: float = 1
    """A crop shows 1/zoom to zoom times its size of ground, where `train.zoom` is null."""
    blur_px: float = 0
    """Largest standard deviation of a Gaussian blur."""
    noise: float = 0
    """Largest standard deviation of Gaussian noise, as a fraction of 255."""
    cutout: float = 0
    """Largest height and width of a hole, as a fraction of the crop's (DeVries and Taylor, 2017):
    it has the crop's mean colour and no label."""


AUGMENTATIONS: Final[dict[str, AugmentationLevel]] = {
    "none": AugmentationLevel(symmetries=False),
    "weak": AugmentationLevel(),
    "medium": AugmentationLevel(colour_jitter=0.1),
    "strong": AugmentationLevel(colour_jitter=0.3, zoom=1.5, blur_px=1.5, noise=0.05, cutout=0.4),
}
"""All levels."""
