"""COCO: JSON with images, categories, and annotations with key points, polygons or masks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import shapely
from pydantic import BaseModel

from pointcover.labels import ClassTable
from pointcover.runtime.atomic_files import publish_json
from pointcover.vectors.formats.base import (
    ImagePoints,
    LabelFile,
    LabelFormat,
    check_size,
    points_of,
    polygon_of,
)
from pointcover.vectors.run_lengths import coco_counts, decode_counts, trace_mask

POINT: Final = "point"
"""Name of the only key point of a category that is written."""
VISIBLE: Final = 2


class _Image(BaseModel):
    id: int | str
    file_name: str
    height: float | None = None
    width: float | None = None


class _Category(BaseModel):
    id: int | str
    name: str


class _Mask(BaseModel):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(BaseModel):
    id: int | str | None = None
    image_id: int | str
    category_id: int | str
    keypoints: list[float] | None = None
    segmentation: _Mask | list[list[float]] | None = None


def recognise(document: Any) -> bool:
    """Return whether a JSON document is COCO."""
    return isinstance(document, dict) and {"images", "annotations"} <= document.keys()


def read(file: LabelFile, document: Any) -> None:
    """Read annotations; each has the class of its category."""
    images = _entries(file, document, "images", _Image)
    categories = _entries(file, document, "categories", _Category)
    for place, entry in enumerate(_list(file, document, "annotations")):
        own = entry.get("id") if isinstance(entry, dict) else None
        name = f"annotation {place if own is None else own}"
        with file.record(name):
            annotation = _Annotation.model_validate(entry)
            image = images.get(annotation.image_id)
            if image is None:
                raise ValueError(f"image_id {annotation.image_id!r} is not among `images`")
            category = categories.get(annotation.category_id)
            if category is None:
                raise ValueError(f"category_id {annotation.category_id!r} is not in `categories`")
            source = file.images.find(image.file_name)
            check_size(source, image.height, image.width)
            shapes = list(_shapes(annotation, source.size))
            if not shapes:
                raise ValueError(
                    "it has neither key points nor a segmentation: a `bbox` alone does not say "
                    "which of its pixels are of the class"
                )
            whole = shapes[0] if len(shapes) == 1 else shapely.GeometryCollection(shapes)
            file.add(name, source, category.name, whole)


def _shapes(annotation: _Annotation, size: tuple[int, int]) -> Iterator[Any]:
    """Yield the key points that are labelled, and the polygons or the mask."""
    points = annotation.keypoints or []
    if len(points) % 3:
        raise ValueError(f"keypoints has {len(points)} numbers, wanted x, y, v for each point")
    labelled = [pair for *pair, v in zip(points[::3], points[1::3], points[2::3], strict=True) if v]
    if labelled:
        yield points_of(labelled)
    mask = annotation.segmentation
    if isinstance(mask, _Mask):
        if mask.size != size:
            raise ValueError(
                f"its mask has {mask.size[0]} × {mask.size[1]} px, its image {size[0]} × {size[1]}"
            )
        counts = coco_counts(mask.counts) if isinstance(mask.counts, str) else mask.counts
        yield trace_mask(decode_counts(counts, *size, "F"))
        return
    for numbers in mask or []:
        if len(numbers) % 2:
            raise ValueError(f"a polygon has {len(numbers)} numbers, wanted x, y for each corner")
        yield polygon_of(list(zip(numbers[::2], numbers[1::2], strict=True)))


def _list(file: LabelFile, document: Any, key: str) -> Sequence[Any]:
    found = document.get(key, [])
    if not isinstance(found, list):
        file.fault(key, "it is no list")
        return []
    return found


def _entries(
    file: LabelFile, document: Any, key: str, model: type[_Image] | type[_Category]
) -> dict[int | str, Any]:
    """Return images or categories by id; one that is given twice is a fault."""
    found: dict[int | str, Any] = {}
    for place, entry in enumerate(_list(file, document, key)):
        with file.record(f"{key} {place}"):
            one = model.model_validate(entry)
            if one.id in found:
                raise ValueError(f"id {one.id!r} is given twice: number them anew")
            found[one.id] = one
        file.records -= 1  # it has no shape
    return found


def write(path: Path, parts: Sequence[ImagePoints], classes: ClassTable) -> None:
    """Write points as annotations with one key point each."""
    annotations = [
        {
            "id": 0,
            "image_id": number,
            "category_id": int(class_id) + 1,
            "keypoints": [float(x), float(y), VISIBLE],
            "num_keypoints": 1,
            "segmentation": [],
            "bbox": [float(x), float(y), 0, 0],
            "area": 0,
            "iscrowd": 0,
        }
        for number, part in enumerate(parts, start=1)
        for x, y, class_id in zip(part.columns, part.rows, part.class_ids, strict=True)
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    publish_json(
        path,
        {
            "images": [
                {
                    "id": number,
                    "file_name": part.image.image,
                    "height": part.image.height,
                    "width": part.image.width,
                }
                for number, part in enumerate(parts, start=1)
            ],
            "categories": [
                {"id": number, "name": name, "keypoints": [POINT], "skeleton": []}
                for number, name in enumerate(classes.names, start=1)
            ],
            "annotations": annotations,
        },
    )


COCO: Final = LabelFormat("json", recognise, read, write, ".json")
