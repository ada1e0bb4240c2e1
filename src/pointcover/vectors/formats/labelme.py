"""LabelMe: a JSON an image, with points, polygons, rectangles, circles and masks."""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from pydantic import BaseModel

from pointcover.labels import ClassTable
from pointcover.runtime.atomic_files import publish_folder, publish_json
from pointcover.tileset.source_images import SourceImage
from pointcover.vectors.formats.base import (
    ImagePoints,
    LabelFile,
    LabelFormat,
    box_of,
    check_size,
    ellipse_of,
    points_of,
    polygon_of,
)
from pointcover.vectors.run_lengths import trace_mask

VERSION: Final = "5.5.0"
"""Of LabelMe, in files that are written."""
PNG: Final = b"\x89PNG\r\n\x1a\n"
PNG_SIZE: Final = slice(16, 24)
"""Place of width and height in a PNG."""


class _Shape(BaseModel):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


class _File(BaseModel):
    imagePath: str
    imageHeight: float | None = None
    imageWidth: float | None = None


Draw = Callable[[_Shape, SourceImage], Any]


def _points(shape: _Shape, image: SourceImage) -> Any:
    return points_of(shape.points)


def _polygon(shape: _Shape, image: SourceImage) -> Any:
    return polygon_of(shape.points)


def _rectangle(shape: _Shape, image: SourceImage) -> Any:
    if len(shape.points) == 4:  # corners, as of an oriented rectangle
        return polygon_of(shape.points)
    (left, top), (right, bottom) = _two(shape)
    return box_of(left, top, right, bottom)


def _circle(shape: _Shape, image: SourceImage) -> Any:
    (x, y), on_edge = _two(shape)
    radius = math.dist((x, y), on_edge)
    return ellipse_of(x, y, radius, radius)


def _mask(shape: _Shape, image: SourceImage) -> Any:
    """Draw a mask: a PNG of the part of the image between two pixels, which belong to it."""
    (left, top), (right, bottom) = _two(shape)
    left, top, right, bottom = map(int, (left, top, right, bottom))
    width, height = right - left + 1, bottom - top + 1
    if left < 0 or top < 0 or width < 1 or height < 1:
        raise ValueError(f"its mask has columns {left} to {right} and rows {top} to {bottom}")
    if right >= image.width or bottom >= image.height:
        raise ValueError(
            f"its mask goes to column {right} and row {bottom}, outside image {image.image!r} of "
            f"{image.width} × {image.height} px"
        )
    try:
        data = base64.b64decode(shape.mask or "", validate=True)
    except binascii.Error as error:
        raise ValueError(f"its mask is not base64 ({error})") from None
    size = np.frombuffer(data[PNG_SIZE], ">u4").tolist() if data.startswith(PNG) else []
    if size != [width, height]:
        raise ValueError(f"its mask is no PNG of {width} × {height} px (width, height)")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if found is None or found.shape != (height, width):
        raise ValueError("its mask is a damaged PNG")
    return trace_mask(found > 0, left, top)


SHAPES: Final[Mapping[str, Draw]] = {
    "point": _points,
    "points": _points,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}


def _two(shape: _Shape) -> tuple[tuple[float, float], tuple[float, float]]:
    if len(shape.points) != 2:
        raise ValueError(f"a {shape.shape_type} has {len(shape.points)} points, wanted 2")
    return shape.points[0], shape.points[1]


def recognise(document: Any) -> bool:
    """Return whether a JSON document is of LabelMe."""
    return isinstance(document, dict) and {"shapes", "imagePath"} <= document.keys()


def read(file: LabelFile, document: Any) -> None:
    """Read the shapes of the image of a file."""
    shapes = document["shapes"]
    if not isinstance(shapes, list):
        file.fault("shapes", "it is no list")
        return
    for place, entry in enumerate(shapes):
        name = f"shape {place}"
        with file.record(name):
            said = _File.model_validate(document)
            image = file.images.find(said.imagePath)
            check_size(image, said.imageHeight, said.imageWidth)
            shape = _Shape.model_validate(entry)
            kind = shape.shape_type or "polygon"  # as in files of old versions
            if kind not in SHAPES:
                raise ValueError(
                    f"shape_type {kind!r} cannot be read, wanted {', '.join(SHAPES)} (a line has "
                    f"no width: draw a polygon)"
                )
            file.add(name, image, shape.label, SHAPES[kind](shape, image))


def write(path: Path, parts: Sequence[ImagePoints], classes: ClassTable) -> None:
    """Write a folder with a file for each image."""
    with publish_folder(path) as out:
        for part in parts:
            shapes = [
                {
                    "label": classes.names[class_id],
                    "points": [[float(x), float(y)]],
                    "group_id": None,
                    "shape_type": "point",
                    "flags": {},
                }
                for x, y, class_id in zip(part.columns, part.rows, part.class_ids, strict=True)
            ]
            publish_json(
                out / f"{part.image.orthophoto}.json",
                {
                    "version": VERSION,
                    "flags": {},
                    "shapes": shapes,
                    "imagePath": part.image.image,
                    "imageData": None,
                    "imageHeight": part.image.height,
                    "imageWidth": part.image.width,
                },
            )


LABELME: Final = LabelFormat("json", recognise, read, write, "")
