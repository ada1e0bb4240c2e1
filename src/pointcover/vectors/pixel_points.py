"""Points at rows and columns of images, as annotations."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from pointcover.labels import ClassTable
from pointcover.text import shorten
from pointcover.tileset.source_images import SourceImages
from pointcover.vectors.class_values import known_values, normalise, suggest
from pointcover.vectors.features import Annotations

PixelPoints = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
"""Rows, columns and classes of points, (n,) each: whole numbers from 0, and names or ids."""


def annotations_at(
    points: Mapping[str, PixelPoints], classes: ClassTable, images: SourceImages
) -> Annotations:
    """Return points as annotations, which lie at the centres of their pixels.

    Args:
        points: by the name of their image.
        classes: that points may have.
        images: on which they lie.

    Raises:
        ValueError: rows, columns and classes differ in their number, a point lies outside its
            image, a value is not a class, or there is no point.
    """
    parts, ids, names = [], [], []
    known = known_values(classes, {})
    for name, given in points.items():
        rows, cols, values = (np.atleast_1d(np.asarray(each)) for each in given)
        if not rows.shape == cols.shape == values.shape or rows.ndim != 1:
            raise ValueError(
                f"points on {name}: got rows of shape {rows.shape}, columns of {cols.shape} and "
                f"classes of {values.shape}, wanted arrays of one length"
            )
        height, width = images.by_orthophoto[name].size
        for what, each, size in (("row", rows, height), ("column", cols, width)):
            _check_whole(name, what, each, size)
        unknown = sorted({str(one) for one in values.tolist() if normalise(one) not in known})
        if unknown:
            raise ValueError(
                f"points on {name}: {shorten(unknown)} is no class, known: "
                f"{shorten(classes.names)}{suggest(unknown[0], classes.names)}"
            )
        ids += [known[normalise(one)] for one in values.tolist()]
        parts.append(shapely.points(cols + 0.5, rows + 0.5))
        names += [name] * len(rows)
    if not ids:
        raise ValueError("got no point: label some of two classes or more")
    count = len(ids)
    return Annotations(
        path=Path("points"),
        crs=(),
        fids=np.arange(count).astype(object),
        class_ids=np.array(ids, np.uint8),
        orthophotos=np.array(names, object),
        parts=np.concatenate(parts),
        owners=np.arange(count),
        layers=np.zeros(count, np.intp),
        read=count,
        ignored=0,
        without_geometry=(),
        images=images.by_orthophoto,
    )


def _check_whole(name: str, what: str, values: npt.NDArray[np.generic], size: int) -> None:
    if len(values) and values.dtype.kind not in "iu":
        raise ValueError(
            f"points on {name}: got {what}s of {values.dtype}, wanted whole numbers from 0: round "
            f"down with np.floor(…).astype(int)"
        )
    outside = [int(one) for one in values if not 0 <= int(one) < size]
    if outside:
        raise ValueError(
            f"points on {name}: {what}s {shorten(map(str, outside))} are outside the image, wanted "
            f"0 to {size - 1}"
        )
