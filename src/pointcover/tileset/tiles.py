"""The tile set on disk: its tiles, their index, and their common metadata."""

import csv
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pointcover.labels import (
    SPLITS,
    ClassTable,
    Split,
    check_class_name,
    format_colour,
    parse_colour,
)
from pointcover.raster.raster_io import RasterReader, Window
from pointcover.runtime.atomic_files import own_file, publish_csv, publish_json, read_json

WHITE: Final = 255
"""The largest value of a band."""

GSD_TOLERANCE: Final = 1.1
"""The factor by which a GSD may lie outside the range of those in training."""

_COLUMNS = ("tile", "orthophoto", "region", "split", "row_off", "col_off", "height", "width")
_PIXELS = "pixels_"


@dataclass(frozen=True)
class Tile:
    """One tile of an orthophoto; at its edge `height` and `width` may be smaller than the size."""

    id: str
    orthophoto: str
    region: str
    split: Split
    row_off: int
    col_off: int
    height: int
    width: int
    pixels: tuple[int, ...]
    """Labelled pixels by class id, in dense masks (data/tiles) or sparse ones (data/sparse)."""

    @property
    def extent(self) -> Window:
        """The tile's window in its orthophoto, cropped at the edge."""
        return Window(self.col_off, self.row_off, self.width, self.height)

    def window(self, size_px: int) -> Window:
        """Return the tile's window at full size, which may extend beyond the orthophoto's edge."""
        return Window(self.col_off, self.row_off, size_px, size_px)


@dataclass(frozen=True)
class TileSet:
    """Common metadata of tiles: classes, size, GSD, mean and std of train images by band."""

    classes: ClassTable
    size_px: int
    gsds_m: tuple[float, ...]
    """Every GSD that occurs, metres; empty where neither files nor card give one."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    value_range: tuple[float, float]
    bands: tuple[int, ...]
    """Band numbers of the source files, in the order of the tiles' bands."""

    def knows_gsd(self, gsd_m: float) -> bool:
        """Return whether a GSD lies in the range of those that occur, within 10 %.

        True if none is known.
        """
        if not self.gsds_m:
            return True
        return min(self.gsds_m) / GSD_TOLERANCE <= gsd_m <= max(self.gsds_m) * GSD_TOLERANCE

    def show_gsds(self) -> str:
        """Format the range of the GSDs, of which at least one is known: ``0.25 to 0.5 m``."""
        least, greatest = min(self.gsds_m), max(self.gsds_m)
        return f"{greatest:.4g} m" if len(self.gsds_m) == 1 else f"{least:.4g} to {greatest:.4g} m"

    def to_json(self) -> dict[str, Any]:
        """Return the contents of tiles.json, which are also a part of a model's JSON."""
        return {
            "classes": [
                {"name": name, "colour": format_colour(colour)}
                for name, colour in zip(self.classes.names, self.classes.colours, strict=True)
            ],
            "size_px": self.size_px,
            "gsds_m": list(self.gsds_m),
            "mean": list(self.mean),
            "std": list(self.std),
            "value_range": list(self.value_range),
            "bands": list(self.bands),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TileSet":
        """Make a tile set from the result of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the values do not describe one.
        """
        for key in ("gsds_m", "mean", "std", "value_range", "bands"):
            if not all(isinstance(value, int | float) for value in values[key]):
                raise TypeError(f"{key} is {values[key]!r}, wanted numbers")
        if not isinstance(values["size_px"], int):
            raise TypeError(f"size_px is {values['size_px']!r}, wanted a whole number")
        if not len(values["mean"]) == len(values["std"]) == len(values["bands"]) > 0:
            raise ValueError("mean, std and bands differ in their number, wanted one each a band")
        return cls(
            classes=ClassTable(
                names=tuple(check_class_name(entry["name"]) for entry in values["classes"]),
                colours=tuple(parse_colour(entry["colour"]) for entry in values["classes"]),
            ),
            size_px=values["size_px"],
            gsds_m=tuple(values["gsds_m"]),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            value_range=tuple(values["value_range"]),
            bands=tuple(values["bands"]),
        )


def write_tile_set(path: Path, tile_set: TileSet) -> None:
    """Write tiles.json."""
    publish_json(path, tile_set.to_json())


def read_tile_set(path: Path) -> TileSet:
    """Read tiles.json.

    Raises:
        FileNotFoundError: the stage that writes it did not run.
        ValueError: it is damaged.
    """
    with own_file(path):
        return TileSet.from_json(read_json(path))


def write_index(path: Path, tiles: Iterable[Tile], names: Sequence[str]) -> None:
    """Write one row a tile, with a column of labelled pixels for each class name."""
    publish_csv(
        path,
        [*_COLUMNS, *(_PIXELS + name for name in names)],
        (
            [
                tile.id,
                tile.orthophoto,
                tile.region,
                tile.split,
                tile.row_off,
                tile.col_off,
                tile.height,
                tile.width,
                *tile.pixels,
            ]
            for tile in tiles
        ),
    )


def read_index(path: Path) -> list[Tile]:
    """Read an index.csv.

    Raises:
        FileNotFoundError: the stage that writes it did not run.
        ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: run `dvc repro`, which runs the stage that writes it"
        )
    with own_file(path), path.open(encoding="utf-8", newline="") as file:
        tiles = [_read_tile(row) for row in csv.DictReader(file)]
        if not tiles:
            raise ValueError("it lists no tile")
        return tiles


def _read_tile(row: dict[str, str]) -> Tile:
    if row["split"] not in SPLITS:
        raise ValueError(f"split is {row['split']!r}, wanted one of {', '.join(SPLITS)}")
    return Tile(
        id=row["tile"],
        orthophoto=row["orthophoto"],
        region=row["region"],
        split=row["split"],
        row_off=int(row["row_off"]),
        col_off=int(row["col_off"]),
        height=int(row["height"]),
        width=int(row["width"]),
        pixels=tuple(int(row[key]) for key in row if key.startswith(_PIXELS)),
    )


def raster_path(folder: Path, split: str, orthophoto: str) -> Path:
    """Return the path of an orthophoto's raster of a split, below images, masks or clicks."""
    return folder / split / f"{orthophoto}.tif"


def begin_around(offset: int, length: int, side_px: int, total: int) -> int:
    """Return where the side of a square with a tile at its centre begins, moved inward.

    Args:
        offset: of the tile's first row or column.
        length: of the tile.
        side_px: of the square.
        total: rows or columns of the orthophoto.
    """
    return max(0, min(offset - (side_px - length) // 2, total - side_px))


class TileReader:
    """Reads tiles out of the rasters of one folder: images, masks or clicks of a tile set.

    Each process opens files at first use, and closes the least recently used ones when many are
    open.
    """

    MAX_OPEN = 128

    def __init__(self, folder: Path, size_px: int, fill: int) -> None:
        """Store the folder, which has one folder a split; `fill` is the value beyond an edge."""
        self.folder = folder
        self.size_px = size_px
        self.fill = fill
        self._readers: OrderedDict[Path, RasterReader] = OrderedDict()

    def read(self, tile: Tile) -> npt.NDArray[np.uint8]:
        """Read a tile at full size: (bands, size_px, size_px) uint8, padded beyond an edge.

        Raises:
            FileNotFoundError: the raster is missing.
            ValueError: the raster is damaged.
        """
        values = self._reader(tile).read(tile.window(self.size_px), fill=self.fill)
        return np.asarray(values, np.uint8)

    def read_around(
        self, tile: Tile, side_px: int | None = None
    ) -> tuple[npt.NDArray[np.uint8], int, int]:
        """Read a square with the tile at its centre, moved inward from the orthophoto's edge.

        So an edge tile is read with its surroundings instead of padding: predictions for a strip of
        20 px are poor, and a network learns the padding. The square is smaller if the orthophoto
        is.

        Args:
            tile: what to read around.
            side_px: of the square, at least size_px, which it is by default.

        Returns:
            (bands, up to side_px, up to side_px) uint8, and the row and column in it at which the
            tile begins.

        Raises:
            FileNotFoundError: the raster is missing.
            ValueError: the raster is damaged.
        """
        reader = self._reader(tile)
        height, width = reader.dataset.height, reader.dataset.width
        side_px = side_px or self.size_px
        top = begin_around(tile.row_off, tile.height, side_px, height)
        left = begin_around(tile.col_off, tile.width, side_px, width)
        size = min(side_px, height - top), min(side_px, width - left)
        values = reader.read(Window(left, top, size[1], size[0]))
        return np.asarray(values, np.uint8), tile.row_off - top, tile.col_off - left

    def _reader(self, tile: Tile) -> RasterReader:
        path = raster_path(self.folder, tile.split, tile.orthophoto)
        if path not in self._readers:
            self._readers[path] = RasterReader(path)
            if len(self._readers) > self.MAX_OPEN:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(path)
        return self._readers[path]
