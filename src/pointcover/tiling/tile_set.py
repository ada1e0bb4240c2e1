"""Make a tile set: cut all orthophotos of a dataset, and write its index and metadata."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pointcover.datasets.card import DatasetCard, Pair
from pointcover.labels import SPLITS
from pointcover.raster.raster_io import EIGHT_BIT
from pointcover.runtime.parallel import map_in_order
from pointcover.runtime.settings import MachineSettings
from pointcover.text import shorten
from pointcover.tileset.source_images import write_source_images
from pointcover.tileset.tiles import TileSet, write_index, write_tile_set
from pointcover.tiling.cutting import Cutting, CuttingPlan, try_to_cut
from pointcover.tiling.settings import TileSettings

logger = logging.getLogger(__name__)


def cut_orthophotos(plan: CuttingPlan, pairs: Sequence[Pair], machine: MachineSettings) -> Cutting:
    """Cut all orthophotos of a dataset in parallel.

    Raises:
        ValueError: orthophotos cannot be used; one message lists all errors.
        OSError: the disk is full.
    """
    cutting, faults = Cutting(), []
    for part in map_in_order(
        partial(try_to_cut, plan),
        pairs,
        machine,
        label="tiling",
        unit="orthophoto",
    ):
        if isinstance(part, Cutting):
            cutting.include(part)
        else:
            faults.append(part)
    if faults:
        raise ValueError("\n  - ".join([f"{len(faults)} orthophotos cannot be used:", *faults]))
    return cutting


def write_tiles(out: Path, cutting: Cutting, card: DatasetCard, settings: TileSettings) -> None:
    """Write index.csv, tiles.json and images.jsonl.

    Raises:
        ValueError: no pixel of the train split holds data.
    """
    tile_set = TileSet(
        classes=card.class_table(),
        size_px=settings.size_px,
        gsds_m=tuple(sorted(cutting.gsds_m)),
        mean=cutting.train.mean(),
        std=cutting.train.std(),
        value_range=card.value_range or EIGHT_BIT,
        bands=card.bands,
    )
    write_index(out / "index.csv", cutting.tiles, tile_set.classes.names)
    write_tile_set(out / "tiles.json", tile_set)
    write_source_images(out, cutting.images)


def log_tiles(cutting: Cutting, card: DatasetCard, settings: TileSettings) -> None:
    """Log the number of tiles by split, the orthophotos without data, and warnings."""
    for warning in dict.fromkeys(cutting.warnings):
        logger.warning("%s", warning)
    _log_absent(cutting, card)
    if cutting.no_data:
        parts = (f"{name} {100 * part:.1f} %" for name, part in cutting.no_data.items())
        logger.info("without data: %s", shorten(parts, 20))
    for split in SPLITS:
        count = sum(tile.split == split for tile in cutting.tiles)
        logger.info("%s: %d tiles of %d px", split, count, settings.size_px)
    if (by := settings.downsample) > 1:
        logger.info(
            "each pixel covers %d × %d pixels of an orthophoto: tile.downsample: 1 keeps them all",
            by,
            by,
        )


def _log_absent(cutting: Cutting, card: DatasetCard) -> None:
    """Log the classes that no mask has, as where ids begin with 1 and the card's with 0."""
    pixels = [sum(counts) for counts in zip(*(tile.pixels for tile in cutting.tiles), strict=True)]
    names = card.class_table().names
    absent = [name for name, count in zip(names, pixels, strict=True) if not count]
    if absent and any(pixels):
        logger.warning(
            "no mask has a pixel of class %s: check `classes` in the card if some should, since "
            "all labels may be shifted by one (a class without `value` has its place as id, from "
            "0)",
            shorten(absent),
        )
