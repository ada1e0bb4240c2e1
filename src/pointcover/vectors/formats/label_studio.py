"""Label Studio's JSON export: tasks with results in percent of the image's width and height."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, Field

from pointcover.labels import ClassTable
from pointcover.runtime.atomic_files import publish_text
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
    turn,
)
from pointcover.vectors.run_lengths import decode_brush, trace_mask

HASH_LENGTH: Final = 8
"""Of the hexadecimal digits, and a hyphen, that Label Studio puts before names of uploads."""
POINT_WIDTH: Final = 0.5
"""Of a point as it is shown, in percent of the image's width."""
WHOLE: Final = 100


class _Result(BaseModel):
    id: str | int | None = None
    type: str
    value: dict[str, Any]
    original_width: int = Field(gt=0)
    original_height: int = Field(gt=0)
    image_rotation: float = 0


class _Keypoint(BaseModel):
    x: float
    y: float


class _Polygon(BaseModel):
    points: list[tuple[float, float]]


class _Rectangle(BaseModel):
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0


class _Ellipse(BaseModel):
    x: float
    y: float
    radius_x: float = Field(alias="radiusX")
    radius_y: float = Field(alias="radiusY")
    rotation: float = 0


class _Brush(BaseModel):
    format: str = "rle"
    rle: list[int]


Values = Mapping[str, Any]
Draw = Callable[[Values, SourceImage], Any]


def _keypoint(values: Values, image: SourceImage) -> Any:
    point = _Keypoint.model_validate(values)
    return points_of([_pixels(point.x, point.y, image)])


def _polygon(values: Values, image: SourceImage) -> Any:
    polygon = _Polygon.model_validate(values)
    return polygon_of([_pixels(x, y, image) for x, y in polygon.points])


def _rectangle(values: Values, image: SourceImage) -> Any:
    box = _Rectangle.model_validate(values)
    left, top = _pixels(box.x, box.y, image)
    right, bottom = _pixels(box.x + box.width, box.y + box.height, image)
    return turn(box_of(left, top, right, bottom), box.rotation, left, top)


def _ellipse(values: Values, image: SourceImage) -> Any:
    found = _Ellipse.model_validate(values)
    x, y = _pixels(found.x, found.y, image)
    ellipse = ellipse_of(x, y, *_pixels(found.radius_x, found.radius_y, image))
    return turn(ellipse, found.rotation, x, y)


def _brush(values: Values, image: SourceImage) -> Any:
    brush = _Brush.model_validate(values)
    if brush.format != "rle":
        raise ValueError(f"its brush has format {brush.format!r}, wanted 'rle'")
    return trace_mask(decode_brush(brush.rle, *image.size))


SHAPES: Final[Mapping[str, Draw]] = {
    "keypoint": _keypoint,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "brush": _brush,
}
"""By the type of a result, without the ending `labels`."""

OTHER: Final = ("choices", "textarea", "rating", "number", "relation", "taxonomy", "datetime")
"""Types of results about the image, or about other results, which have no shape."""


def _pixels(x: float, y: float, image: SourceImage) -> tuple[float, float]:
    """Convert percent of an image to columns and rows."""
    return x * image.width / WHOLE, y * image.height / WHOLE


def recognise(document: Any) -> bool:
    """Return whether a JSON document is an export of Label Studio."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(task, dict) for task in document[:10])
        and ("data" in document[0] or "annotations" in document[0] or "annotator" in document[0])
    )


def read(file: LabelFile, document: Any) -> None:
    """Read the results of all annotations that were submitted; predictions are not read."""
    for place, task in enumerate(document):
        own = task.get("id", place) if isinstance(task, dict) else place
        name = f"task {own}"
        if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
            file.fault(
                name,
                "it has no list `annotations`: export as JSON, not as JSON-MIN or another format",
            )
            continue
        for annotation in task["annotations"]:
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                file.fault(name, "an annotation has no list `result`")
            elif not annotation.get("was_cancelled"):
                _read_results(file, name, task, annotation["result"])


def _read_results(file: LabelFile, task_name: str, task: Any, results: Sequence[Any]) -> None:
    """Read the results of one annotation.

    Where labels and shapes are separate controls, a result with the labels repeats the shape.
    """
    labelled = {
        str(entry["id"])
        for entry in results
        if isinstance(entry, dict) and str(entry.get("type")).endswith("labels") and "id" in entry
    }
    for place, entry in enumerate(results):
        if isinstance(entry, dict):
            kind = str(entry.get("type"))
            if kind in OTHER or (kind in SHAPES and str(entry.get("id")) in labelled):
                continue
            place = entry.get("id", place)
        name = f"{task_name}, result {place}"
        with file.record(name):
            result = _Result.model_validate(entry)
            image = file.images.find(*_image_names(task))
            check_size(image, result.original_height, result.original_width)
            if result.image_rotation:
                raise ValueError("its image was turned in Label Studio: undo this, label again")
            kind, label = _label_of(result)
            shape = SHAPES[kind](result.value, image)
            file.add(name, image, label, shape)


def _label_of(result: _Result) -> tuple[str, str]:
    """Return the kind of shape, and its only label.

    Raises:
        ValueError: it is no shape that can be read, or has no label or several.
    """
    kind = result.type.removesuffix("labels")
    if not kind:  # the labels of a separate control
        kind = next((key for key, name in _SIGNS.items() if key in result.value), "")
        kind = _SIGNS.get(kind, "")
    if kind not in SHAPES:
        raise ValueError(f"type {result.type!r} cannot be read, wanted {', '.join(SHAPES)}")
    labels = [value for key, value in result.value.items() if key.endswith("labels")]
    found = labels[0] if labels and isinstance(labels[0], list) else []
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} labels, wanted one class")
    return kind, str(found[0])


_SIGNS: Final = {
    "rle": "brush",
    "points": "polygon",
    "radiusX": "ellipse",
    "height": "rectangle",
    "x": "keypoint",
}
"""Kinds of shapes by the keys of their values, in the order to try."""


def _image_names(task: Mapping[str, Any]) -> list[str]:
    """Return names that the image of a task may have in the dataset.

    Uploads are named `<8 hexadecimal digits>-<name>`, and local files by an address with `?d=`.
    """
    data = task.get("data")
    if not isinstance(data, dict):
        raise ValueError("it has no `data` with an image")
    values = [value for value in data.values() if isinstance(value, str)]
    if isinstance(data.get("image"), str):
        values.insert(0, data["image"])
    names = []
    for value in values:
        address = urlsplit(value)
        local = parse_qs(address.query).get("d")
        path = local[0] if local else unquote(address.path)
        names.append(path)
        own = PurePosixPath(path).name
        start, hyphen, rest = own.partition("-")
        if hyphen and len(start) == HASH_LENGTH and not set(start) - set("0123456789abcdef"):
            names.append(rest)
        names.append(value)
    if not names:
        raise ValueError("its `data` names no image")
    return names


def write(path: Path, parts: Sequence[ImagePoints], classes: ClassTable) -> None:
    """Write points as results of tasks, in the form that Label Studio imports and exports."""
    tasks = []
    for number, part in enumerate(parts, start=1):
        results = [
            {
                "id": f"{number}-{place}",
                "type": "keypointlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": part.image.width,
                "original_height": part.image.height,
                "image_rotation": 0,
                "value": {
                    "x": WHOLE * float(x) / part.image.width,
                    "y": WHOLE * float(y) / part.image.height,
                    "width": POINT_WIDTH,
                    "keypointlabels": [classes.names[class_id]],
                },
            }
            for place, (x, y, class_id) in enumerate(
                zip(part.columns, part.rows, part.class_ids, strict=True)
            )
        ]
        tasks.append(
            {
                "id": number,
                "data": {"image": part.image.image},
                "annotations": [{"result": results}],
            }
        )
    publish_text(path, json.dumps(tasks, indent=2, ensure_ascii=False) + "\n")


LABEL_STUDIO: Final = LabelFormat("json", recognise, read, write, ".json")
