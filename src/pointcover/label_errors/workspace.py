"""Point labels of the pipeline's workspace, after `dvc repro`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pointcover.image_labels.source import LabelSource, LabelTile
from pointcover.labels import IGNORE_INDEX, ClassTable, Mask
from pointcover.raster.raster_io import RasterInfo, RasterReader
from pointcover.tileset.dataset import TileDataset
from pointcover.tileset.tiles import Tile, TileReader, raster_path, read_index, read_tile_set
from pointcover.training.classifiers.fitter import read_tiles
from pointcover.training.classifiers.labelled_pixels import LabelledWindow

CLICKS = "clicks"


def find_workspace_labels(tiles: Path, sparse: Path) -> LabelSource:
    """Find the point labels of all splits; propagated labels are not read.

    Args:
        tiles: the output folder of the tile stage.
        sparse: the output folder of the annotate stage.

    Raises:
        FileNotFoundError: a stage has not run.
        ValueError: a file is damaged, or there is no point label.
    """
    tile_set = read_tile_set(tiles / "tiles.json")
    clicks = TileReader(sparse / CLICKS, tile_set.size_px, IGNORE_INDEX)
    grids: dict[Path, RasterInfo] = {}
    found: list[LabelTile] = []
    labelled: list[Tile] = []
    for tile in read_index(sparse / "index.csv"):
        mask = np.ascontiguousarray(clicks.read(tile)[0][: tile.height, : tile.width])
        if (mask == IGNORE_INDEX).all():
            continue
        _check_classes(sparse, mask, tile_set.classes)
        path = raster_path(tiles / "images", tile.split, tile.orthophoto)
        if path not in grids:
            grids[path] = RasterReader(path).info()
        labelled.append(tile)
        found.append(
            LabelTile(
                tile.id,
                tile.region,
                tile.orthophoto,
                tile.split,
                grids[path],
                tile.row_off,
                tile.col_off,
                mask,
            )
        )
    if not found:
        raise ValueError(f"{sparse / CLICKS} has no point labels: check `points`, and `dvc repro`")
    dataset = TileDataset(labelled, tiles / "images", sparse / CLICKS, tile_set.size_px)

    def windows(margin_px: int) -> Iterator[LabelledWindow]:
        return read_tiles(dataset, margin_px)

    return LabelSource(found, tile_set.classes, len(tile_set.bands), windows)


def _check_classes(sparse: Path, mask: Mask, classes: ClassTable) -> None:
    highest = int(mask[mask != IGNORE_INDEX].max())
    if highest >= len(classes):
        raise ValueError(
            f"{sparse / CLICKS} has labels of class {highest}, but there are {len(classes)} "
            f"classes: tiles and labels are from different runs. Run `dvc repro`"
        )
