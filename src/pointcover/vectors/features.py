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
"""A column of this name says which one orthophoto a feature is of; empty, any that it lies on. So
clicks come back to the orthophoto that they were made on where another one overlaps it."""

SHOWN: Final = 10
"""How many feature ids, values or names a message or summary gives before it only counts."""

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
    """(N,) name of the one orthophoto that a feature is of, "" where it is of any it lies on."""
    parts: npt.NDArray[np.object_]
    """(P,) points, lines and polygons; a multi-geometry is several parts."""
    owners: Numbers
    """(P,) place of each part's feature in `fids`."""
    layers: Numbers
    """(P,) place of each part's CRS in `crs`."""
    read: int
    """Features in the layers."""
    ignored: int
    """Features left out because their value means nothing (`ignore`)."""
    without_geometry: tuple[int | str, ...]
    """Ids of features left out because their geometry is missing, empty or not a number."""
    _in_crs: dict[str, tuple[npt.NDArray[np.object_], shapely.STRtree]] = field(
        default_factory=dict, repr=False
    )

    def project(self, grid: RasterInfo) -> tuple[npt.NDArray[np.object_], shapely.STRtree]:
        """Return all parts in the CRS of an orthophoto and an index of them; kept for the next.

        Raises:
            ValueError: nothing leads to that CRS.
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
        """Return (n,) parts of one layer in another CRS, None for those that it cannot express."""
        if crs.equals(own, ignore_axis_order=True):
            return parts
        try:
            transformer = self._transformer(own, crs, path)
        except ProjError:
            raise ValueError(
                f"nothing leads from the CRS of {self.path} ({name_crs(own)}) to that of {path} "
                f"({name_crs(crs)}): give both a CRS that is on the Earth"
            ) from None
        moved = np.asarray(shapely.transform(parts, transformer.transform, interleaved=False))
        moved[~are_finite(moved)] = None
        return moved

    def _transformer(self, own: pyproj.CRS, crs: pyproj.CRS, path: Path) -> pyproj.Transformer:
        """Choose how to reproject (x is always east); warn where the best way lacks a file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says the same, at length
            group = TransformerGroup(own, crs, always_xy=True)
        if not group.best_available:
            logger.warning(
                "%s (%s) is not laid on %s (%s) in the best way, for which PROJ lacks a grid: it "
                "may lie metres off. Install it (`pyproj sync`), or export the file in that CRS",
                self.path,
                name_crs(own),
                path,
                name_crs(crs),
            )
        return pyproj.Transformer.from_crs(own, crs, always_xy=True)


def are_finite(shapes: npt.NDArray[np.object_]) -> Flags:
    """Say of which geometries all coordinates are numbers."""
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[owners[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def name_crs(crs: pyproj.CRS) -> str:
    """Name a CRS in a message: by its code where it has one."""
    code = crs.to_authority()
    return ":".join(code) if code else crs.name
