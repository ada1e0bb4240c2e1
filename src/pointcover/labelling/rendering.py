"""Encode windows of images and maps for the page."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pointcover.labelling.view import ViewMap
from pointcover.labels import IGNORE_INDEX, Image, Mask, parse_colour
from pointcover.raster.overviews import Valid

Layer = Literal["classes", "confidence"]

JPEG_QUALITY: Final = 88
FAST: Final = [cv2.IMWRITE_PNG_COMPRESSION, 1]

LOW: Final = (68, 1, 84)
MIDDLE: Final = (33, 145, 140)
HIGH: Final = (253, 231, 37)
"""Colours of 0, 50 and 100 percent confidence, as in viridis."""


def encode_image(image: Image, valid: Valid) -> tuple[bytes, str]:
    """Encode a window of an image: JPEG, or PNG where some pixels have no data.

    Args:
        image: (1 or 3, H, W).
        valid: (H, W).

    Returns:
        the file and its media type.
    """
    bgr = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
    if len(image) == 1:
        bgr = np.repeat(bgr, 3, axis=2)
    if valid.all():
        return _encode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]), "image/jpeg"
    bgra = np.dstack([bgr, valid.astype(np.uint8) * 255])
    return _encode(".png", bgra, FAST), "image/png"


def encode_map(shown: ViewMap, layer: Layer, colours: Mapping[str, str]) -> bytes:
    """Encode a map as PNG, transparent where it has no class.

    Args:
        shown: the map.
        layer: classes in their colours, or confidence.
        colours: by name of the class; one that is missing is transparent.
    """
    if layer == "confidence":
        table = _ramp()
        pixels = table[shown.confidence]
        pixels[shown.class_ids == IGNORE_INDEX] = 0
        return _encode(".png", pixels, FAST)
    return encode_ids(shown.class_ids, shown.names, colours)


def encode_ids(ids: Mask, names: Sequence[str], colours: Mapping[str, str]) -> bytes:
    """Encode class ids as PNG, transparent where there is none.

    Args:
        ids: (H, W).
        names: of the classes, by id.
        colours: by name of the class; one that is missing is transparent.
    """
    table = np.zeros((256, 4), np.uint8)
    for number, name in enumerate(names):
        if name in colours:
            table[number] = (*parse_colour(colours[name])[::-1], 255)
    return _encode(".png", table[ids], FAST)


def _ramp() -> npt.NDArray[np.uint8]:
    """Return (256, 4) blue, green, red, alpha by percent."""
    percent = np.minimum(np.arange(256), 100)
    parts = [
        np.interp(percent, (0, 50, 100), levels) for levels in zip(LOW, MIDDLE, HIGH, strict=True)
    ]
    return np.stack([*parts[::-1], np.full(256, 255)], axis=1).round().astype(np.uint8)


def _encode(ending: str, pixels: npt.NDArray[np.uint8], options: list[int]) -> bytes:
    done, content = cv2.imencode(ending, pixels, options)
    assert done
    return content.tobytes()
