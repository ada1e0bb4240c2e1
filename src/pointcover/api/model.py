"""Models that map and suggest: what `pointcover predict` and `pointcover suggest` use."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointcover.active.settings import ImageQuerySettings
from pointcover.maps.map_files import ClassArea, read_areas
from pointcover.maps.mapper import Mapper, MapTask
from pointcover.maps.scoring import make_scoring, need_torch
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import NamedModel, load_models
from pointcover.prediction.array_inference import find_best
from pointcover.prediction.settings import DeviceSettings
from pointcover.prediction.windows import ALIGNMENT_PX, needs_of, usual_window_px
from pointcover.raster.addresses import parse_image
from pointcover.raster.raster_io import EIGHT_BIT
from pointcover.runtime.atomic_files import check_new_file
from pointcover.runtime.errors import naming_packages
from pointcover.text import shorten
from pointcover.tracking.store import project_root
from pointcover.validation import validate

if TYPE_CHECKING:  # maps of ONNX files are made without torch
    from pointcover.active.suggest import Suggester
    from pointcover.runtime.devices import Fabric

Place = str | PathLike[str]
Progress = Callable[[float], None]
"""Called with the megapixels that were mapped since the call before."""


@dataclass(frozen=True)
class Map:
    """The map of one image."""

    image: Path
    classes: Path
    """GeoTIFF of class ids, with names and colours."""
    confidence: Path
    """GeoTIFF of the model's confidence, in percent."""
    areas: tuple[ClassArea, ...]
    """Pixels and area of each class, counted; for areas to report use `sample` and `assess`."""


class Suggested(NamedTuple):
    """Points that were suggested."""

    path: Path
    layers: dict[str, int]
    """Number of points by layer."""


def open_model(
    *references: Place, device: str = "auto", precision: str = "auto", root: Path | None = None
) -> "Model":
    """Load a model, or several that are averaged.

    Args:
        references: of each model: its folder, an exported ONNX file, an MLflow run (`runs:/ID`), or
            a registered model (`models:/NAME@alias`).
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `fp32` or `bf16`.
        root: of the project, whose MLflow store is used; by default found from the current folder.

    Raises:
        FileNotFoundError: there is no such file or store.
        ValueError: a model is missing or damaged, does not match the first one, or there is no
            such device.
    """
    if not references:
        raise ValueError("got no model: give a folder such as models")
    wanted = validate(
        DeviceSettings, {"device": device, "precision": precision}, Path("open_model")
    )
    with naming_packages("this model"):
        models = load_models([str(one) for one in references], root or project_root())
        return Model(wanted, models)


class Model:
    """One model, or the mean of several, on a device."""

    def __init__(self, device: DeviceSettings, models: Sequence[NamedModel]) -> None:
        """Keep models that belong together; see `open_model`.

        Raises:
            ValueError: torch computes, and there is no such device.
        """
        self._wanted = device
        self.models = tuple(models)
        if need_torch(models):
            _ = self._fabric

    @cached_property
    def _fabric(self) -> "Fabric":
        from pointcover.runtime.devices import be_deterministic, make_fabric

        fabric = make_fabric(self._wanted.device, self._wanted.precision)
        be_deterministic()
        return fabric

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of their ids."""
        return self.models[0].tile_set.classes.names

    @property
    def bands(self) -> tuple[int, ...]:
        """Return the band numbers of the training images, from 1."""
        return tuple(self.models[0].tile_set.bands)

    def settings(self, **settings: Any) -> MapSettings:
        """Return settings of maps; `window_px` is that of the model where it is not given.

        Raises:
            ValueError: a setting does not exist, or has no such value.
        """
        window_px = settings.pop("window_px", None)
        if window_px is None:
            needs = needs_of(one.checkpoint.classifier for one in self.models)
            window_px = usual_window_px(self.models[0].tile_set.size_px, needs)
        return validate(MapSettings, {"window_px": window_px} | settings, Path("map"))

    def mapper(
        self, settings: MapSettings | None = None, reading: ReadingSettings | None = None
    ) -> Mapper:
        """Return what maps images one by one, with progress.

        Args:
            settings: of the maps, from `settings`.
            reading: how the images are read.
        """
        settings = settings or self.settings()
        with naming_packages("this setting"):
            device = self._fabric if need_torch(self.models, settings) else self._wanted
        return Mapper(device, list(self.models), settings, reading or ReadingSettings())

    def map(
        self,
        images: Sequence[Place] | Place,
        out: Place,
        *,
        reading: ReadingSettings | None = None,
        replace: bool = False,
        progress: Progress | None = None,
        **settings: Any,
    ) -> list[Map]:
        """Map whole images, as `pointcover predict` does. An interrupted call resumes.

        Args:
            images: GeoTIFFs or other rasters, or addresses (`https://…`, `s3://…`).
            out: the folder of the maps.
            reading: how the images are read, if their files lack metadata.
            replace: whether maps of other settings, models or images may be replaced.
            progress: called with the megapixels that were mapped.
            **settings: see MapSettings: `polygons=True`, `average_views=True`, …

        Returns:
            the maps, in the order of the images.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image does not match the model, or is damaged.
        """
        mapper = self.mapper(self.settings(**settings), reading)
        tasks = mapper.prepare(as_paths(images), Path(out), replace=replace)
        return list(_make(mapper, tasks, progress))

    def classify(
        self, image: npt.NDArray[np.generic]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Classify an array, such as a window of an image.

        Args:
            image: (bands, H, W), scaled to 0 to 255 as the training images.

        Returns:
            (H, W) uint8 class ids, and (H, W) float32 probabilities of these classes.

        Raises:
            ValueError: the array has another shape or other values.
        """
        values = np.asarray(image)
        bands = len(self.bands)
        if values.ndim != 3 or len(values) != bands or not values[0].size:
            raise ValueError(
                f"got an array of shape {values.shape}, wanted ({bands} bands, height, width)"
            )
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > EIGHT_BIT[1]:
            raise ValueError(
                f"got values from {values.min()} to {values.max()}, wanted 0 to 255: scale the "
                f"image as the training images were scaled"
            )
        height, width = values.shape[1:]
        padding = [(0, 0), *((0, -side % ALIGNMENT_PX) for side in (height, width))]
        padded = np.pad(values.astype(np.float32), padding, mode="symmetric")
        device = self._fabric if need_torch(self.models) else self._wanted
        inference = make_scoring(device, self.models, self.settings()).inference
        scores = inference.fetch(inference.score(padded[None], None))
        most, ids = find_best(scores)
        return ids[0, :height, :width], most[0, :height, :width]

    def save(self, folder: Place, *, replace: bool = False) -> Path:
        """Write model.pt and model.json, which `open_model` and `pointcover predict` read.

        Args:
            folder: of the files; made where it is missing.
            replace: whether a model in the folder may be replaced.

        Raises:
            FileExistsError: the folder has a model, which may not be replaced.
            ValueError: there are several models, or it is an exported one.
        """
        from pointcover.networks.segmenter import Segmenter

        out = Path(folder)
        (model, *others) = self.models
        if others or not isinstance(model.segmenter, Segmenter):
            kind = f"a mean of {len(self.models)} models" if others else "an ONNX file"
            known = shorten(one.reference for one in self.models)
            raise ValueError(f"{kind} is not saved as one model: keep {known}")
        from pointcover.networks.checkpoint import save_checkpoint
        from pointcover.training.fit import weights_of

        for name in ("model.pt", "model.json"):
            check_new_file(out / name, replace=replace)
        out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(out, model.checkpoint, weights_of(model.segmenter))
        return out

    def suggester(self, settings: ImageQuerySettings) -> "Suggester":
        """Return what chooses points to label next, with progress."""
        with naming_packages("suggest"):
            from pointcover.active.suggest import Suggester

        return Suggester(self._fabric, self.models, settings)

    def suggest(
        self,
        images: Sequence[Place] | Place,
        out: Place,
        *,
        reading: ReadingSettings | None = None,
        clicks: Place | None = None,
        replace: bool = False,
        **settings: Any,
    ) -> Suggested:
        """Suggest points to label next, as `pointcover suggest` does.

        Args:
            images: on which points are suggested.
            out: the GeoPackage to write.
            reading: how the images are read, if their files lack metadata.
            clicks: existing annotations, from which suggestions keep their distance.
            replace: whether an existing file may be replaced, with the labels in it.
            **settings: see ImageQuerySettings: `points=50`, `acquisition="entropy"`, …

        Raises:
            FileNotFoundError: an image is missing.
            FileExistsError: the file exists, and may not be replaced.
            ValueError: an image does not match the model, or is not georeferenced.
        """
        check_new_file(Path(out), replace=replace)
        query = validate(ImageQuerySettings, settings, Path("suggest"))
        suggester, path = self.suggester(query), Path(out)
        orthophotos = suggester.prepare(as_paths(images), path, reading or ReadingSettings())
        before = suggester.read_clicks(Path(clicks)) if clicks else None
        found = suggester.suggest(orthophotos, _ignore, before)
        return Suggested(path, suggester.write(path, orthophotos, found))


def _make(mapper: Mapper, tasks: Sequence[MapTask], progress: Progress | None) -> Iterator[Map]:
    def advance(megapixels: float, was_done: bool) -> None:
        (progress or _ignore)(megapixels)

    for task in tasks:
        if task.is_done:
            areas = read_areas(task.path("_areas.csv"))
        else:
            areas = mapper.make(task, advance).areas
        yield Map(
            task.orthophoto.reader.path,
            task.path("_classes.tif"),
            task.path("_confidence.tif"),
            tuple(areas),
        )


def as_paths(images: Sequence[Place] | Place) -> list[Path]:
    """Return paths; a text may be an address, as on the command line."""
    given = [images] if isinstance(images, (str, PathLike)) else images
    return [image if isinstance(image, Path) else parse_image(str(image)) for image in given]


def _ignore(_: float) -> None:
    """Do nothing."""
