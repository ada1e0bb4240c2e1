"""CSV: a point a line, with columns `column` and `row` in pixels of its image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import shapely

from pointcover.labels import ClassTable
from pointcover.runtime.atomic_files import publish_csv
from pointcover.tileset.source_images import SourceImages
from pointcover.vectors.features import ORTHOPHOTO
from pointcover.vectors.formats.base import ImagePoints, LabelFile, LabelFormat

COLUMN: Final = "column"
ROW: Final = "row"
IMAGE: Final = "image"
"""Column with the file name of a point's image; ORTHOPHOTO may name it instead."""


def recognise(document: Any) -> bool:
    """Return whether a table has points in pixels."""
    names, _, _ = document
    return {COLUMN, ROW} <= set(names)


def read(file: LabelFile, document: Any) -> None:
    """Read the points of a table.

    Args:
        file: to add them to.
        document: the names of the columns, the rows with their lines, and the column of classes.
    """
    names, rows, class_column = document
    if class_column not in names:
        file.fault("header", f"it has no column {class_column!r}, it has {', '.join(names)}")
        return
    for line, values in rows:
        name = f"line {line}"
        with file.record(name):
            image = image_of(values.get(IMAGE) or values.get(ORTHOPHOTO) or "", file.images)
            x, y = float(values[COLUMN]), float(values[ROW])
            file.add(name, image, values[class_column], shapely.Point(x, y))


def image_of(name: str, images: SourceImages) -> Any:
    """Return the image that a feature names, or the only image.

    Raises:
        ValueError: it names none, and there are several; or it names no image of the dataset.
    """
    if name.strip():
        return images.find(name)
    if len(images.by_orthophoto) == 1:
        return next(iter(images.by_orthophoto.values()))
    raise ValueError(
        f"it does not say on which of {len(images.by_orthophoto)} images it is: add a column "
        f"{IMAGE!r} with the image's file name"
    )


def write(path: Path, parts: Sequence[ImagePoints], classes: ClassTable) -> None:
    """Write a line for each point."""
    header = (IMAGE, ORTHOPHOTO, COLUMN, ROW, "class", "class_id", "split", "tile")
    lines = [
        (
            part.image.image,
            part.image.orthophoto,
            float(x),
            float(y),
            classes.names[class_id],
            int(class_id),
            split,
            tile,
        )
        for part in parts
        for x, y, class_id, split, tile in zip(
            part.columns, part.rows, part.class_ids, part.splits, part.tiles, strict=True
        )
    ]
    publish_csv(path, header, lines)


CSV: Final = LabelFormat("csv", recognise, read, write, ".csv")
