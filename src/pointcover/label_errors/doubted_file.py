"""Write doubted labels as points, to look at in QGIS."""

import warnings
from pathlib import Path
from typing import Final

import geopandas
import numpy as np
import pyproj
import shapely

from pointcover.label_errors.check import CheckedLabels
from pointcover.label_errors.labels import Labels
from pointcover.raster.raster_io import RasterInfo
from pointcover.vectors.qgis_styles import style_points
from pointcover.vectors.write import publish_points

LAYER: Final = "doubted"
DECIMALS: Final = 4


def write_doubted(path: Path, checked: CheckedLabels) -> dict[str, int]:
    """Write doubted labels as points at the centres of pixels, in the colours of their classes.

    Columns: rank from 1, the surest first; image, split and tile; `class`, as given; `suggested`,
    the most probable class; p_given and p_suggested, their probabilities; `p: NAME`, those of all
    classes; pixels, of the label; row and col, in the image or in the tile stage's.

    Points of images without CRS and transform lie at column and minus row of the source image,
    where QGIS shows it.

    Args:
        path: of the .gpkg; a .qml of its style is written beside it.
        checked: labels.

    Returns:
        the number of points by layer; there is one layer for each CRS.

    Raises:
        ValueError: no label is doubted.
        OSError: the disk is full, or the file does not read back as written.
    """
    if not checked.doubted:
        raise ValueError(f"no label is doubted, so {path} would have no points")
    by_crs: dict[str, list[int]] = {}
    for rank, number in enumerate(checked.doubted):
        grid = _grid(checked, number)
        by_crs.setdefault(grid.crs.to_wkt() if grid.crs else "", []).append(rank)
    tables = [_table(checked, wkt, ranks) for wkt, ranks in by_crs.items()]
    style = style_points(checked.source.classes, "class")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        return publish_points(path, LAYER, tables, style)


def _grid(checked: CheckedLabels, number: int) -> RasterInfo:
    return checked.source.tiles[int(checked.labels.tiles[number])].grid


def _table(checked: CheckedLabels, wkt: str, ranks: list[int]) -> geopandas.GeoDataFrame:
    labels, names = checked.labels, checked.source.classes.names
    chosen = np.array(checked.doubted)[ranks]
    tiles = [checked.source.tiles[place] for place in labels.tiles[chosen]]
    given = labels.class_ids[chosen]
    suggested = np.array(checked.suggested)[ranks]
    found = checked.probabilities[chosen].round(DECIMALS)
    each = np.arange(len(chosen))
    columns = {
        "rank": np.array(ranks) + 1,
        "image": [tile.image for tile in tiles],
        "class": np.array(names, object)[given],
        "suggested": np.array(names, object)[suggested],
        "p_given": found[each, given],
        "p_suggested": found[each, suggested],
        "split": [tile.split for tile in tiles],
        "tile": [tile.id for tile in tiles],
        "pixels": labels.sizes[chosen],
        "row": labels.rows[chosen],
        "col": labels.cols[chosen],
    } | {f"p: {name}": found[:, class_id] for class_id, name in enumerate(names)}
    places = [_place(_grid(checked, number), labels, number) for number in chosen.tolist()]
    crs = pyproj.CRS.from_wkt(wkt) if wkt else None
    return geopandas.GeoDataFrame(columns, geometry=shapely.points(places), crs=crs)


def _place(grid: RasterInfo, labels: Labels, number: int) -> tuple[float, float]:
    """Return x and y of a label; QGIS shows images without any place below y = 0."""
    x, y = grid.transform @ (labels.cols[number] + 0.5, labels.rows[number] + 0.5)
    return (x, -y) if grid.crs is None and grid.transform.e > 0 else (x, y)
