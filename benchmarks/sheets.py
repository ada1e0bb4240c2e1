"""One orthophoto with its mask, laid out in tiles as the stages write them, for benchmarks."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointcover.labels import ClassTable, count_pixels
from pointcover.raster.grids import north_up
from pointcover.raster.raster_io import (
    GeoTiffProfile,
    RasterReader,
    Window,
    write_geotiff,
    write_mask,
)
from pointcover.tileset.tiles import Tile, raster_path

Raster = npt.NDArray[np.uint8]


def write_sheet(
    folder: Path, image: Raster, mask: Raster, size_px: int, classes: ClassTable
) -> list[Tile]:
    """Write (bands, H, W) and (H, W) below folder/images and folder/masks; give the train tiles.

    Height and width are multiples of size_px.
    """
    bands, height, width = image.shape
    windows = [
        Window(col, row, size_px, size_px)
        for row in range(0, height, size_px)
        for col in range(0, width, size_px)
    ]
    path = raster_path(folder / "images", "train", "sheet")
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
        for window in windows:
            rows, cols = window.toslices()
            out.write(np.ascontiguousarray(image[:, rows, cols]), window)
    tiles = []
    like = RasterReader(path).info()
    masks = raster_path(folder / "masks", "train", "sheet")
    with write_mask(masks, like=like, block_px=size_px, classes=classes) as out:
        for number, window in enumerate(windows):
            rows, cols = window.toslices()
            part = np.ascontiguousarray(mask[rows, cols])
            out.write(part[None], window)
            pixels = count_pixels(part, len(classes))
            row, col = int(window.row_off), int(window.col_off)
            tiles.append(
                Tile(str(number), "sheet", "r", "train", row, col, size_px, size_px, pixels)
            )
    return tiles
