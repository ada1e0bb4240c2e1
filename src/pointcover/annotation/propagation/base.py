"""What a propagator takes and returns: a tile with clicks, and proposed labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, ClassTable, Image, Mask

Flags = npt.NDArray[np.bool_]
"""(H, W)."""


@dataclass(frozen=True, eq=False)
class ClickedTile:
    """One tile's clicks and image.

    Attributes:
        clicks: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        image: (bands, H, W) uint8.
        valid: where the image has data, (H, W) bool.
        classes: of the dataset.

    Raises:
        ValueError: an array has another shape or type.
    """

    clicks: Mask
    image: Image
    valid: Flags
    classes: ClassTable

    def __post_init__(self) -> None:
        """Check shapes and types."""
        clicks, image, valid = self.clicks, self.image, self.valid
        if clicks.ndim != 2 or clicks.dtype != np.uint8:
            raise ValueError(
                f"got clicks of shape {clicks.shape} and type {clicks.dtype}, wanted (H, W) uint8: "
                f"pass one tile's sparse mask, with {IGNORE_INDEX} where unlabelled"
            )
        if image.ndim != 3 or image.shape[1:] != clicks.shape or image.dtype != np.uint8:
            raise ValueError(
                f"got an image of shape {image.shape} and type {image.dtype}, wanted (bands, "
                f"{clicks.shape[0]}, {clicks.shape[1]}) uint8: pass the image of the tile that was "
                f"clicked on"
            )
        if valid.shape != clicks.shape or valid.dtype != np.bool_:
            raise ValueError(
                f"got a validity mask of shape {valid.shape} and type {valid.dtype}, wanted "
                f"{clicks.shape} bool: pass true where the image has data"
            )


class Proposal(NamedTuple):
    """What a propagator would label; clicked pixels and those without data are ignored.

    Attributes:
        ids: (H, W) uint8, IGNORE_INDEX where nothing is labelled.
        confidence: (H, W) float32, above 0 and up to 1; read only where `ids` holds a class.
    """

    ids: Mask
    confidence: npt.NDArray[np.float32]


Propagator = Callable[[ClickedTile, Any], Proposal]
"""Takes a tile, with at least one click, all of them on pixels with data, and with at least one
pixel left to label; and the propagator's own settings, or None where it has none."""
