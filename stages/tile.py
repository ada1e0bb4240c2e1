"""Cut orthophotos into tiles, the blocks of GeoTIFFs, and split them by region."""

from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.config.stage import run_stage

if TYPE_CHECKING:
    from pointcover.config.params import Params

DATASET = Path("data/dataset/dataset.json")
TILES = Path("data/tiles")
METRICS = Path("metrics/tile.json")


def tile(params: "Params") -> None:
    """Write data/tiles: images, dense masks, index.csv and tiles.json."""
    from pointcover.datasets.inventory import read_inventory
    from pointcover.runtime.atomic_files import publish_folder, publish_json
    from pointcover.tiling.cutting import CuttingPlan
    from pointcover.tiling.overlaps import check_overlaps
    from pointcover.tiling.splits import check_splits, choose_splits
    from pointcover.tiling.tile_set import cut_orthophotos, log_tiles, write_tiles

    dataset = read_inventory(DATASET, Path(params.source))
    splits = choose_splits(dataset, params.tile)
    check_overlaps(dataset, splits)
    with publish_folder(TILES) as out:
        folders = (dataset.folder.absolute(), out.absolute())
        plan = CuttingPlan(dataset.card, *folders, splits, params.tile)
        cutting = cut_orthophotos(plan, dataset.pairs, params.machine)
        check_splits(cutting.tiles, splits)
        write_tiles(out, cutting, dataset.card, params.tile)
    publish_json(METRICS, cutting.summary(dataset.card.class_table().names))
    log_tiles(cutting, dataset.card, params.tile)


if __name__ == "__main__":
    run_stage(tile)
