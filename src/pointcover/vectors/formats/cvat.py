"""CVAT for images 1.1: XML with images, and points, polygons, boxes, ellipses and masks in them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from pydantic import BaseModel, Field

from pointcover.labels import ClassTable
from pointcover.runtime.atomic_files import publish_text
from pointcover.tileset.source_images import SourceImage
from pointcover.vectors.documents import Element
from pointcover.vectors.formats.base import (
    ImagePoints,
    LabelFile,
    LabelFormat,
    box_of,
    check_size,
    ellipse_of,
    points_of,
    polygon_of,
    turn,
)
from pointcover.vectors.run_lengths import decode_counts, trace_mask


class _Pairs(BaseModel):
    points: str


class _Box(BaseModel):
    xtl: float
    ytl: float
    xbr: float
    ybr: float
    rotation: float = 0


class _Ellipse(BaseModel):
    cx: float
    cy: float
    rx: float
    ry: float
    rotation: float = 0


class _Mask(BaseModel):
    rle: str
    left: int
    top: int
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class _Image(BaseModel):
    name: str
    width: float | None = None
    height: float | None = None


Values = Mapping[str, str]
Draw = Callable[[Values, SourceImage], Any]


def _points(values: Values, image: SourceImage) -> Any:
    return points_of(_pairs(values))


def _polygon(values: Values, image: SourceImage) -> Any:
    return polygon_of(_pairs(values))


def _box(values: Values, image: SourceImage) -> Any:
    box = _Box.model_validate(values)
    shape = box_of(box.xtl, box.ytl, box.xbr, box.ybr)
    return turn(shape, box.rotation, (box.xtl + box.xbr) / 2, (box.ytl + box.ybr) / 2)


def _ellipse(values: Values, image: SourceImage) -> Any:
    found = _Ellipse.model_validate(values)
    shape = ellipse_of(found.cx, found.cy, found.rx, found.ry)
    return turn(shape, found.rotation, found.cx, found.cy)


def _mask(values: Values, image: SourceImage) -> Any:
    mask = _Mask.model_validate(values)
    right, bottom = mask.left + mask.width, mask.top + mask.height
    if mask.left < 0 or mask.top < 0 or right > image.width or bottom > image.height:
        raise ValueError(
            f"its mask has columns {mask.left} to {right} and rows {mask.top} to {bottom}, outside "
            f"image {image.image!r} of {image.width} × {image.height} px"
        )
    counts = [int(count) for count in mask.rle.split(",")]
    return trace_mask(decode_counts(counts, mask.height, mask.width, "C"), mask.left, mask.top)


SHAPES: Final[Mapping[str, Draw]] = {
    "points": _points,
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}

ADVICE: Final = {
    "polyline": "a line has no width, so it does not say which pixels are of the class: draw a "
    "polygon",
    "tag": "a tag is of the whole image: draw what it says",
}
"""About shapes that cannot be read."""


def _pairs(values: Values) -> list[list[float]]:
    """Return the points of `x,y;x,y`."""
    pairs = _Pairs.model_validate(values).points.split(";")
    return [[float(number) for number in pair.split(",")] for pair in pairs]


def recognise(document: Any) -> bool:
    """Return whether an XML document is of CVAT."""
    return isinstance(document, Element) and document.name == "annotations"


def read(file: LabelFile, document: Any) -> None:
    """Read the shapes of all images."""
    if any(child.name == "track" for child in document.children):
        file.fault("track", "this is 'CVAT for video': export as 'CVAT for images 1.1'")
        return
    for image in document.children:
        if image.name != "image":
            continue
        where = f"image {image.attributes.get('name', '')!r}"
        for element in image.children:
            name = f"{where}, {element.name} in line {element.line}"
            with file.record(name):
                said = _Image.model_validate(image.attributes)
                source = file.images.find(said.name)
                check_size(source, said.height, said.width)
                if element.name not in SHAPES:
                    reason = ADVICE.get(element.name, f"wanted {', '.join(SHAPES)}")
                    raise ValueError(f"{element.name!r} cannot be read: {reason}")
                shape = SHAPES[element.name](element.attributes, source)
                if "label" not in element.attributes:
                    raise ValueError("it has no attribute `label`")
                file.add(name, source, element.attributes["label"], shape)


def write(path: Path, parts: Sequence[ImagePoints], classes: ClassTable) -> None:
    """Write points as elements with one point each."""
    labels = "".join(
        f"<label><name>{escape(name)}</name><type>points</type></label>" for name in classes.names
    )
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta><task><labels>{labels}</labels></task></meta>",
    ]
    for number, part in enumerate(parts):
        lines.append(
            f'  <image id="{number}" name={quoteattr(part.image.image)} width="{part.image.width}" '
            f'height="{part.image.height}">'
        )
        lines += [
            f"    <points label={quoteattr(classes.names[class_id])} "
            f'source="manual" occluded="0" points="{x:.2f},{y:.2f}" z_order="0"></points>'
            for x, y, class_id in zip(part.columns, part.rows, part.class_ids, strict=True)
        ]
        lines.append("  </image>")
    publish_text(path, "\n".join([*lines, "</annotations>"]) + "\n")


CVAT: Final = LabelFormat("xml", recognise, read, write, ".xml")
