"""Cut orthophotos into tiles: blocks of GeoTIFFs, split by region."""

from pointcover.config.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pointcover.config.params import Params
from pointcover.datasets.inventory import read_inventory
from pointcover.labels import SPLITS
from pointcover.raster.raster_io import EIGHT_BIT
from pointcover.runtime.atomic_files import publish_folder, publish_json
from pointcover.runtime.parallel import map_in_order
from pointcover.text import shorten
from pointcover.tileset.tiles import Tile, TileSet, write_index, write_tile_set
from pointcover.tiling.cutting import Cutting, cut_orthophoto
from pointcover.tiling.splits import check_tile_size, read_tile_lists, split_regions

DATASET = Path("data/dataset/dataset.json")
TILES = Path("data/tiles")
METRICS = Path("metrics/tile.json")
logger = logging.getLogger(__name__)


def tile(params: Params) -> None:
    """Write data/tiles: images, dense masks, index.csv and tiles.json."""
    dataset = read_inventory(DATASET, Path(params.source))
    card, size_px = dataset.card, params.tile.size_px
    regions = [pair.region for pair in dataset.pairs]
    sides = read_tile_lists(card, dataset.folder)
    if sides is None:
        sides = split_regions(card, regions, params.tile.split_seed)
    check_tile_size(card, sides, regions, size_px, params.tile.downsample)
    cutting, faults = Cutting(), []
    with publish_folder(TILES) as out:
        cut = partial(
            cut_orthophoto,
            card=card,
            source=dataset.folder.absolute(),
            out=out.absolute(),
            sides=sides,
            size_px=size_px,
            downsample=params.tile.downsample,
        )
        for part in map_in_order(
            cut,
            dataset.pairs,
            params.machine,
            label="tiling",
            unit="orthophoto",
        ):
            if isinstance(part, Cutting):
                cutting.include(part)
            else:
                faults.append(part)
        if faults:
            raise ValueError("\n  - ".join([f"{len(faults)} orthophotos cannot be used:", *faults]))
        check_splits(cutting.tiles, sides)
        tile_set = TileSet(
            classes=card.class_table(),
            size_px=size_px,
            gsds_m=tuple(sorted(cutting.gsds_m)),
            mean=cutting.train.mean(),
            std=cutting.train.std(),
            value_range=card.value_range or EIGHT_BIT,
            bands=card.bands,
        )
        write_index(out / "index.csv", cutting.tiles, tile_set.classes.names)
        write_tile_set(out / "tiles.json", tile_set)
    report = cutting.report(tile_set.classes.names)
    publish_json(METRICS, report)
    for split in SPLITS:
        logger.info("%s: %d tiles of %d px", split, report[split]["tiles"], size_px)
    if (by := params.tile.downsample) > 1:
        logger.info(
            "each of their pixels is %d × %d of an orthophoto: tile.downsample: 1 keeps them all",
            by,
            by,
        )


def check_splits(tiles: Sequence[Tile], sides: Mapping[str, str]) -> None:
    """Check that every split has tiles, and that each region or tile on a list was found.

    Raises:
        ValueError: a split is empty, or something listed does not exist.
    """
    absent = sorted(sides.keys() - {tile.id for tile in tiles} - {tile.region for tile in tiles})
    if absent:
        raise ValueError(
            f"the card's `split` lists tiles that were not cut: {shorten(absent, 5)}. A "
            f"tile is called <orthophoto>_<k>, counted row by row: add the orthophotos, or mend "
            f"the lists or the card's `tile_px`"
        )
    empty = [split for split in SPLITS if all(tile.split != split for tile in tiles)]
    if empty:
        raise ValueError(f"{', '.join(empty)} got no tile: mend `split` in the card")


if __name__ == "__main__":
    run_stage(tile)
