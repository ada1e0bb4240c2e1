"""Read labels in pixels of images: JSON and XML of annotation tools, and CSV.

Nothing is skipped silently: one message names the records of all files that cannot be read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely

from pointcover.labels import ClassTable
from pointcover.text import shorten
from pointcover.tileset.source_images import SourceImages
from pointcover.vectors.class_values import ClassValues
from pointcover.vectors.documents import load_csv, load_json, load_xml
from pointcover.vectors.features import Annotations, explain_invalid
from pointcover.vectors.formats import FORMATS
from pointcover.vectors.formats.base import LabelFile, LabelFormat
from pointcover.vectors.settings import VectorSettings

MOST_FAULTS: Final = 20
"""Faults that a message lists; it counts the others."""

_LOADERS: Final[Mapping[str, Callable[[Path], Any]]] = {
    "json": load_json,
    "xml": load_xml,
    "csv": load_csv,
}


def read_label_files(
    paths: Sequence[Path], classes: ClassTable, settings: VectorSettings, images: SourceImages
) -> Annotations:
    """Read files of annotation tools, or CSVs, all in one format.

    Args:
        paths: of the files.
        classes: that labels may have; see `read_annotations`.
        settings: the column of CSVs, and the meaning of values.
        images: that labels may be on.

    Raises:
        ValueError: a file is of no known format, the files are of several formats, or records
            cannot be read; one message names these.
    """
    found: dict[str, list[LabelFile]] = {}
    for path in paths:
        name, document = recognise(path)
        file = LabelFile(path, images)
        if name == "csv":
            document = (*document, settings.column)
        FORMATS[name].read(file, document)
        found.setdefault(name, []).append(file)
    if len(found) > 1:
        kinds = "; ".join(
            f"{n}: {shorten((f.path.name for f in fs), 3)}" for n, fs in found.items()
        )
        raise ValueError(
            f"{paths[0].parent} holds labels in several formats ({kinds}): move all but one away"
        )
    ((_, files),) = found.items()
    return annotations_of(files, ClassValues.of(classes, settings))


def recognise(path: Path) -> tuple[str, Any]:
    """Return the format of a file by its contents, and the document that it holds.

    Raises:
        ValueError: it is of no known format.
    """
    kind = kind_of(path)
    document = _LOADERS[kind](path) if kind else None
    for name, one in FORMATS.items():
        if kind == one.kind and recognises(one, document):
            return name, document
    raise ValueError(
        f"{path} is not recognised as labels: wanted a GeoPackage, Shapefile or GeoJSON, JSON of "
        f"COCO, Label Studio or LabelMe, XML of 'CVAT for images 1.1', or a CSV with the columns "
        f"column, row and class. {_describe(kind, document)}"
    )


def recognises(one: LabelFormat, document: Any) -> bool:
    """Return whether a document is of a format."""
    return one.recognise((*document, "")) if one.kind == "csv" else one.recognise(document)


def kind_of(path: Path) -> str | None:
    """Return whether a file is `json`, `xml` or `csv` text by its first bytes; else None."""
    with path.open("rb") as file:
        start = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start or b"\0" in start:
        return None
    if start[:1] in b"{[":
        return "json"
    return "xml" if start[:1] == b"<" else "csv"


def _describe(kind: str | None, document: Any) -> str:
    """Describe what a file holds instead of labels, for a message."""
    if kind is None:
        return "It is empty, or not text"
    if kind == "csv":
        return f"It has the columns {shorten(document[0])[:300]}"
    if kind == "xml":
        return f"Its root is <{document.name[:100]}>"
    if isinstance(document, dict):
        return f"It has the keys {shorten(document)[:300]}"
    return f"It is a list of {len(document)} values"


@dataclass(frozen=True)
class _Record:
    """A record whose class is known."""

    fid: str
    class_id: int
    orthophoto: str
    shape: Any


def annotations_of(files: Sequence[LabelFile], values: ClassValues) -> Annotations:
    """Make annotations of the shapes of files, and check their classes and geometries.

    Raises:
        ValueError: records cannot be read, or there are none with a class.
    """
    records: list[_Record] = []
    faults = [fault for file in files for fault in file.faults]
    ignored = 0
    for file in files:
        shapes = np.empty(len(file.shapes), object)
        shapes[:] = [one.shape for one in file.shapes]
        for one, is_valid in zip(file.shapes, shapely.is_valid(shapes), strict=True):
            class_id = values.find(one.label)
            if values.ignores(one.label):
                ignored += 1
            elif class_id is None:
                text = values.describe_unknown(one.label)
                faults.append(f"{file.path.name}, {one.record}: {text}")
            elif not is_valid:
                reason = explain_invalid(one.shape)
                faults.append(
                    f"{file.path.name}, {one.record}: its polygon is invalid ({reason}), so that "
                    f"its area is ambiguous: draw it again"
                )
            else:
                fid = one.record if len(files) == 1 else f"{file.path.name}: {one.record}"
                records.append(_Record(fid, class_id, one.image.orthophoto, one.shape))
    path = files[0].path if len(files) == 1 else files[0].path.parent
    if faults:
        raise ValueError(list_faults(path, faults))
    if not records:
        total = sum(file.records for file in files)
        raise ValueError(
            f"{path} has no labels: of {total} records {ignored} have a value to ignore: label "
            f"some, or correct `ignore`"
        )
    made = _make(path, records, files[0].images)
    return replace(made, read=len(records) + ignored, ignored=ignored)


def list_faults(path: Path, faults: Sequence[str]) -> str:
    """Return a message that lists records that cannot be read."""
    count = "one record" if len(faults) == 1 else f"{len(faults)} records"
    more = len(faults) - MOST_FAULTS
    return "\n  - ".join(
        [
            f"{path} has {count} that cannot be read; correct or remove them, or map values with "
            f"annotate.vectors.codes, or skip values with annotate.vectors.ignore:",
            *faults[:MOST_FAULTS],
            *([f"and {more} more"] if more > 0 else []),
        ]
    )


def _make(path: Path, records: Sequence[_Record], images: SourceImages) -> Annotations:
    shapes = np.empty(len(records), object)
    shapes[:] = [record.shape for record in records]
    owners = np.arange(len(records))
    while (shapely.get_type_id(shapes) > shapely.GeometryType.POLYGON).any():
        shapes, within = shapely.get_parts(shapes, return_index=True)
        owners = owners[within]
    return Annotations(
        path=path,
        crs=(),
        fids=np.array([record.fid for record in records], object),
        class_ids=np.array([record.class_id for record in records], np.uint8),
        orthophotos=np.array([record.orthophoto for record in records], object),
        parts=shapes,
        owners=owners,
        layers=np.zeros(len(shapes), np.intp),
        read=len(records),
        ignored=0,
        without_geometry=(),
        images=images.by_orthophoto,
    )
