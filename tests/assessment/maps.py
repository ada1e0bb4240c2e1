"""Small class maps, and labels for their samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import rasterio
from rasterio.transform import from_origin

from tests.imagery import write_raster

NAMES = ("land", "water", "road")


def draw_ids(height: int = 60, width: int = 80, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise of three classes, and some pixels without data."""
    ids = np.array([0, 0, 0, 0, 1, 1, 2, 255], np.uint8)
    return np.random.default_rng(seed).choice(ids, (height, width))


def write_map(path: Path, ids: npt.NDArray[np.uint8], **options: Any) -> Path:
    """Write class ids as `predict` leaves them: names in tags, 255 without data, in UTM."""
    names = options.pop("names", NAMES)
    place = from_origin(options.pop("x", 500_000), options.pop("y", 600_000), 10, 10)
    options = {"crs": "EPSG:2180", "transform": place, "nodata": 255} | options
    write_raster(path, ids, **options)
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{f"CLASS_{number}": name for number, name in enumerate(names)})
    return path


def label(path: Path, choose: Callable[[int, float, float], str]) -> None:
    """Fill in the class of every point of a sample, by its id, x and y, as QGIS does: in place."""
    for layer, _ in pyogrio.list_layers(path):
        if not str(layer).startswith("sample"):
            continue
        table = pyogrio.read_dataframe(path, layer=layer)
        table["class"] = [
            choose(int(number), shape.x, shape.y)
            for number, shape in zip(table["id"], table.geometry, strict=True)
        ]
        pyogrio.write_dataframe(table, path, layer=layer, driver="GPKG")


def truth_of(*maps: Path) -> Callable[[int, float, float], str]:
    """Label each point with the class that the map under it says: all are right."""

    def choose(_number: int, x: float, y: float) -> str:
        for path in maps:
            with rasterio.open(path) as file:
                row, col = file.index(x, y)
                if 0 <= row < file.height and 0 <= col < file.width:
                    value = int(file.read(1)[row, col])
                    if value != 255:
                        return NAMES[value]
        raise AssertionError(f"no map at {x}, {y}")

    return choose
