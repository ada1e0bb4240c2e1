"""Find the image and the pixels of features of a vector file without a CRS."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from pointcover.tileset.source_images import SourceImage, SourceImages
from pointcover.vectors.features import ORTHOPHOTO, SHOWN, Numbers
from pointcover.vectors.formats.base import inside
from pointcover.vectors.formats.table import IMAGE, image_of

Parts = tuple[npt.NDArray[np.object_], Numbers]
"""(P,) points, lines and polygons, and the (P,) index of each one's feature."""


def place_in_pixels(
    where: str, table: Any, parts: Parts, images: SourceImages
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Return (N,) the orthophoto of each feature, and (P,) the parts in columns and rows.

    Args:
        where: file and layer, for messages.
        table: the features, with their columns ORTHOPHOTO or IMAGE, where the layer has them.
        parts: in the coordinates of the file.
        images: that features may be on.

    Raises:
        ValueError: y goes both up and down; or features are on no image, or outside theirs.
    """
    shapes = _rows_down(where, parts[0])
    faults: list[str] = []
    found: list[SourceImage | None] = []
    for fid, name in zip(table.index, _names(table), strict=True):
        try:
            found.append(image_of(name, images))
        except ValueError as error:
            found.append(None)
            faults.append(f"feature {fid}: {error}")
    for place, owner in enumerate(parts[1]):
        image = found[owner]
        if image is not None:
            try:
                shapes[place] = inside(shapes[place], image)
            except ValueError as error:
                faults.append(f"feature {table.index[owner]}: {error}")
    if faults:
        more = f"\n  - and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        listed = "\n  - ".join(faults[:SHOWN])
        raise ValueError(
            f"{where}, has no CRS, so its coordinates are pixels, and {len(faults)} features "
            f"cannot be placed:\n  - {listed}{more}"
        )
    return np.array([image.orthophoto if image else "" for image in found], object), shapes


def _names(table: Any) -> list[str]:
    """Return the name of each feature's image, "" where it has none."""
    names = [""] * len(table)
    for column in (IMAGE, ORTHOPHOTO):
        if column in table:
            values = table[column].to_numpy(object)
            names = [
                name or ("" if value is None or value != value else str(value).strip())
                for name, value in zip(names, values, strict=True)
            ]
    return names


def _rows_down(where: str, parts: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return parts whose y is the row: QGIS shows images without CRS with y from 0 downwards < 0.

    Raises:
        ValueError: some parts are above y = 0, and some below.
    """
    _, low, _, high = shapely.bounds(parts).T if len(parts) else np.zeros((4, 0))
    middle = (low + high) / 2
    if (middle < 0).any() and (middle > 0).any():
        raise ValueError(
            f"{where}, has no CRS, so its coordinates are pixels, but y is positive in "
            f"{int((middle > 0).sum())} parts and negative in {int((middle < 0).sum())}: wanted "
            f"rows, from 0 at the top, either all positive, or all negative as QGIS shows images"
        )
    if (middle < 0).any():
        return np.asarray(shapely.transform(parts, lambda xy: xy * (1, -1)))
    return parts.copy()
