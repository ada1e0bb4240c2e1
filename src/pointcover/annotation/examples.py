"""Example panels: image, dense mask, clicks and sparse mask of a few tiles side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pointcover.figures import draw_panel, spread_evenly, view_clicks, view_image, view_mask
from pointcover.labels import IGNORE_INDEX
from pointcover.tileset.tiles import Tile, TileReader, TileSet

SHOWN_TILES: Final = 3


def draw_examples(
    out: Path, rasters: Mapping[str, Path], tile_set: TileSet, tiles: Sequence[Tile]
) -> None:
    """Draw a panel for each of a few train tiles.

    Args:
        out: the folder to write PNGs to, named by the tile's id.
        rasters: the folder of each view's rasters, by the view's name. The view "image" shows
            colours, "clicks" enlarged labels, all others masks.
        tile_set: what all tiles have in common.
        tiles: to choose from.
    """
    size_px, classes = tile_set.size_px, tile_set.classes
    readers = {
        name: TileReader(folder, size_px, fill=0 if name == "image" else IGNORE_INDEX)
        for name, folder in rasters.items()
    }
    train = [tile for tile in tiles if tile.split == "train"]
    for tile in spread_evenly(train, SHOWN_TILES):
        views = []
        for name, reader in readers.items():
            values = reader.read(tile)
            if name == "image":
                views.append((name, view_image(values)))
            elif name == "clicks":
                views.append((name, view_clicks(values[0], classes)))
            else:
                views.append((name, view_mask(values[0], classes)))
        draw_panel(out / f"{tile.id}.png", tile.id, views, classes)
