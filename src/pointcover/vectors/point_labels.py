"""Collect point labels from rasters, in pixels of the tiles, orthophoto by orthophoto."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.raster_io import RasterInfo, RasterReader
from pointcover.tileset.source_images import SourceImage
from pointcover.tileset.tiles import Tile, raster_path
from pointcover.vectors.formats.base import ImagePoints


@dataclass(frozen=True)
class PointLabels:
    """Where point labels are, and how many of them may be written."""

    tiles: Iterable[Tile]
    """With the labels to write."""
    clicks: Path
    """The folder with rasters of point labels of all splits, data/sparse/clicks."""
    classes: ClassTable
    limit: int
    """Maximum number of points."""


@dataclass(frozen=True, eq=False)
class OrthophotoPoints:
    """The point labels of one orthophoto, at the centres of pixels of the tiles."""

    grid: RasterInfo
    """Of the rasters of point labels."""
    tiles: npt.NDArray[np.object_]
    """(n,) the tile of each point."""
    columns: npt.NDArray[np.float64]
    """(n,) in pixels of the grid, as the others."""
    rows: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.uint8]

    @property
    def orthophoto(self) -> str:
        """The name of the orthophoto."""
        return str(self.tiles[0].orthophoto)

    def in_crs(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return x and y in the CRS of the orthophoto."""
        x, y = self.grid.transform @ (self.columns, self.rows)
        return x, y

    def in_pixels(self, image: SourceImage) -> ImagePoints:
        """Return the points in pixels of the image's file."""
        return ImagePoints(
            image=image,
            columns=self.columns * image.downsample,
            rows=self.rows * image.downsample,
            class_ids=self.class_ids,
            splits=np.array([tile.split for tile in self.tiles], object),
            tiles=np.array([tile.id for tile in self.tiles], object),
        )


def collect_points(labels: PointLabels) -> list[OrthophotoPoints]:
    """Collect point labels, in the order of the tiles; orthophotos without any are left out.

    Raises:
        ValueError: there are more than the limit or none, or the class of a label is not in the
            table.
        FileNotFoundError: a raster of point labels is missing.
    """
    groups: dict[str, list[Tile]] = {}
    for tile in labels.tiles:
        groups.setdefault(tile.orthophoto, []).append(tile)
    found, total = [], 0
    for group in groups.values():
        points = _collect(labels, group, labels.limit - total)
        if points is not None:
            found.append(points)
            total += len(points.class_ids)
    if not total:
        raise ValueError(f"{labels.clicks} has no clicks: check `points`, and run `dvc repro`")
    return found


def _collect(labels: PointLabels, tiles: list[Tile], limit: int) -> OrthophotoPoints | None:
    """Collect the points of one orthophoto, which may be in several splits."""
    readers = {
        split: RasterReader(raster_path(labels.clicks, split, tiles[0].orthophoto))
        for split in dict.fromkeys(tile.split for tile in tiles)
    }
    parts: list[tuple[Tile, npt.NDArray[np.intp], npt.NDArray[np.intp], Any]] = []
    count = 0
    for tile in tiles:
        reader = readers[tile.split]
        mask = reader.read(tile.extent, fill=IGNORE_INDEX)[0]
        rows, cols = np.nonzero(mask != IGNORE_INDEX)
        class_ids = mask[rows, cols]
        if class_ids.size and class_ids.max() >= len(labels.classes):
            raise ValueError(
                f"{reader.path} has clicks of class {class_ids.max()}, but there are "
                f"{len(labels.classes)} classes: tiles and clicks are from different runs. Run "
                f"`dvc repro`"
            )
        count += len(class_ids)
        if count > limit:
            raise ValueError(
                f"there are more than {labels.limit} clicks, with which a GIS is slow; the rasters "
                f"in {labels.clicks} hold the same. Raise --limit to write all"
            )
        parts.append((tile, tile.row_off + rows, tile.col_off + cols, class_ids))
    grid = readers[tiles[0].split].info()
    for reader in readers.values():
        reader.close()
    if not count:
        return None
    whose = np.empty(len(parts), object)
    whose[:] = [tile for tile, *_ in parts]
    return OrthophotoPoints(
        grid=grid,
        tiles=np.repeat(whose, [len(ids) for *_, ids in parts]),
        columns=np.concatenate([cols for _, _, cols, _ in parts]) + 0.5,
        rows=np.concatenate([rows for _, rows, _, _ in parts]) + 0.5,
        class_ids=np.concatenate([ids for *_, ids in parts]),
    )
