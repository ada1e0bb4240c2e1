"""Export points for the pipeline: a vector file or click rasters, a card, and the command."""

import json
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import pyproj
import shapely
import yaml

from pointcover.annotation.rasters import CLICKS
from pointcover.config.recipes import RECIPES
from pointcover.datasets.card import DatasetCard, find_pairs
from pointcover.labelling.point_log import Record
from pointcover.labelling.polygons import to_polygon
from pointcover.labelling.project import Project
from pointcover.labels import IGNORE_INDEX, ClassTable, Mask, Split, parse_colour
from pointcover.raster.addresses import Address
from pointcover.raster.raster_io import EIGHT_BIT, RasterInfo, Window, write_mask
from pointcover.runtime.atomic_files import publish_folder, publish_text
from pointcover.text import shorten
from pointcover.tileset.tiles import raster_path
from pointcover.validation import validate
from pointcover.vectors.features import ORTHOPHOTO
from pointcover.vectors.qgis_styles import style_points, style_polygons
from pointcover.vectors.rasterize import rasterize_shapes
from pointcover.vectors.write import VectorLayer, publish_layers

LABELS: Final = "labels"
"""The folder that `annotations` names: DVC compares all files in it."""
POINTS: Final = "points.gpkg"
POINT_LAYER: Final = "points"
POLYGON_LAYER: Final = "polygons"
CARD: Final = "card.yaml"
COMMAND: Final = "run.sh"
LEAST_IMAGES: Final = 3
"""With points, for training, validation and test."""

ORDER: Final[tuple[Split, ...]] = ("train", "val", "test", "train", "train")
"""Splits of the images, from that with the most points on."""

PREFIX: Final = "label_"
"""Of the file names of cards in `sources`, apart from a person's own cards."""

RECIPE: Final = "fast"
BLOCK_PX: Final = 256


@dataclass(frozen=True)
class Exported:
    """What was written."""

    files: tuple[Path, ...]
    command: str | None
    """That trains on the points; None where there are too few images."""
    remarks: tuple[str, ...]
    options: tuple[str, ...] = ()
    """Of `dvc exp run`."""


@dataclass(frozen=True)
class _Dataset:
    """The card of the images, as values, and what follows from it."""

    card: dict[str, Any]
    source: Path
    """Folder of the images."""
    names: dict[Path, str]
    """That the pipeline gives the images."""
    splits: dict[Path, Split]
    """Of images with points."""


@dataclass(frozen=True)
class _Image:
    path: Path
    info: RasterInfo
    points: tuple[Record, ...]


def export_points(project: Project, infos: Sequence[RasterInfo], folder: Path) -> Exported:
    """Export the points of a project.

    Args:
        project: open.
        infos: of its images.
        folder: to write to; made if it does not exist.

    Raises:
        ValueError: there are no points, or fewer than two classes.
        OSError: the disk is full.
    """
    images = _with_points(project, infos)
    if not any(one.points for one in images):
        remark = project.remark_on_closed_images()
        raise ValueError(remark or "there are no points to export: label some first")
    classes = ClassTable(
        project.class_names,
        tuple(parse_colour(one.colour) for one in project.description.classes),
    )
    labels = folder / LABELS
    files: list[Path] = []
    remark = project.remark_on_closed_images()
    remarks: list[str] = [f"{remark}."] if remark else []
    is_placed = all(one.info.crs is not None and one.info.is_georeferenced for one in images)
    dataset = None
    try:
        dataset = _describe(project, images)
    except ValueError as error:
        remarks.append(f"There is no card yet: {error}.")
    with publish_folder(labels) as aside:  # anew, so that no label of a removed point stays
        if is_placed:
            names = dataset.names if dataset else {}
            written = [_write_vector(aside / POINTS, images, names, classes)]
        elif dataset is not None:
            written = _write_rasters(aside / CLICKS, images, dataset, classes)
        else:
            written = []
        files += [labels / path.relative_to(aside) for path in written]
    if dataset is None:
        for old in (CARD, COMMAND):
            (folder / old).unlink(missing_ok=True)
        return Exported(tuple(files), None, tuple(remarks))
    if not is_placed:
        remarks.append("An image has no CRS, so points are click rasters on the images' pixels.")
    files.append(folder / CARD)
    card = yaml.safe_dump(dataset.card, sort_keys=False, allow_unicode=True)
    publish_text(files[-1], f"{_mark(project)}\n{card}")
    options = options_of(project, dataset.source, labels)
    command = _make_command(project, folder / CARD, options)
    files.append(folder / COMMAND)
    publish_text(files[-1], f"{command}\n")
    return Exported(tuple(files), command, tuple(remarks), tuple(options))


def card_name(project: Project) -> str:
    """Return the file name of the project's card in `sources`."""
    stem = re.sub(r"[^\w-]+", "_", project.folder.resolve().name) or "labels"
    return f"{PREFIX}{stem}.yaml"


def copy_card(project: Project, card: Path, sources: Path) -> None:
    """Copy the exported card to the pipeline, over an earlier one of this project alone.

    Args:
        project: that was exported.
        card: of the export.
        sources: folder of the pipeline's cards.

    Raises:
        ValueError: another card has the name.
        OSError: the disk is full.
    """
    path = sources / card_name(project)
    if path.exists() and _mark(project) not in path.read_text("utf-8", "replace").splitlines():
        raise ValueError(
            f"{path} is no earlier export of {project.folder.resolve()}: move it away, and train "
            f"again"
        )
    publish_text(path, card.read_text(encoding="utf-8"))


def _mark(project: Project) -> str:
    """Return the first line of the project's cards."""
    folder = json.dumps(str(project.folder.resolve()))
    return f"# Written by `pointcover label` of the project {folder}; the next export replaces it."


def _make_command(project: Project, card: Path, options: Sequence[str]) -> str:
    """Return the lines of a shell that copy the card, as `copy_card` does, and train."""
    path = shlex.quote(f"sources/{card_name(project)}")
    mark = shlex.quote(_mark(project))
    refusal = shlex.quote(
        f"sources/{card_name(project)} is no earlier export of this project: move it away"
    )
    return "\n".join(
        (
            "# In the folder of the pipeline, which has dvc.yaml:",
            f"if [ -e {path} ] && ! grep -qxF {mark} {path}; then",
            f"  echo {refusal} >&2; false",
            "else",
            f"  cp {shlex.quote(str(card.resolve()))} {path} &&",
            f"  {shlex.join(['dvc', 'exp', 'run', *options])}",
            "fi",
        )
    )


def options_of(project: Project, source: Path, annotations: Path) -> list[str]:
    """Return the options of `dvc exp run` that train on the points."""
    options = RECIPES[RECIPE].options()
    for value in (
        f"dataset=sources/{card_name(project)}",
        f"source={source}",
        f"annotations={annotations.resolve()}",
        "annotate.sampler=none",
        "tile.downsample=1",
    ):
        options += ["-S", value]
    return options


def _with_points(project: Project, infos: Sequence[RasterInfo]) -> list[_Image]:
    points = defaultdict(list)
    for record in project.history.points:
        points[record.image].append(record)
    return [
        _Image(project.paths[entry.name], info, tuple(points[entry.name]))
        for entry, info in zip(project.description.images, infos, strict=True)
    ]


def _describe(project: Project, images: Sequence[_Image]) -> _Dataset:
    """Describe the images as a dataset; those with most points are for training.

    Raises:
        ValueError: fewer than three images have points, or they lie in no common folder.
    """
    if away := [str(one.path) for one in images if isinstance(one.path, Address)]:
        raise ValueError(
            f"{shorten(away)} lies on a server, and the pipeline reads files: download it, and "
            f"label it in this project under its new path"
        )
    labelled = sorted((one for one in images if one.points), key=lambda one: -len(one.points))
    if len(labelled) < LEAST_IMAGES:
        raise ValueError(
            f"{len(labelled)} image(s) have points, and training needs {LEAST_IMAGES}, one each "
            f"for training, validation and test; label another image, or cut this one into parts"
        )
    order = ORDER[: len(labelled)] if len(labelled) < len(ORDER) else ORDER
    splits = {one.path: order[n % len(order)] for n, one in enumerate(labelled)}
    folders = {one.path.parent for one in images}
    source = Path(os.path.commonpath(folders))
    if len(source.parts) < 2:
        raise ValueError("the images lie in no common folder; move them into one")
    endings = {one.path.suffix for one in images}
    ending = next(iter(endings)) if len(endings) == 1 else ""
    regions = {one.path: one.path.relative_to(source).as_posix() for one in images}
    card: dict[str, Any] = {
        "title": f"Points of {project.folder.resolve().name}",
        "images": f"{'' if folders == {source} else '**/'}*{ending}",
        "bands": list(project.description.bands),
        "classes": [one.model_dump() for one in project.description.classes],
        "region": "file",
        "split": {
            kind: sorted(regions[path] for path, split in splits.items() if split == kind)
            for kind in ("val", "test")
        },
    }
    if project.description.value_range != EIGHT_BIT:
        card["value_range"] = list(project.description.value_range)
    found = {source / pair.image: pair.name for pair in find_pairs(_check(card), source)}
    if missing := sorted(str(path) for path in regions if path not in found):
        raise ValueError(f"the card does not find {shorten(missing)}; rename these images")
    if others := sorted(
        path.relative_to(source).as_posix() for path in found if path not in regions
    ):
        card["leave_out"] = others
    return _Dataset(card, source, found, splits)


def _check(values: Mapping[str, Any]) -> DatasetCard:
    return validate(DatasetCard, dict(values), Path(CARD))


def _write_vector(
    path: Path, images: Sequence[_Image], names: Mapping[Path, str], classes: ClassTable
) -> Path:
    """Write points and polygons, a layer of each for each CRS, with author and time of each."""
    by_crs: dict[pyproj.CRS, list[tuple[_Image, Record]]] = {}
    for image in images:
        if image.points:
            assert image.info.crs is not None
            crs = pyproj.CRS.from_wkt(image.info.crs.to_wkt())
            by_crs.setdefault(crs, []).extend((image, point) for point in image.points)
    ids = {name: number for number, name in enumerate(classes.names)}
    layers = {}
    for layer, kind, style in (
        (POINT_LAYER, "Point", style_points),
        (POLYGON_LAYER, "Polygon", style_polygons),
    ):
        tables = [
            table
            for crs, placed in by_crs.items()
            if (labels := [one for one in placed if bool(one[1].shape) == (kind == "Polygon")])
            and len(table := _table(labels, crs, (names, ids)))
        ]
        for number, table in enumerate(tables, 1):
            name = layer if len(tables) == 1 else f"{layer}_{number}"
            layers[name] = VectorLayer(table, kind, style(classes, "class"))
    publish_layers(path, layers)
    return path


def _table(
    placed: Sequence[tuple[_Image, Record]],
    crs: pyproj.CRS,
    named: tuple[Mapping[Path, str], Mapping[str, int]],
) -> geopandas.GeoDataFrame:
    """Return labels of one CRS as features."""
    names, ids = named
    return geopandas.GeoDataFrame(
        {
            "class": [label.label for _, label in placed],
            "class_id": np.array([ids[label.label or ""] for _, label in placed], np.int16),
            ORTHOPHOTO: [names.get(image.path, "") for image, _ in placed],
            "author": [label.author for _, label in placed],
            "time": [label.time for _, label in placed],
            "id": [label.id for _, label in placed],
        },
        geometry=[_geometry(image.info, label) for image, label in placed],
        crs=crs,
    )


def _geometry(info: RasterInfo, label: Record) -> shapely.Geometry:
    """Return a label in the CRS of its image."""
    transform = info.transform
    if not label.shape:
        return shapely.Point(transform @ (label.x, label.y))
    polygon = to_polygon(label.shape)
    return shapely.transform(polygon, lambda xy: np.array([transform @ (x, y) for x, y in xy]))


def _bounds(label: Record) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a label, in pixels of the image."""
    if not label.shape:
        return label.x, label.y, label.x, label.y
    xs, ys = zip(*label.shape[0], strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _burn(labels: Sequence[Record], window: Window, ids: Mapping[str, int]) -> Mask:
    """Return the class ids of labels in a window; of two on a pixel the last one counts."""
    values = np.full((int(window.height), int(window.width)), IGNORE_INDEX, np.uint8)
    for label in labels:
        class_id = ids[label.label or ""]
        if label.shape:
            shapes = [(to_polygon(label.shape), 1)]
            values[rasterize_shapes(shapes, window, all_touched=False) > 0] = class_id
        else:
            values[int(label.y) - int(window.row_off), int(label.x) - int(window.col_off)] = (
                class_id
            )
    return values


def _write_rasters(
    folder: Path, images: Sequence[_Image], dataset: _Dataset, classes: ClassTable
) -> list[Path]:
    """Write a raster of each image with labels; of two labels on a pixel the newer one counts."""
    ids = {name: number for number, name in enumerate(classes.names)}
    paths = []
    for image in images:
        if not image.points:
            continue
        blocks: dict[tuple[int, int], list[Record]] = defaultdict(list)
        for label in sorted(image.points, key=lambda one: one.order):
            left, top, right, bottom = _bounds(label)
            for row in range(int(top) // BLOCK_PX, int(bottom) // BLOCK_PX + 1):
                for col in range(int(left) // BLOCK_PX, int(right) // BLOCK_PX + 1):
                    blocks[row, col].append(label)
        path = raster_path(folder, dataset.splits[image.path], dataset.names[image.path])
        with write_mask(path, like=image.info, block_px=BLOCK_PX, classes=classes) as writer:
            for (row, col), labels in sorted(blocks.items()):
                first_row, first_col = row * BLOCK_PX, col * BLOCK_PX
                height = min(BLOCK_PX, image.info.height - first_row)
                width = min(BLOCK_PX, image.info.width - first_col)
                if height < 1 or width < 1:
                    continue
                window = Window(first_col, first_row, width, height)
                writer.write(_burn(labels, window, ids)[None], window)
        paths.append(path)
    return paths
