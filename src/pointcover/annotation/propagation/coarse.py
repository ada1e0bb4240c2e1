"""A tile at a fraction of its resolution, for ways of growing that would take too long on it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcover.annotation.propagation.base import Flags
from pointcover.labels import IGNORE_INDEX, Image, Mask


@dataclass(frozen=True)
class CoarseTile:
    """Square cells of pixels in place of pixels; those at the lower and right edge may be cut.

    Attributes:
        image: mean of the pixels with data, (bands, h, w) float32, 0 to 1, 0 without data.
        clicks: (h, w) uint8; IGNORE_INDEX where nothing was clicked, and where several classes
            were: such a cell speaks for none.
        valid: where any pixel has data, (h, w) bool.
    """

    image: npt.NDArray[np.float32]
    clicks: Mask
    valid: Flags


def coarsen(clicks: Mask, image: Image, valid: Flags, cell_px: int) -> CoarseTile:
    """Gather pixels in cells of `cell_px` × `cell_px`.

    Args:
        clicks: sparse mask, (H, W) uint8.
        image: (bands, H, W) uint8.
        valid: where the image has data, (H, W) bool.
        cell_px: side of a cell in pixels, 1 or more.
    """
    height, width = clicks.shape
    shape = (-(-height // cell_px), -(-width // cell_px))
    colour = np.zeros((image.shape[0], *shape), np.float32)
    pixels = np.zeros(shape, np.float32)
    lowest = np.full(shape, IGNORE_INDEX, np.uint8)
    highest = np.zeros(shape, np.uint8)
    # Pixel by pixel of all cells at once, some ten times as fast as cell axes of their own.
    for row in range(min(cell_px, height)):
        for col in range(min(cell_px, width)):
            place = (slice(row, None, cell_px), slice(col, None, cell_px))
            rows, cols = clicks[place].shape
            known = valid[place]
            colour[:, :rows, :cols] += image[(slice(None), *place)] * known
            pixels[:rows, :cols] += known
            ids = clicks[place]
            np.minimum(lowest[:rows, :cols], ids, out=lowest[:rows, :cols])
            ids = np.where(ids == IGNORE_INDEX, np.uint8(0), ids)
            np.maximum(highest[:rows, :cols], ids, out=highest[:rows, :cols])
    colour /= 255 * np.maximum(pixels, 1)
    return CoarseTile(
        colour, np.where(lowest == highest, lowest, np.uint8(IGNORE_INDEX)), pixels > 0
    )


def refine(cells: npt.NDArray[Any], cell_px: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return every pixel what its cell has: (h, w) → (H, W), the way back from `coarsen`."""
    return cells.repeat(cell_px, axis=0)[: shape[0]].repeat(cell_px, axis=1)[:, : shape[1]]


def require_cell(cell_px: int) -> None:
    """Refuse a cell that is not a whole number of pixels.

    Raises:
        ValueError: it is none, or below 1.
    """
    if cell_px != int(cell_px) or cell_px < 1:
        raise ValueError(f"got cell_px={cell_px}, wanted a whole number from 1 on: give 1 or 2")
