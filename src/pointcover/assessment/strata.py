"""Strata: the map's classes, those of a file, or none."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import geopandas
import numpy as np
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.features import rasterize
from rasterio.transform import Affine

from pointcover.assessment.class_maps import ClassMap, Units, commonest, read_onto
from pointcover.labels import IGNORE_INDEX, Mask
from pointcover.raster.raster_io import SIGNATURES, RasterReader, Window
from pointcover.vectors.paths import vector_path

COLUMN: Final = "stratum"
"""The column of a vector file that names the stratum of a polygon."""

Kind = Literal["classes", "file", "none"]


class Strata(ABC):
    """Where each unit of a map belongs."""

    names: Sequence[str]
    kind: Kind

    @abstractmethod
    def read(self, each: ClassMap, window: Window, units: Units) -> Mask:
        """Return the (H, W) stratum of each unit of a window, IGNORE_INDEX where it has none."""


class ClassStrata(Strata):
    """The classes of the map are the strata."""

    kind = "classes"

    def __init__(self, names: Sequence[str]) -> None:
        """Take the names of the classes."""
        self.names = names

    def read(self, each: ClassMap, window: Window, units: Units) -> Mask:
        """Return the class of each unit."""
        return units.ids


class NoStrata(Strata):
    """One stratum holds all: a simple random sample."""

    kind = "none"
    names = ("all",)

    def read(self, each: ClassMap, window: Window, units: Units) -> Mask:
        """Return 0 where a unit has data."""
        return np.where(units.ids == IGNORE_INDEX, IGNORE_INDEX, 0).astype(np.uint8)


class FileStrata(Strata):
    """Strata of a raster of ids, or of polygons with a column `stratum`."""

    kind = "file"

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it can be read neither as a raster nor as polygons.
        """
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist, wanted a file of strata")
        with path.open("rb") as file:
            start = file.read(8)
        self._raster: RasterReader | None = None
        self._in_crs: dict[str, geopandas.GeoDataFrame] = {}
        if any(start.startswith(sign) for sign in SIGNATURES):
            self._raster = RasterReader(path)
            self.names = self._raster_names(self._raster)
        else:
            self._polygons = self._read_polygons()
            self.names = tuple(sorted(set(self._polygons[COLUMN])))
        if len(self.names) > IGNORE_INDEX:
            raise ValueError(
                f"{path} has {len(self.names)} strata, at most {IGNORE_INDEX} are read"
            )

    def read(self, each: ClassMap, window: Window, units: Units) -> Mask:
        """Return the stratum of each unit; of a block, that of most of its pixels.

        Raises:
            ValueError: a unit with data lies in no stratum.
        """
        if self._raster is not None:
            ids = read_onto(self._raster, each.info, window)
        else:
            ids = self._rasterize(each, window)
        if each.block_px > 1:
            ids = commonest(ids, each.block_px)
        ids = np.where(units.ids == IGNORE_INDEX, IGNORE_INDEX, ids).astype(np.uint8)
        missing = int(((ids == IGNORE_INDEX) & (units.ids != IGNORE_INDEX)).sum())
        if missing:
            raise ValueError(
                f"{self.path} has no stratum for {missing} units of {each.path} in rows "
                f"{int(window.row_off)} to {int(window.row_off + window.height)}, so no point "
                f"could lie there: extend its strata over the whole map"
            )
        return ids

    def _raster_names(self, reader: RasterReader) -> tuple[str, ...]:
        info = reader.info()
        if info.dtype != "uint8":
            raise ValueError(f"{self.path} is of {info.dtype}, wanted uint8 ids of strata")
        tags = reader.dataset.tags()
        return tuple(tags.get(f"CLASS_{number}", f"stratum {number}") for number in range(255))

    def _read_polygons(self) -> geopandas.GeoDataFrame:
        try:
            table = geopandas.read_file(vector_path(self.path))
        except (DataSourceError, DataLayerError) as error:
            raise ValueError(
                f"{self.path} is neither a raster nor a vector file ({error}): wanted a GeoTIFF of "
                f"ids, or polygons with a column {COLUMN!r}"
            ) from None
        if COLUMN not in table or table.crs is None or not len(table):
            raise ValueError(
                f"{self.path} has {len(table)} features, columns {', '.join(map(str, table))} and "
                f"the CRS {table.crs}: wanted polygons with a column {COLUMN!r} and a CRS"
            )
        table[COLUMN] = table[COLUMN].astype(str)
        return table

    def _rasterize(self, each: ClassMap, window: Window) -> Mask:
        if each.crs not in self._in_crs:
            self._in_crs[each.crs] = self._polygons.to_crs(each.crs)
        here = self._in_crs[each.crs]
        place = each.info.transform @ Affine.translation(window.col_off, window.row_off)
        shapes = [
            (shape, self.names.index(name))
            for shape, name in zip(here.geometry, here[COLUMN], strict=True)
            if shape is not None and not shape.is_empty
        ]
        size = int(window.height), int(window.width)
        return np.asarray(
            rasterize(shapes, size, fill=IGNORE_INDEX, transform=place, dtype="uint8"), np.uint8
        )
