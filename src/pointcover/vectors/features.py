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

from pointcover.raster.raster_io import RasterInfo

ORTHOPHOTO: Final = "orthophoto"
"""The column with the name of the one orthophoto that a feature is of; where it is empty, a feature
is of any that it lies on. So clicks are placed on the orthophoto that they were made on, even where
another one overlaps it."""

SHOWN: Final = 10
"""The greatest number of feature ids, values or names in a message or summary."""

Numbers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labelled points, lines and polygons of one file, in the CRSs of its layers."""

    path: Path
    crs: tuple[pyproj.CRS, ...]
    """The CRS of every layer that was read."""
    fids: npt.NDArray[np.object_]
    """(N,) the file's feature ids; of several layers, texts `<layer>:<id>`."""
    class_ids: npt.NDArray[np.uint8]
    """(N,)."""
    orthophotos: npt.NDArray[np.object_]
    """(N,) name of the one orthophoto that a feature is of, "" for any that it lies on."""
    parts: npt.NDArray[np.object_]
    """(P,) points, lines and polygons; a multi-geometry is several parts."""
    owners: Numbers
    """(P,) index of each part's feature in `fids`."""
    layers: Numbers
    """(P,) index of each part's CRS in `crs`."""
    read: int
    """The number of features in the layers."""
    ignored: int
    """The number of features left out because their value is one to ignore."""
    without_geometry: tuple[int | str, ...]
    """Ids of features left out because their geometry is missing, empty or not a number."""
    _in_crs: dict[str, tuple[npt.NDArray[np.object_], shapely.STRtree]] = field(
        default_factory=dict, repr=False
    )

    def project(self, grid: RasterInfo) -> tuple[npt.NDArray[np.object_], shapely.STRtree]:
        """Return all parts in the CRS of an orthophoto and an index of them; both are cached.

        Raises:
            ValueError: there is no transformation to that CRS.
        """
        assert grid.crs is not None
        text = grid.crs.to_wkt()
        if text not in self._in_crs:
            crs = pyproj.CRS.from_wkt(text)
            parts = self.parts.copy()
            for number, own in enumerate(self.crs):
                of_layer = self.layers == number
                parts[of_layer] = self._reproject(parts[of_layer], own, crs, grid.path)
            self._in_crs[text] = (parts, shapely.STRtree(parts))
        return self._in_crs[text]

    def _reproject(
        self, parts: npt.NDArray[np.object_], own: pyproj.CRS, crs: pyproj.CRS, path: Path
    ) -> npt.NDArray[np.object_]:
        """Return (n,) parts of one layer in another CRS, None for those outside its domain."""
        if crs.equals(own, ignore_axis_order=True):
            return parts
        try:
            transformer = self._transformer(own, crs, path)
        except ProjError:
            raise ValueError(
                f"there is no transformation from the CRS of {self.path} ({name_crs(own)}) to that "
                f"of {path} ({name_crs(crs)}): give both a CRS that is on the Earth"
            ) from None
        moved = np.asarray(shapely.transform(parts, transformer.transform, interleaved=False))
        moved[~are_finite(moved)] = None
        return moved

    def _transformer(self, own: pyproj.CRS, crs: pyproj.CRS, path: Path) -> pyproj.Transformer:
        """Choose a transformation (x is east); warn where the best one lacks a file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the same as below
            group = TransformerGroup(own, crs, always_xy=True)
        if not group.best_available:
            logger.warning(
                "%s (%s) is not placed on %s (%s) by the best transformation, for which PROJ lacks "
                "a grid: it may lie metres off. Install it (`pyproj sync`), or export the file in "
                "that CRS",
                self.path,
                name_crs(own),
                path,
                name_crs(crs),
            )
        return pyproj.Transformer.from_crs(own, crs, always_xy=True)


def are_finite(shapes: npt.NDArray[np.object_]) -> Flags:
    """Return of which geometries all coordinates are finite."""
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[owners[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def name_crs(crs: pyproj.CRS) -> str:
    """Name a CRS in a message: by its code where it has one."""
    code = crs.to_authority()
    return ":".join(code) if code else crs.name
