"""Hold the labelled features of a vector file, and reproject them to an orthophoto's CRS."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

from pointcover.raster.raster_io import RasterInfo
from pointcover.tileset.source_images import SourceImage

ORTHOPHOTO: Final = "orthophoto"
"""Column with the name of a feature's orthophoto. A feature with an empty value is placed on all
orthophotos that it lies on. So point labels written by pointcover are placed on the orthophoto of
their origin, even if another one overlaps it."""

SHOWN: Final = 10
"""Maximum number of feature ids, values or names in a message or summary."""

Numbers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labelled points, lines and polygons, in the CRSs of a file's layers, or in pixels."""

    path: Path
    crs: tuple[pyproj.CRS, ...]
    """The CRS of every layer that was read; none where coordinates are pixels."""
    fids: npt.NDArray[np.object_]
    """(N,) feature ids of the file; with several layers, texts `<layer>:<id>`."""
    class_ids: npt.NDArray[np.uint8]
    """(N,)."""
    orthophotos: npt.NDArray[np.object_]
    """(N,) name of the feature's orthophoto, "" for all that it lies on."""
    parts: npt.NDArray[np.object_]
    """(P,) points, lines and polygons; a multi-geometry has several parts."""
    owners: Numbers
    """(P,) index of each part's feature in `fids`."""
    layers: Numbers
    """(P,) index of each part's CRS in `crs`."""
    read: int
    """The number of features in the layers."""
    ignored: int
    """The number of features left out because of their value; see `VectorSettings.ignore`."""
    without_geometry: tuple[int | str, ...]
    """Ids of features left out because their geometry is missing, empty or not finite."""
    images: Mapping[str, SourceImage] | None = None
    """Where coordinates are columns and rows: the images by orthophoto, of whose files they are.
    Each feature then names its orthophoto."""
    _in_crs: dict[str, tuple[npt.NDArray[np.object_], shapely.STRtree]] = field(
        default_factory=dict, repr=False
    )

    def project(self, grid: RasterInfo) -> tuple[npt.NDArray[np.object_], shapely.STRtree]:
        """Return (P,) parts in the CRS of an orthophoto, and a spatial index; both are cached.

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
                f"of {path} ({name_crs(crs)}): assign a CRS of the Earth to both"
            ) from None
        moved = np.asarray(shapely.transform(parts, transformer.transform, interleaved=False))
        moved[~are_finite(moved)] = None
        return moved

    def _transformer(self, own: pyproj.CRS, crs: pyproj.CRS, path: Path) -> pyproj.Transformer:
        """Return a transformation (x is east); warn if the best one lacks a file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the warning below replaces it
            group = TransformerGroup(own, crs, always_xy=True)
        if not group.best_available:
            logger.warning(
                "%s (%s) is not placed on %s (%s) by the best transformation, for which PROJ lacks "
                "a grid: positions may be wrong by metres. Install the grid (`pyproj sync`), or "
                "export the file in that CRS",
                self.path,
                name_crs(own),
                path,
                name_crs(crs),
            )
        return pyproj.Transformer.from_crs(own, crs, always_xy=True)


def are_finite(shapes: npt.NDArray[np.object_]) -> Flags:
    """Return (n,) bool: whether all coordinates of a geometry are finite."""
    coordinates, owners = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[owners[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def name_crs(crs: pyproj.CRS) -> str:
    """Return the code of a CRS for messages, or its name if it has none."""
    code = crs.to_authority()
    return ":".join(code) if code else crs.name


def explain_invalid(shape: Any) -> str:
    """Return why a geometry is invalid, in GEOS's words; coordinates may be as large as 1e308."""
    with np.errstate(over="ignore", invalid="ignore"):
        return str(shapely.is_valid_reason(shape))
