"""The interface of label propagation, and the checks that hold for every propagator.

A method only proposes labels; `Propagator` checks the input and keeps the proposals that are
allowed. So the guarantees are the same for every method.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, Image, Mask

SURE: Final = 255
"""The confidence of a click, and the unit of confidence: 255 stands for 1."""

UNLABELLED: Final = 0
CLICKED: Final = 1
GROWN: Final = 2

Flags = npt.NDArray[np.bool_]

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True)
class Grown:
    """What has grown from a tile's clicks.

    Attributes:
        mask: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled: the clicks and what grew.
        confidence: (H, W) uint8, in units of 1/255: 0 exactly where unlabelled, 255 at clicks,
            1 to 255 where something grew; the way of growing says what that means.
    """

    mask: Mask
    confidence: npt.NDArray[np.uint8]


class Proposal(NamedTuple):
    """What a way of growing would label; what it says of clicked or empty pixels is not heard.

    Attributes:
        ids: (H, W) uint8, IGNORE_INDEX where nothing grows.
        trust: (H, W) float32, above 0 and up to 1; read only where `ids` names a class.
    """

    ids: Mask
    trust: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Propagator(Generic[SettingsT]):
    """A way of growing that keeps the promises of `pointcover.growing`.

    Attributes:
        propose: takes clicks (H, W) uint8, all of them on pixels with data and at least one, an
            image (bands, H, W) uint8, where that has data, (H, W) bool, with room to grow, and
            settings; proposes what to label.
        settings: the type of its settings, a frozen dataclass that refuses what makes no sense.
    """

    propose: Callable[[Mask, Image, Flags, SettingsT], Proposal]
    settings: type[SettingsT]

    def __call__(self, clicks: Mask, image: Image, valid: Flags, settings: SettingsT) -> Grown:
        """Grow the clicks of one tile.

        Args:
            clicks: sparse mask, (H, W) uint8, IGNORE_INDEX where unlabelled; stays as it is.
            image: the tile's image, (bands, H, W) uint8.
            valid: where the image has data, (H, W) bool. Nothing grows elsewhere, nor from a
                click that lies elsewhere; such a click stays all the same.
            settings: of this propagator's own type.

        Raises:
            ValueError: an array has another shape or type than said.
            TypeError: the settings are those of another propagator.
        """
        _check(clicks, image, valid)
        if not isinstance(settings, self.settings):
            raise TypeError(
                f"got settings of type {type(settings).__name__}, wanted "
                f"{self.settings.__name__}: make them with the propagator's own `settings`"
            )
        # Laid out by rows, or the flat views below would be copies.
        clicks, valid = np.ascontiguousarray(clicks), np.ascontiguousarray(valid)
        clicked = clicks != IGNORE_INDEX
        mask, confidence = clicks.copy(), clicked * np.uint8(SURE)
        free = valid & ~clicked
        seeds = clicks | (~valid * np.uint8(IGNORE_INDEX))
        if free.any() and (seeds != IGNORE_INDEX).any():
            ids, trust = self.propose(seeds, image, valid, settings)
            np.copyto(mask, ids, where=free)
            added = np.flatnonzero((ids != IGNORE_INDEX) & free)
            confidence.ravel()[added] = np.maximum(np.rint(SURE * trust.ravel()[added]), 1)
        return Grown(mask, confidence)


def mark_sources(clicks: Mask, mask: Mask) -> npt.NDArray[np.uint8]:
    """Tell where each label of a sparse mask is from.

    Args:
        clicks: sparse mask of the clicks, (H, W) uint8.
        mask: what has grown from them, (H, W) uint8.

    Returns:
        (H, W) uint8: 0 (`UNLABELLED`), 1 (`CLICKED`) or 2 (`GROWN`).

    Raises:
        ValueError: the mask has another shape, or lacks or contradicts a click.
    """
    clicked = clicks != IGNORE_INDEX
    if mask.shape != clicks.shape or not np.array_equal(mask[clicked], clicks[clicked]):
        raise ValueError(
            f"the mask of shape {mask.shape} has not grown from these clicks of shape "
            f"{clicks.shape}: pass the clicks, and then the mask that a propagator made of them"
        )
    sources = np.where(mask != IGNORE_INDEX, np.uint8(GROWN), np.uint8(UNLABELLED))
    sources[clicked] = CLICKED
    return sources


def require_positive(name: str, value: float) -> None:
    """Refuse a setting that is not a finite number above 0.

    Raises:
        ValueError: it is none.
    """
    if not (np.isfinite(value) and value > 0):
        raise ValueError(
            f"got {name}={value}, wanted a finite number above 0: give one, or choose the "
            f"propagator 'none'"
        )


def _check(clicks: Mask, image: Image, valid: Flags) -> None:
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
