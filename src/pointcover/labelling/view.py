"""Views of an image, their blocks, and their maps."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointcover.labels import Mask


@dataclass(frozen=True, order=True)
class BlockKey:
    """The place of a block."""

    image: int
    level: int
    row: int
    """Number of the row of blocks."""
    col: int
    """Number of the column of blocks."""


@dataclass(frozen=True)
class View:
    """What a page shows: a rectangle of an image at a level, in pixels of the level."""

    image: int
    level: int
    top: int
    left: int
    bottom: int
    right: int

    def blocks(self, size: tuple[int, int], block_px: int) -> list[BlockKey]:
        """Return the blocks that the view touches, those nearest to its centre first.

        Args:
            size: height and width of the level.
            block_px: side of a block.
        """
        rows = range(max(self.top, 0) // block_px, -(-min(self.bottom, size[0]) // block_px))
        cols = range(max(self.left, 0) // block_px, -(-min(self.right, size[1]) // block_px))
        middle = (self.top + self.bottom) / 2 / block_px, (self.left + self.right) / 2 / block_px
        keys = [BlockKey(self.image, self.level, row, col) for row in rows for col in cols]
        return sorted(
            keys,
            key=lambda key: (key.row + 0.5 - middle[0]) ** 2 + (key.col + 0.5 - middle[1]) ** 2,
        )


@dataclass(frozen=True)
class Extent:
    """A rectangle of a level, in its pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class LabelCount:
    """Labels that a classifier was fitted on."""

    points: int
    polygons: int
    pixels: int
    """Of the polygons, which were used."""


@dataclass(frozen=True)
class ViewMap:
    """A map of the blocks that a view touches."""

    number: int
    """Of the map; each new one has a greater one."""
    image: int
    level: int
    extent: Extent
    class_ids: Mask
    """(H, W), IGNORE_INDEX where there is no data or not yet a class."""
    confidence: npt.NDArray[np.uint8]
    """(H, W) percent."""
    names: tuple[str, ...]
    """Of the classes, by id."""
    labels: "LabelCount"
    """On which the classifier was fitted."""
    changes: int
    """Number of changes of the points that the map knows of."""
    seconds: float
    """From the last change of points or view to this map."""


@dataclass(frozen=True)
class Wanted:
    """What a map is to show."""

    view: View | None
    """None before the page said what it shows."""
    changes: int
    """Number of changes of the points so far."""
    since: float
    """When the last change of points or view was, by the monotonic clock."""
