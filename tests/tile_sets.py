"""Tile sets that tests write: rasters in the folders in which a TileReader looks for them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from pointcover.labels import IGNORE_INDEX, ClassTable, Split, count_pixels
from pointcover.raster.grids import north_up
from pointcover.raster.raster_io import GeoTiffProfile, RasterReader, write_geotiff, write_mask
from pointcover.tileset.tiles import Tile, raster_path

Array = npt.NDArray[np.uint8]

CLASSES = ClassTable(("dark", "bright"), ((20, 40, 60), (250, 240, 90)))


def lay_grid(height: int, width: int, size_px: int) -> list[Window]:
    """Cover a raster with windows of size_px, row by row; those at the far edges are smaller."""
    return [
        Window(col, row, min(size_px, width - col), min(size_px, height - row))
        for row in range(0, height, size_px)
        for col in range(0, width, size_px)
    ]


def write_orthophoto(
    folder: Path, name: str, image: Array, mask: Array, size_px: int, split: Split = "train"
) -> list[Tile]:
    """Write (bands, H, W) and (H, W) below folder/images and folder/masks; give their tiles."""
    bands, height, width = image.shape
    path = raster_path(folder / "images", split, name)
    with write_geotiff(
        path,
        GeoTiffProfile(
            height=height,
            width=width,
            bands=bands,
            block_px=size_px,
            crs=None,
            transform=north_up(0, 0, 0.25),
        ),
    ) as out:
        for window in lay_grid(height, width, size_px):
            rows, cols = window.toslices()
            out.write(np.ascontiguousarray(image[:, rows, cols]), window)
    like = RasterReader(path).info()
    tiles = []
    with write_mask(
        raster_path(folder / "masks", split, name), like=like, block_px=size_px, classes=CLASSES
    ) as out:
        for window in lay_grid(height, width, size_px):
            rows, cols = window.toslices()
            part = np.ascontiguousarray(mask[rows, cols])
            out.write(part[None], window)
            row, col = int(window.row_off), int(window.col_off)
            tiles.append(
                Tile(
                    f"{name}_{row}_{col}",
                    name,
                    name,
                    split,
                    row,
                    col,
                    int(window.height),
                    int(window.width),
                    count_pixels(part, 256),
                )
            )
    return tiles


def write_easy_tiles(
    folder: Path,
    count: int,
    *,
    split: Split = "train",
    size_px: int = 64,
    clicks: int = 200,
    seed: int = 0,
) -> list[Tile]:
    """Write tiles in which class 1 is bright and class 0 dark, with so many clicks in each."""
    generator = np.random.default_rng([seed, len(split)])
    tiles = []
    for number in range(count):
        dense = np.zeros((size_px, size_px), np.uint8)
        row, col = generator.integers(0, size_px // 2, 2)
        dense[row : row + size_px // 2, col : col + size_px // 2] = 1
        values = 70 + 110 * dense + generator.normal(0, 12, (3, size_px, size_px))
        mask = np.full_like(dense, IGNORE_INDEX)
        places = generator.choice(mask.size, clicks, replace=False)
        mask.ravel()[places] = dense.ravel()[places]
        image = values.clip(0, 255).astype(np.uint8)
        tiles += write_orthophoto(folder, f"{split}{number}", image, mask, size_px, split)
    return tiles
