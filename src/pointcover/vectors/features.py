"""Labelled features of a vector file, in the CRS of the file or of an orthophoto."""

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

from pointcover.raster import RasterInfo

SHOWN: Final = 10
"""How many feature ids, values or names a message or summary gives before it only counts."""

Numbers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labelled points, lines and polygons of one layer, in its own CRS."""

    path: Path
    crs: pyproj.CRS
    fids: npt.NDArray[np.int64]
    """(N,) the file's feature ids."""
    class_ids: npt.NDArray[np.uint8]
    """(N,)."""
    parts: npt.NDArray[np.object_]
    """(P,) points, lines and polygons; a multi-geometry is several parts."""
    owners: Numbers
    """(P,) place of each part's feature in `fids`."""
    read: int
    """Features in the layer."""
    ignored: int
    """Features left out because their value means nothing (`ignore`)."""
    without_geometry: tuple[int, ...]
    """Ids of features left out because their geometry is missing, empty or not a number."""
    _in_crs: dict[str, tuple[npt.NDArray[np.object_], shapely.STRtree]] = field(
        default_factory=dict, repr=False
    )

    def project(self, grid: RasterInfo) -> tuple[npt.NDArray[np.object_], shapely.STRtree]:
        """Give all parts in the CRS of an orthophoto and an index of them; kept for the next.

        Raises:
            ValueError: nothing leads to that CRS.
        """
        assert grid.crs is not None
        text = grid.crs.to_wkt()
        if text not in self._in_crs:
            crs = pyproj.CRS.from_wkt(text)
            if crs.equals(self.crs, ignore_axis_order=True):
                parts = self.parts
            else:
                try:
                    transformer = _transformer(self, crs, grid.path)
                except ProjError:
                    raise ValueError(
                        f"nothing leads from the CRS of {self.path} ({name_crs(self.crs)}) to that "
                        f"of {grid.path} ({name_crs(crs)}): give both a CRS that is on the Earth"
                    ) from None
                parts = shapely.transform(self.parts, transformer.transform, interleaved=False)
                parts[~are_finite(parts)] = None
            self._in_crs[text] = (parts, shapely.STRtree(parts))
        return self._in_crs[text]


def are_finite(shapes: npt.NDArray[np.object_]) -> Flags:
    """Say of which geometries all coordinates are numbers."""
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[owners[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def _transformer(annotations: Annotations, crs: pyproj.CRS, path: Path) -> pyproj.Transformer:
    """Choose how to reproject (x is always east); warn where the best way lacks a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says the same, at length
        group = TransformerGroup(annotations.crs, crs, always_xy=True)
    if not group.best_available:
        logger.warning(
            "%s (%s) is not laid on %s (%s) in the best way, for which PROJ lacks a grid: it may "
            "lie metres off. Install it (`pyproj sync`), or export the file in that CRS",
            annotations.path, name_crs(annotations.crs), path, name_crs(crs),
        )  # fmt: skip
    return pyproj.Transformer.from_crs(annotations.crs, crs, always_xy=True)


def name_crs(crs: pyproj.CRS) -> str:
    """Name a CRS in a message: by its code where it has one."""
    code = crs.to_authority()
    return ":".join(code) if code else crs.name
