"""Read labels of any supported format, which is told by the contents of the file."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pointcover.labels import ClassTable
from pointcover.tileset.source_images import SourceImages
from pointcover.vectors.documents import load_json
from pointcover.vectors.features import Annotations
from pointcover.vectors.read import has_companions, read_annotations
from pointcover.vectors.read_pixels import kind_of, read_label_files
from pointcover.vectors.settings import VectorSettings

START_BYTES: Final = 1 << 16
GEOJSON: Final = (
    "FeatureCollection|Feature|GeometryCollection|(?:Multi)?(?:Point|LineString|Polygon)"
)
"""Types of GeoJSON objects."""


def read_labels(
    paths: Sequence[Path], classes: ClassTable, settings: VectorSettings, images: SourceImages
) -> Annotations:
    """Read a vector file, or files of an annotation tool.

    Args:
        paths: of the files; a vector file is alone.
        classes: that labels may have.
        settings: the layers and column of vector files, and the meaning of values.
        images: that labels may be on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is of no known format, or labels cannot be read; the message names file
            and records.
    """
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist, wanted a file of annotations: correct the path"
            )
    if len(paths) == 1 and is_vector_file(paths[0]):
        return read_annotations(paths[0], classes, settings, images.by_orthophoto, images)
    return read_label_files(paths, classes, settings, images)


def is_vector_file(path: Path) -> bool:
    """Return whether a file is a GeoPackage, a Shapefile or a GeoJSON."""
    if has_companions(path):
        return True
    if kind_of(path) != "json":
        return path.stat().st_size == 0
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    # The type is the first member as a rule, which is told without reading the file.
    start = start.removeprefix(b"\xef\xbb\xbf")
    if re.match(rf'\s*{{\s*"type"\s*:\s*"(?:{GEOJSON})"'.encode(), start):
        return True
    document = load_json(path)
    return (
        isinstance(document, dict) and re.fullmatch(GEOJSON, str(document.get("type"))) is not None
    )
