"""Map whole images with the classifier of the page, as `pointcover predict` writes maps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pointcover.image_labels.describe import describe_classifier
from pointcover.image_labels.sample import ImageSample
from pointcover.labelling.live_classifier import ENCODER, fit_live, make_live_features, table_of
from pointcover.labelling.point_features import Place, PointFeatures
from pointcover.labelling.polygons import places_of
from pointcover.labelling.project import CACHE, Project
from pointcover.labels import ClassTable
from pointcover.maps.mapper import Mapper
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import load_model
from pointcover.networks.checkpoint import save_checkpoint
from pointcover.networks.settings import NetworkSettings
from pointcover.prediction.windows import usual_window_px
from pointcover.raster.overviews import LevelReader
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.tiles import TileSet
from pointcover.training.classifiers.fit import MEAN
from pointcover.training.fit import weights_of

MODEL: Final = "model"
MAPS: Final = "maps"
TILE_PX: Final = 512
SHOWN: Final = 20
"""Images at most from which mean and standard deviation of the bands are taken."""

Progress = Callable[[float, str], None]
"""Called with the finished fraction, and what is done."""


def save_model(
    project: Project, readers: Sequence[LevelReader], classes: ClassTable, folder: Path
) -> Path:
    """Fit the classifier at full resolution on all points, and save it as a model.

    Args:
        project: with the points.
        readers: of its images.
        classes: of the project.
        folder: of the model.

    Raises:
        ValueError: fewer than two classes have points, or an image is damaged.
        OSError: the disk is full.
    """
    settings, description = project.description.settings, project.description
    images = {entry.name: number for number, entry in enumerate(description.images)}
    ids = {name: number for number, name in enumerate(classes.names)}
    records = [one for one in project.history.points if one.image in images and one.label in ids]
    labels = np.array([ids[one.label or ""] for one in records], np.int64)
    if len(np.unique(labels)) < 2:
        raise ValueError("fewer than two classes have points: label points of another class first")
    features = make_live_features(settings, len(description.bands))
    known = PointFeatures(project.folder / CACHE, features, readers)
    of_labels = [places_of(one) for one in records]
    labels = labels.repeat([len(one) for one in of_labels])
    places = [
        Place(images[record.image], 0, int(y), int(x))
        for record, found in zip(records, of_labels, strict=True)
        for x, y in found.tolist()
    ]
    for cell in known.unknown_cells(places):
        known.compute(cell)
    rows = [known.get(place) for place in places]
    pixels = table_of(rows, labels, np.zeros(len(labels), np.int64))
    classifier = fit_live(features, pixels, len(classes), settings).join(features)
    encoder = "none" if features.encoder is None else f"tu-{ENCODER}"
    segmenter, checkpoint = describe_classifier(
        classifier,
        NetworkSettings(model=MEAN, encoder=encoder, width=1.0),
        _describe(readers, classes),
        pixels,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder, checkpoint, weights_of(segmenter))
    return folder


def map_images(model: Path, images: Sequence[Path], folder: Path, progress: Progress) -> list[Path]:
    """Map whole images with a saved model; maps that it made before stay.

    Args:
        model: folder of the model.
        images: to map.
        folder: of the maps.
        progress: called after each strip.

    Returns:
        the maps of classes.

    Raises:
        ValueError: an image is damaged.
        OSError: the disk is full.
    """
    named = load_model(str(model), Path.cwd())
    settings = MapSettings(window_px=usual_window_px(TILE_PX, named.window_needs))
    mapper = Mapper(make_fabric("auto", "fp32"), [named], settings, ReadingSettings())
    tasks = mapper.prepare(images, folder, replace=True)
    total = sum(task.megapixels for task in tasks)
    done = 0.0
    for task in tasks:
        name = task.orthophoto.reader.path.name

        def advance(megapixels: float, was_done: bool, name: str = name) -> None:
            nonlocal done
            done += megapixels
            progress(done / total, f"mapping {name}")

        mapper.make(task, advance)
    return [task.path("_classes.tif") for task in tasks]


def _describe(readers: Sequence[LevelReader], classes: ClassTable) -> TileSet:
    """Return the metadata of a model: its bands with their mean and standard deviation."""
    parts = []
    for reader in readers[:SHOWN]:
        reader.write_overviews()  # else the whole image is read at once
        level = reader.levels - 1
        image, valid = reader.read(level, 0, 0, reader.size(level))
        parts.append(image[:, valid])
    first = readers[0]
    sample = ImageSample(
        [reader.info for reader in readers],
        first.bands,
        first.value_range,
        np.concatenate(parts, axis=1),
    )
    return sample.tile_set(classes, TILE_PX)
