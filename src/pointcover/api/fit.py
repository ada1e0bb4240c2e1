"""Fit pixel classifiers on labelled points of images, without a project."""

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from pointcover.api.model import Model, as_paths
from pointcover.assessment.class_maps import distinct_colour
from pointcover.image_labels.settings import ImageLabelSettings
from pointcover.label_errors.class_names import name_classes, read_class_names
from pointcover.labels import ClassTable, check_class_name, parse_colour
from pointcover.maps.orthophotos import SAME_GSD
from pointcover.maps.settings import ReadingSettings
from pointcover.project.template import PARAMS, project_files
from pointcover.raster.arrays import ImageArray
from pointcover.raster.grids import gsd_of
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.errors import naming_packages
from pointcover.text import shorten
from pointcover.training.settings import TrainSettings
from pointcover.validation import validate
from pointcover.vectors.class_values import normalise
from pointcover.vectors.features import Annotations
from pointcover.vectors.pixel_points import PixelPoints, annotations_at
from pointcover.vectors.read import annotations_of, check_column, read_annotations
from pointcover.vectors.settings import VectorSettings

if TYPE_CHECKING:  # the name `fit` is imported without torch, which only a fit needs
    from pointcover.image_labels.images import LabelledImages

Place = str | PathLike[str]
Images = Place | ImageArray | Sequence[Place | ImageArray]
Classes = Sequence[str] | Mapping[str, str]

COLUMNS = VectorSettings()
_REMEDY = f"rename the column of the classes to {COLUMNS.column!r}"

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def fit(
    images: Images,
    points: Any,
    *,
    classes: Classes | None = None,
    reading: ReadingSettings | None = None,
    **settings: Any,
) -> Model:
    """Fit a pixel classifier on labelled points of images, as the stage `train` does.

    Nothing is written, and no project is needed. Fits take seconds: features are computed around
    the labels alone.

    Args:
        images: a GeoTIFF or another raster, an `ImageArray`, or several of these.
        points: the path of a GeoPackage, GeoJSON or Shapefile, or a GeoDataFrame, with a column
            `class`: points, lines and polygons. Or a tuple of arrays (rows, columns, classes), for
            several images a list of such tuples, one for each.
        classes: their names in the order of their ids, or colours by name
            (`{"water": "#2E86C1"}`); by default the names that the points have.
        reading: bands and value range of the images, and the GSD of those without a CRS.
        **settings: of `train`, with two underscores for a dot, where they differ from those of a
            new project (`model="random_forest"`, `classifier__random_forest__trees=100`); and
            `seed`, `tile_px` and `downsample`.

    Raises:
        FileNotFoundError: an image or the file of the points is missing.
        ModuleNotFoundError: a package that fits is not installed.
        ValueError: images, points or settings do not go together; the message says what to change.
    """
    with naming_packages("pointcover.fit"):
        from pointcover.api.fit_source import fit_source
        from pointcover.image_labels.images import ImageReading, LabelledImages

        own, train = _settings(settings)
        how = reading or ReadingSettings()
        if how.resample:
            raise ValueError(
                "reading: resample is for maps of images of another GSD: set downsample to reduce "
                "the images on which a model is fitted"
            )
        with TemporaryDirectory() as folder:
            opened = LabelledImages.open(
                list(_files(images, Path(folder))),
                ImageReading(own.tile_px, own.downsample, how.bands, how.value_range),
            )
            gsd_m = _reduced_gsd(how.gsd_m, opened)
            table = _class_table(points, classes)
            found = opened.find(_read(points, table, opened), table)
            return fit_source(found.source, opened, own, train, gsd_m)


def _settings(given: Mapping[str, Any]) -> tuple[ImageLabelSettings, TrainSettings]:
    """Return the settings of reading and of training."""
    from pointcover.label_errors.cross_validation import classifier_of

    mine = {key: value for key, value in given.items() if key in ImageLabelSettings.model_fields}
    own = validate(ImageLabelSettings, mine, Path("fit"))
    values = yaml.safe_load(project_files()[PARAMS])["train"]
    for name, value in given.items():
        if name not in mine:
            *steps, last = name.split("__")
            section = values
            for step in steps:
                section = section.get(step)
                if not isinstance(section, dict):
                    raise ValueError(f"fit: {name} is not a setting: {step!r} is no section")
            section[last] = list(value) if isinstance(value, tuple) else value
    train = validate(TrainSettings, values, Path("fit"))
    if classifier_of(train) is not train:
        raise ValueError(
            f"fit: model {train.model!r} is a network, which is trained on many tiles: choose a "
            f"pixel classifier such as random_forest, or train it in a project (Project.run)"
        )
    return own, train


def _files(images: Images, folder: Path) -> Iterator[Path]:
    """Return the files of images, those of arrays in a folder."""
    given = [images] if isinstance(images, (str, PathLike, ImageArray)) else images
    for number, image in enumerate(given):
        if isinstance(image, ImageArray):
            yield image.write(folder / f"image_{number}.tif")
        elif hasattr(image, "shape"):
            raise ValueError(
                f"got an array as image {number}, wanted ImageArray(values, transform, crs), or "
                f"ImageArray(values) where it has no place on the ground"
            )
        else:
            yield from as_paths(image)


def _is_table(points: Any) -> bool:
    return hasattr(points, "geometry")


def _pairs(points: Any) -> list[PixelPoints]:
    """Return the points of each image.

    Raises:
        ValueError: they are none of what `fit` takes.
    """
    listed = points if isinstance(points, list) else [points]
    if not all(isinstance(one, tuple) and len(one) == 3 for one in listed):
        raise ValueError(
            f"got points of type {type(points).__name__}, wanted a path, a GeoDataFrame, or a "
            f"tuple (rows, columns, classes), for several images a list of such tuples"
        )
    return [(rows, columns, classes) for rows, columns, classes in listed]


def _class_table(points: Any, classes: Classes | None) -> ClassTable:
    if isinstance(classes, Mapping):
        colours = tuple(map(parse_colour, classes.values()))
        return ClassTable(tuple(map(check_class_name, classes)), colours)
    if classes is not None:
        names = tuple(map(check_class_name, classes))
        return ClassTable(names, tuple(map(distinct_colour, range(len(names)))))
    if isinstance(points, (str, PathLike)):
        table = read_class_names(Path(points), COLUMNS, _REMEDY)
        _check_names(table.names)
        return table
    if _is_table(points):
        check_column(points, COLUMNS)
        values = [one for one in points[COLUMNS.column] if normalise(one)]
    else:
        values = [one for each in _pairs(points) for one in np.asarray(each[2]).ravel().tolist()]
    _check_names(values)
    return name_classes([one.strip() for one in values], "points")


def _check_names(values: Sequence[object]) -> None:
    """Check that values of classes are names.

    Raises:
        ValueError: one is a number, which names no class.
    """
    if any(not isinstance(one, str) or NUMBER.fullmatch(one.strip()) for one in values):
        raise ValueError(
            f"points have classes such as {shorten(sorted(map(str, set(values))), 3)}: say with "
            f"`classes` what they are called, in the order of their ids"
        )


def _read(points: Any, classes: ClassTable, opened: "LabelledImages") -> Annotations:
    images = opened.sources()
    if isinstance(points, (str, PathLike)):
        return read_annotations(Path(points), classes, COLUMNS, images=images)
    if _is_table(points):
        return annotations_of(points, classes, COLUMNS, images)
    pairs, names = _pairs(points), list(images.by_orthophoto)
    if len(pairs) != len(names):
        raise ValueError(
            f"got points of {len(pairs)} image(s), but {len(names)} image(s): give one tuple "
            f"(rows, columns, classes) for each"
        )
    return annotations_at(dict(zip(names, pairs, strict=True)), classes, images)


def _reduced_gsd(gsd_m: float | None, opened: "LabelledImages") -> float | None:
    """Return the GSD of images without a CRS, as they are read.

    Raises:
        ValueError: an image has another one by its CRS.
    """
    if gsd_m is None:
        return None
    for image in opened.images:
        path = image.reader.path
        found_m = gsd_of(RasterReader(path).info())
        if found_m is not None and abs(gsd_m / found_m - 1) > SAME_GSD:
            raise ValueError(
                f"{path} has a GSD of {found_m:.4g} m by its CRS, but reading has gsd_m "
                f"{gsd_m:.4g}: omit gsd_m, or correct the file"
            )
    return gsd_m * opened.reading.downsample
