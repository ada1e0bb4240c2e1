"""What a format of labels in pixels of images is: how it is told, read and written."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
from pydantic import ValidationError

from pointcover.labels import ClassTable
from pointcover.tileset.source_images import SourceImage, SourceImages

CIRCLE_SEGMENTS: Final = 32
"""Edges in a quarter of a circle."""


@dataclass(frozen=True)
class LabelledShape:
    """The shape of one record of a file, with its class as the file names it."""

    record: str
    """Of what kind and with what id, for messages and lists."""
    image: SourceImage
    label: str
    shape: Any
    """A shapely geometry in pixels of the image; x is the column, y the row."""


@dataclass
class LabelFile:
    """A file that is read: its shapes, and the faults of records that cannot be read."""

    path: Path
    images: SourceImages
    shapes: list[LabelledShape] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    records: int = 0
    """Number of records with a shape, read or not."""

    @contextmanager
    def record(self, name: str) -> Iterator[None]:
        """Read a record in the block, and note an error as its fault."""
        self.records += 1
        try:
            yield
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            got = repr(first["input"])[:60]
            self.fault(name, f"{key}: {first['msg']}, got {got}" if key else first["msg"])
        except (ValueError, TypeError, OverflowError, shapely.errors.ShapelyError) as error:
            self.fault(name, " ".join(str(error).split()))

    def fault(self, name: str, text: str) -> None:
        """Note that a record cannot be read."""
        self.faults.append(f"{self.path.name}, {name}: {text}")

    def add(self, record: str, image: SourceImage, label: str, shape: Any) -> None:
        """Add the shape of a record.

        Raises:
            ValueError: it has coordinates that are not finite, or is outside its image.
        """
        self.shapes.append(LabelledShape(record, image, label, inside(shape, image)))


def check_size(image: SourceImage, height: float | None, width: float | None) -> None:
    """Check that an image has the size that a file of labels states for it, if it states one.

    Raises:
        ValueError: it has another size.
    """
    if height and width and (height, width) != image.size:
        raise ValueError(
            f"image {image.image!r} has {image.height} × {image.width} px, but the labels were "
            f"made on {height:g} × {width:g} px: label the images of the dataset"
        )


def inside(shape: Any, image: SourceImage) -> Any:
    """Return a shape that touches its image; points on its far edges belong to the last pixels.

    Raises:
        ValueError: the shape has coordinates that are not finite, or is outside.
    """
    if shape.geom_type == "Point" and not shape.is_empty:
        x, y = shape.x, shape.y
        if 0 <= x < image.width and 0 <= y < image.height:  # as nearly all
            return shape
    if shape.geom_type == "GeometryCollection":
        return shapely.GeometryCollection([inside(part, image) for part in shape.geoms])
    xy = shapely.get_coordinates(shape)
    if not len(xy) or not np.isfinite(xy).all():
        raise ValueError("it has no coordinates, or such that are not finite")
    size = np.array([image.width, image.height], float)
    if shape.geom_type in ("Point", "MultiPoint"):
        outside = ((xy < 0) | (xy > size)).any(axis=1)
        if outside.any():
            x, y = xy[outside][0]
            raise _outside(f"point {x:g}, {y:g}", image)
        return shapely.transform(shape, lambda xy: np.where(xy == size, size - 0.5, xy))
    left, top, right, bottom = shape.bounds
    if left >= image.width or top >= image.height or right <= 0 or bottom <= 0:
        raise _outside(f"shape from {left:g}, {top:g} to {right:g}, {bottom:g}", image)
    return shape


def _outside(what: str, image: SourceImage) -> ValueError:
    return ValueError(
        f"{what} is outside image {image.image!r} of {image.width} × {image.height} px (columns, "
        f"rows)"
    )


# Shapes of annotation tools


def points_of(pairs: Sequence[Sequence[float]]) -> Any:
    """Make a point, or several."""
    xy = _pairs(pairs)
    return shapely.Point(xy[0]) if len(xy) == 1 else shapely.MultiPoint(xy)


def polygon_of(pairs: Sequence[Sequence[float]]) -> Any:
    """Make a polygon of its corners."""
    xy = _pairs(pairs)
    if len(xy) < 3:
        raise ValueError(f"a polygon has {len(xy)} corners, wanted at least 3")
    return shapely.Polygon(xy)


def box_of(left: float, top: float, right: float, bottom: float) -> Any:
    """Make a rectangle of two opposite corners."""
    if not all(map(math.isfinite, (left, top, right, bottom))) or left == right or top == bottom:
        raise ValueError(f"the rectangle {left:g}, {top:g}, {right:g}, {bottom:g} has no area")
    return shapely.box(min(left, right), min(top, bottom), max(left, right), max(top, bottom))


def ellipse_of(x: float, y: float, x_radius: float, y_radius: float) -> Any:
    """Make an ellipse around a point."""
    if not (0 < x_radius < math.inf and 0 < y_radius < math.inf):
        raise ValueError(f"the ellipse has radii {x_radius:g} and {y_radius:g}, wanted more than 0")
    circle = shapely.Point(0, 0).buffer(1, quad_segs=CIRCLE_SEGMENTS)
    return shapely.transform(circle, lambda xy: xy * (x_radius, y_radius) + (x, y))


def turn(shape: Any, degrees: float, x: float, y: float) -> Any:
    """Turn a shape around a point, clockwise as an image is seen, whose rows go down."""
    angle = math.radians(degrees)
    matrix = np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], float
    )
    return shapely.transform(shape, lambda xy: (xy - (x, y)) @ matrix + (x, y))


def _pairs(pairs: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    xy = np.array(pairs, float)
    if xy.ndim != 2 or xy.shape[1] != 2 or not np.isfinite(xy).all():
        raise ValueError("its points are not pairs of finite numbers")
    return xy


# Writing


@dataclass(frozen=True, eq=False)
class ImagePoints:
    """The point labels of one image, at the centres of pixels of the tiles."""

    image: SourceImage
    columns: npt.NDArray[np.float64]
    """(n,) in pixels of the image."""
    rows: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.uint8]
    splits: npt.NDArray[np.object_]
    tiles: npt.NDArray[np.object_]
    """(n,) ids of tiles."""


Recognise = Callable[[Any], bool]
Read = Callable[[LabelFile, Any], None]
Write = Callable[[Path, Sequence[ImagePoints], ClassTable], None]


@dataclass(frozen=True)
class LabelFormat:
    """A format of labels in pixels of images."""

    kind: str
    """What the file is: `json`, `xml` or `csv`."""
    recognise: Recognise
    """Whether a document of that kind is of the format."""
    read: Read
    """Add a document's records to a `LabelFile`."""
    write: Write
    """Write points to a path."""
    ending: str
    """Of the names of files; empty for a folder."""
