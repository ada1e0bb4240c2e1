"""Simulate the annotator on train and val tiles, grow the clicks, and say what they cost."""

from pointcover.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pointcover.annotation_report import AnnotationReport
from pointcover.annotations import SAMPLERS, tile_generator
from pointcover.figures import draw_panel, spread_evenly, view_clicks, view_image, view_mask
from pointcover.growing import GROWERS
from pointcover.labels import IGNORE_INDEX, count_pixels
from pointcover.params import Params
from pointcover.publishing import publish_folder, publish_json
from pointcover.raster import RasterReader, Window, write_mask
from pointcover.tiles import (
    Tile,
    TileReader,
    TileSet,
    raster_path,
    read_index,
    read_tile_set,
    write_index,
)

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
METRICS = Path("metrics/annotate.json")
FIGURES = Path("metrics/annotate")
SHOWN_TILES = 3
logger = logging.getLogger(__name__)


def annotate(params: Params) -> None:
    """Write data/sparse: clicks, sparse masks and their index.csv; the test split gets none."""
    tile_set = read_tile_set(TILES / "tiles.json")
    classes, size_px = tile_set.classes, tile_set.size_px
    sample, grow = SAMPLERS[params.annotate.sampler], GROWERS[params.annotate.grower]
    dense_masks = TileReader(TILES / "masks", size_px, IGNORE_INDEX)
    tiles = [tile for tile in read_index(TILES / "index.csv") if tile.split != "test"]
    reports = {split: AnnotationReport(classes.names) for split in ("train", "val")}
    annotated: list[Tile] = []
    # Published lists put tiles of one orthophoto into several splits: a raster is written once.
    rasters: dict[tuple[str, str], list[Tile]] = {}
    for tile in tiles:
        rasters.setdefault((tile.split, tile.orthophoto), []).append(tile)
    progress = tqdm(
        rasters.items(), desc="annotating", unit="orthophoto", leave=False, disable=None
    )
    with publish_folder(SPARSE) as out:
        for (split, orthophoto), group in progress:
            like = RasterReader(raster_path(TILES / "masks", split, orthophoto)).info()
            write = partial(write_mask, like=like, block_px=size_px, classes=classes)
            with (
                write(raster_path(out / "clicks", split, orthophoto)) as click_writer,
                write(raster_path(out / "masks", split, orthophoto)) as mask_writer,
            ):
                for tile in group:
                    dense = dense_masks.read(tile)[0, : tile.height, : tile.width]
                    clicks = sample(dense, params.points, tile_generator(params.seed, tile.id))
                    grown = grow(clicks, distance_px=params.annotate.link_distance_px)
                    window = Window(tile.col_off, tile.row_off, tile.width, tile.height)
                    click_writer.write(clicks[np.newaxis], window)
                    mask_writer.write(grown[np.newaxis], window)
                    reports[split].add(dense, clicks, grown)
                    annotated.append(replace(tile, pixels=count_pixels(grown, len(classes))))
        write_index(out / "index.csv", annotated, classes.names)
    summary = {split: report.summary() for split, report in reports.items()}
    publish_json(METRICS, summary)
    draw_examples([tile for tile in annotated if tile.split == "train"], tile_set)
    for split, counts in summary.items():
        logger.info(
            "%s: %d clicks in %d tiles, %d grown pixels", split, counts["clicks"],
            counts["tiles"], counts["grown_pixels"],
        )  # fmt: skip


def draw_examples(tiles: list[Tile], tile_set: TileSet) -> None:
    """Draw what the annotator saw, clicked and got for a few tiles."""
    classes, size_px = tile_set.classes, tile_set.size_px
    images = TileReader(TILES / "images", size_px, fill=0)
    kinds = {
        "dense mask": TileReader(TILES / "masks", size_px, IGNORE_INDEX),
        "clicks": TileReader(SPARSE / "clicks", size_px, IGNORE_INDEX),
        "sparse mask": TileReader(SPARSE / "masks", size_px, IGNORE_INDEX),
    }
    with publish_folder(FIGURES) as out:
        for tile in spread_evenly(tiles, SHOWN_TILES):
            views = [("image", view_image(images.read(tile)))]
            for name, reader in kinds.items():
                view = view_clicks if name == "clicks" else view_mask
                views.append((name, view(reader.read(tile)[0], classes)))
            draw_panel(out / f"{tile.id}.png", tile.id, views, classes)


if __name__ == "__main__":
    run_stage(annotate)
