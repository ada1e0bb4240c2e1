"""A sample as a GeoPackage: points to be labelled blind, and the design of the sample.

The points have no class of the map and no stratum. The design, which has the strata, is a table
that a GIS does not show.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import geopandas
import numpy as np
import numpy.typing as npt
import pydantic
import pyogrio
import pyproj
import shapely

from pointcover.assessment.class_maps import ClassMap
from pointcover.assessment.design import Design
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.text import shorten
from pointcover.vectors.paths import vector_path
from pointcover.vectors.qgis_styles import style_suggestions
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings
from pointcover.vectors.write import publish_points

LAYER: Final = "sample"
COLUMN: Final = "class"
ID: Final = "id"
TABLE: Final = "pointcover_design"
MOVED: Final = 1e-8
"""By what part of its coordinates a point may differ from where it was drawn."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """A sample that somebody labelled."""

    design: Design
    labels: Ids
    """(n,) class of each point of the design, IGNORE_INDEX where nobody said one."""

    @property
    def classes(self) -> ClassTable:
        """Return the classes that points may have."""
        return ClassTable(self.design.classes, self.design.colours)


def write_sample(path: Path, design: Design, maps: Sequence[ClassMap]) -> dict[str, int]:
    """Write the points of a sample, with an empty column `class` to be filled in.

    Args:
        path: the .gpkg to write; a .qml of its style lies beside it.
        design: of the sample.
        maps: that it was drawn from.

    Returns:
        How many points each layer has; there is one a CRS.

    Raises:
        ValueError: the name does not end in .gpkg.
        OSError: the disk is full, or the file does not read back as written.
    """
    if path.suffix != ".gpkg":
        raise ValueError(f"{path} does not end in .gpkg: samples are written as a GeoPackage")
    by_crs: dict[pyproj.CRS, list[int]] = {}
    for place, point in enumerate(design.points):
        crs = pyproj.CRS.from_wkt(maps[point.map].crs)
        by_crs.setdefault(crs, []).append(place)
    tables = [_table(design, places, crs) for crs, places in by_crs.items()]
    style = style_suggestions(ClassTable(design.classes, design.colours), COLUMN)
    return publish_points(path, LAYER, tables, style, partial(_add_design, design))


def _add_design(design: Design, path: Path) -> None:
    """Add the design of a sample to its GeoPackage."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE {TABLE} (design TEXT NOT NULL)")
        database.execute(f"INSERT INTO {TABLE} VALUES (?)", [design.model_dump_json()])


def _table(design: Design, places: Sequence[int], crs: pyproj.CRS) -> geopandas.GeoDataFrame:
    points = [design.points[place] for place in places]
    side = design.block_px
    unit = "pixel" if side == 1 else f"block of {side} x {side} pixels"
    chances = [design.strata[point.stratum] for point in points]
    return geopandas.GeoDataFrame(
        {
            COLUMN: ["" for _ in points],
            ID: [point.id for point in points],
            "unit": [unit for _ in points],
            "map": [design.maps[point.map].name for point in points],
            "inclusion_probability": [one.points / one.units for one in chances],
        },
        geometry=[shapely.Point(point.x, point.y) for point in points],
        crs=crs,
    )


def read_design(path: Path) -> Design:
    """Read the design of a sample.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no sample, or its design is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, wanted the file that `pointcover sample` wrote"
        )
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            (text,) = database.execute(f"SELECT design FROM {TABLE}").fetchone()
        return Design.model_validate(json.loads(text))
    except (sqlite3.Error, TypeError):
        raise ValueError(
            f"{path} has no design of a sample (table {TABLE}), so nobody knows how its points "
            f"were drawn: label the points in the file that `pointcover sample` wrote, and give "
            f"that one"
        ) from None
    except (pydantic.ValidationError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} has a damaged design ({str(error).splitlines()[0]}): draw the sample again "
            f"with the same settings and seed, and copy the column {COLUMN!r} into it"
        ) from None


def read_sample(path: Path) -> LabelledSample:
    """Read a sample and its labels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no sample, has no point or no label, a label is no class, or points were
            added, doubled or moved.
    """
    design = read_design(path)
    if not design.points:
        raise ValueError(f"{path} is a sample of no points: draw one with --points")
    layers = layers_of(path)
    tables = {name: _read_layer(path, name) for name in layers}
    if not any(len(table) for table in tables.values()):
        raise ValueError(f"{path}, layer {shorten(layers)}, has no point: draw the sample again")
    _check_points(path, design, list(tables.values()))
    if all((_texts(table) == "").all() for table in tables.values()):
        raise ValueError(
            f"{path}: nobody has labelled any of its {len(design.points)} points: `pointcover "
            f"label IMAGES --sample {path}` shows one after the other, or choose classes in QGIS"
        )
    sample = LabelledSample(design, np.full(len(design.points), IGNORE_INDEX, np.int64))
    found = read_annotations(
        path, sample.classes, VectorSettings(column=COLUMN, layer=tuple(layers), ignore=("",))
    )
    ids = {
        (f"{name}:{fid}" if sum(map(len, tables.values())) > len(table) else fid): int(number)
        for name, table in tables.items()
        for fid, number in zip(table.index, table[ID], strict=True)
    }
    places = {point.id: place for place, point in enumerate(design.points)}
    for fid, class_id in zip(found.fids, found.class_ids, strict=True):
        sample.labels[places[ids[fid]]] = class_id
    return sample


def layers_of(path: Path) -> list[str]:
    """Return the layers of points of a sample; there is one a CRS.

    Raises:
        ValueError: there is none.
    """
    layers = [
        str(name) for name, _ in pyogrio.list_layers(vector_path(path)) if _is_sample(str(name))
    ]
    if not layers:
        raise ValueError(f"{path} has no layer {LAYER!r} any more: draw the sample again")
    return layers


def _is_sample(layer: str) -> bool:
    return layer == LAYER or layer.startswith(f"{LAYER}_")


def _read_layer(path: Path, layer: str) -> geopandas.GeoDataFrame:
    table = pyogrio.read_dataframe(vector_path(path), layer=layer, fid_as_index=True)
    for column in (COLUMN, ID):
        if column not in table:
            raise ValueError(
                f"{path}, layer {layer!r}, has no column {column!r}, it has "
                f"{shorten(table.columns)}: give the file that `pointcover sample` wrote"
            )
    return table


def _texts(table: geopandas.GeoDataFrame) -> npt.NDArray[np.str_]:
    return np.array(table[COLUMN].fillna("").astype(str).str.strip(), str)


def _check_points(path: Path, design: Design, tables: Sequence[geopandas.GeoDataFrame]) -> None:
    """Check that the points are those that were drawn, where they were drawn."""
    known = {point.id: point for point in design.points}
    seen: set[int] = set()
    strange, doubled, moved = [], [], []
    for fid, number, shape in _features(tables):
        point = known.get(int(number)) if number == number else None  # NaN differs from itself
        if point is None:
            strange.append(fid)
        elif point.id in seen:
            doubled.append(point.id)
        elif shape is None or shape.is_empty or _is_far(shape, point.x, point.y):
            moved.append(point.id)
        if point is not None:
            seen.add(point.id)
    faults = {
        f"has points that were not drawn (features {shorten(strange)}): remove them": strange,
        f"has points more than once (id {shorten(doubled)}): remove the copies": doubled,
        f"has points that were moved (id {shorten(moved)}): draw the sample again with the same "
        f"settings and seed, and copy the column {COLUMN!r} into it by id": moved,
    }
    for text, some in faults.items():
        if some:
            raise ValueError(f"{path} {text}. Only points that were drawn at random can be counted")


def _features(
    tables: Sequence[geopandas.GeoDataFrame],
) -> Iterator[tuple[int, float, shapely.Geometry | None]]:
    for table in tables:
        yield from zip(table.index, table[ID].astype(float), table.geometry, strict=True)


def _is_far(shape: shapely.Geometry, x: float, y: float) -> bool:
    left, bottom, right, top = shape.bounds  # of a point, also as the only part of a multipoint
    away = max(abs(left - x), abs(right - x), abs(bottom - y), abs(top - y))
    return bool(away > MOVED * max(1.0, abs(x), abs(y)))
