"""Map orthophotos with models; an interrupted map is resumed."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pointcover.maps.cog import check_cog_path
from pointcover.maps.journal import MapJournal
from pointcover.maps.map_files import (
    IMAGE_TAG,
    SUFFIXES,
    ClassArea,
    MapLegend,
    can_draw,
    check_polygons,
    draw_preview,
    fraction_without_data,
    measure_areas,
    write_areas,
    write_rasters,
)
from pointcover.maps.orthophotos import Orthophoto, open_orthophoto
from pointcover.maps.scoring import make_scoring
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.prediction.settings import DeviceSettings
from pointcover.prediction.sliding_window import Plan, SeamCount, stream_strips
from pointcover.prediction.windows import lay_axis, needs_of
from pointcover.raster.grids import middle_pixel_m2
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.atomic_files import probe_folder, publish_json
from pointcover.runtime.fingerprint import fingerprint

if TYPE_CHECKING:  # maps of ONNX files are made without torch
    from pointcover.runtime.devices import Fabric

FORMAT: Final = 1
"""Version of the strips' contents. Increase it when these change, so that older strips are not
used."""

SMALL_PX: Final = 50
"""Default minimum area of a polygon, in pixels; used where `least_m2` is None."""

POLYGONS: Final = ("_polygons.gpkg", "_polygons.qml")
"""Suffixes of the files that are added to a finished map."""

FREE: Final = ("batch_size", "polygons", "least_m2")
"""Settings that do not change the rasters."""

MAX_STEM_BYTES: Final = 220
"""Most bytes of an image's stem. File systems allow 255, of which endings take the others."""

FOLDER_SUFFIX: Final = ".map.partial"
"""Ending of the folder beside the maps that holds the strips of an unfinished map."""

Progress = Callable[[float, bool], None]
"""Called with the number of finished megapixels, and whether an earlier attempt finished them."""


@dataclass(frozen=True)
class MapTask:
    """An image that was checked, and the place of its map."""

    orthophoto: Orthophoto
    folder: Path
    stem: str
    key: str
    """Fingerprint of everything that determines the map."""
    image_sha256: str
    beside_sha256: str | None = None
    """Of what files beside the image add to it, such as its place; None where they add nothing."""
    is_done: bool = False
    """Whether the map exists already."""
    has_rasters: bool = False
    """Whether all files of the map but its polygons exist."""

    @property
    def megapixels(self) -> float:
        """Size of the map in megapixels."""
        return self.orthophoto.grid.height * self.orthophoto.grid.width / 1e6

    def path(self, suffix: str) -> Path:
        """Return the path of the map's file with a suffix."""
        return self.folder / f"{self.stem}{suffix}"


@dataclass(frozen=True)
class MapResult:
    """The areas of a map, and how often overlapping windows disagree."""

    areas: list[ClassArea]
    seams: SeamCount
    """Empty if windows are blended, do not overlap, or one window is as wide as the image."""


class Mapper:
    """Maps images with one or several models on a device."""

    def __init__(
        self,
        device: "Fabric | DeviceSettings",
        models: Sequence[NamedModel],
        settings: MapSettings,
        reading: ReadingSettings,
    ) -> None:
        """Move models to a device.

        Args:
            device: device and precision; a Fabric where torch computes. ONNX files alone need none.
            models: an ensemble, of which probabilities are averaged; all have the same classes
                and bands.
            settings: how images are mapped.
            reading: how images are read.

        Raises:
            ValueError: the priors do not match a model, the models have no such device or
                precision, or a package is missing.
        """
        if settings.polygons:
            check_polygons()
        self._models, self._settings, self._reading = models, settings, reading
        self.classes = models[0].tile_set.classes
        self.scoring = make_scoring(device, models, settings)

    def prepare(self, images: Sequence[Path], folder: Path, *, replace: bool) -> list[MapTask]:
        """Check images, settings and the output folder before the first image is mapped.

        Args:
            images: to map.
            folder: of the maps; made if it does not exist.
            replace: whether maps, and other files of the same names, may be replaced.

        Returns:
            one task for each image.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image or a setting does not match the models, or two images have the
                same stem.
            OSError: the folder cannot be written, or holds files that would be replaced.
        """
        _check_folder(folder)
        _check_names(images, folder)
        trained = [model.tile_set for model in self._models]
        tasks = []
        for path in images:
            orthophoto = open_orthophoto(path, trained, self._reading)
            self._plan(orthophoto)
            self._least_px(orthophoto)
            with closing(RasterReader(path)) as reader:
                image_sha256 = reader.digest()
                beside = reader.digest_beside()
            key = self._key(orthophoto, image_sha256, beside)
            task = MapTask(orthophoto, folder, path.stem, key, image_sha256, beside)
            tasks.append(_compare_with_present(task, self._recorded(), replace=replace))
        return tasks

    def make(self, task: MapTask, progress: Progress, *, rasters_only: bool = False) -> MapResult:
        """Make the map of an image, or resume it.

        Args:
            task: from `prepare`.
            progress: called after each strip.
            rasters_only: leave out preview, table, JSON and polygons. Such a map does not count as
                done.

        Raises:
            ValueError: the image is damaged, or another process is making this map.
            OSError: the disk is full.
        """
        settings, plan = self._settings, self._plan(task.orthophoto)
        with MapJournal(_journal_folder(task), task.key, plan.cuts) as journal:
            if task.has_rasters:
                progress(task.megapixels, True)
                result = _read_result(task)
            else:
                self._save_strips(task, plan, journal, progress)
                areas = self._write_rasters(task, journal)
                result = MapResult(areas, SeamCount(**journal.totals()))
                if not rasters_only:
                    self._add_summary(task, journal.folder, result)
                _publish(task, journal.folder)
            if settings.polygons and not rasters_only:
                journal.remove_strips()
                self._add_polygons(task, journal.folder)
            journal.remove()
        return result

    def _plan(self, orthophoto: Orthophoto) -> Plan:
        """Lay windows over an image.

        Raises:
            ValueError: a setting does not fit the models.
        """
        settings = self._settings
        needs = needs_of(model.checkpoint.classifier for model in self._models)
        rows, columns = (
            lay_axis(length, settings.window_px, settings.overlap, needs)
            for length in (orthophoto.grid.height, orthophoto.grid.width)
        )
        return Plan(rows, columns, settings.blend)

    def _save_strips(
        self, task: MapTask, plan: Plan, journal: MapJournal, progress: Progress
    ) -> None:
        """Predict an image, from the first strip that is missing in the journal."""
        width, done = task.orthophoto.grid.width, journal.done()
        progress(plan.cuts[done] * width / 1e6, True)
        if done == len(plan.cuts) - 1:
            return
        seams = SeamCount()
        strips = stream_strips(
            task.orthophoto, plan, self.scoring.inference, first=done, seams=seams
        )
        with closing(strips), ThreadPoolExecutor(1) as writer:
            saving: Future[None] | None = None
            for number, strip in strips:
                if saving:
                    saving.result()
                saving = writer.submit(journal.save, number, strip, asdict(seams))
                seams.pixels = seams.unlike = 0
                progress((plan.cuts[number + 1] - plan.cuts[number]) * width / 1e6, False)
            if saving:
                saving.result()

    def _write_rasters(self, task: MapTask, journal: MapJournal) -> list[ClassArea]:
        """Write a map's rasters from its strips, in the journal's folder."""
        orthophoto, strips = task.orthophoto, journal.paths()
        tags = {
            "POINTCOVER_MODELS": " ".join(model.sha256 for model in self._models),
            IMAGE_TAG: orthophoto.reader.path.name,
        }
        legend = MapLegend(self.classes, self._settings.layers, tags)
        write_rasters(journal.folder / task.stem, strips, orthophoto.grid, legend)
        return measure_areas(strips, orthophoto.grid, self.classes, orthophoto.gsd_m)

    def _add_summary(self, task: MapTask, folder: Path, result: MapResult) -> None:
        """Write a map's table of areas, preview and JSON to a folder."""
        orthophoto, stem, grid = task.orthophoto, task.stem, task.orthophoto.grid
        write_areas(folder / f"{stem}_areas.csv", result.areas)
        mask = folder / f"{stem}_classes.tif"
        if can_draw():
            draw_preview(folder / f"{stem}_preview.png", stem, orthophoto, mask, self.classes)
        publish_json(
            folder / f"{stem}.json",
            {
                "key": task.key,
                "image": orthophoto.reader.path.name,
                **_image_of(task),
                "height": grid.height,
                "width": grid.width,
                "gsd_m": orthophoto.gsd_m,
                "crs": grid.crs.to_string() if grid.crs else None,
                "remarks": list(orthophoto.remarks),
                **self._recorded(),
                "no_data_fraction": round(fraction_without_data(result.areas, grid), 6),
                "areas": [asdict(area) for area in result.areas],
                "seams": asdict(result.seams),
            },
        )

    def _add_polygons(self, task: MapTask, folder: Path) -> None:
        """Add polygons to a finished map, and record them in its JSON.

        They take much time and disk space. If this fails, the map itself is kept.
        """
        from pointcover.maps.polygons import write_polygons  # imported here: takes a second

        path = folder / f"{task.stem}{POLYGONS[0]}"
        least_px = self._least_px(task.orthophoto)
        count = write_polygons(path, task.path("_classes.tif"), self.classes, least_px)
        for suffix in POLYGONS:
            (folder / f"{task.stem}{suffix}").replace(task.path(suffix))
        summary = task.path(SUFFIXES[-1])
        values = json.loads(summary.read_text(encoding="utf-8"))
        publish_json(summary, values | self._recorded() | {"polygons": count})

    def _least_px(self, orthophoto: Orthophoto) -> int:
        """Return the minimum area of a polygon in pixels.

        Raises:
            ValueError: it is set in m², and the size of a pixel is not known.
        """
        least_m2 = self._settings.least_m2
        if least_m2 is None:
            return SMALL_PX
        pixel_m2 = _pixel_m2(orthophoto)
        if pixel_m2 is None:
            raise ValueError(
                f"{orthophoto.reader.path} has no CRS, so --min-area-m2 cannot be converted to "
                f"pixels: set the size of a pixel with --gsd-m"
            )
        return max(1, math.ceil(least_m2 / pixel_m2))

    def _recorded(self) -> dict[str, Any]:
        """Return the models and settings as the map's JSON records them."""
        settings = self._settings.model_dump() | {"reading": self._reading.model_dump()}
        if not self._settings.priors:
            del settings["priors"]  # JSONs of older versions have none
        return {
            "models": [
                {"reference": model.reference, "sha256": model.sha256, "engine": model.engine}
                for model in self._models
            ],
            "settings": json.loads(json.dumps(settings)),  # as read from JSON: tuples are lists
            "precision": self.scoring.precision,
            **({"label_fractions": self._label_fractions()} if self._settings.priors else {}),
        }

    def _key(self, orthophoto: Orthophoto, image_sha256: str, beside: str | None) -> str:
        """Return the fingerprint of everything that determines an image's strips."""
        settings = self._settings
        inputs = {
            "format": FORMAT,
            "models": [[model.sha256, model.engine] for model in self._models],
            "reading": self._reading.model_dump(),
            "windows": [settings.window_px, settings.overlap, settings.blend, settings.batch_size],
            "average_views": settings.average_views,
            **({"crf": settings.crf.model_dump()} if settings.crf else {}),
            **(
                {"priors": settings.priors.model_dump(), "label_fractions": self._label_fractions()}
                if settings.priors
                else {}
            ),
            "layers": settings.layers.model_dump(),
            "precision": self.scoring.precision,
            **({"beside": beside} if beside else {}),
            **self.scoring.environment,
        }
        path = orthophoto.reader.path
        return fingerprint(inputs, {"image": path}, {path: image_sha256})

    def _label_fractions(self) -> list[list[float] | None]:
        """Return the label fractions of each model, as they are read back from JSON.

        A model's SHA-256 does not cover them, since they are not part of its weights.
        """
        fractions = [model.checkpoint.label_fractions for model in self._models]
        return [None if each is None else list(each) for each in fractions]


def _pixel_m2(orthophoto: Orthophoto) -> float | None:
    area_m2 = middle_pixel_m2(orthophoto.grid)
    if area_m2 is not None:
        return area_m2
    return orthophoto.gsd_m**2 if orthophoto.gsd_m else None


def _check_folder(folder: Path) -> None:
    """Make a folder and check that it can be written.

    Raises:
        OSError: it cannot.
    """
    try:
        probe_folder(folder)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): wanted a folder for the maps, choose "
            f"another with --out"
        ) from None


def _check_names(images: Sequence[Path], folder: Path) -> None:
    """Check that maps can have the names of images, and replace no other map and no image.

    Raises:
        ValueError: one cannot, or would.
    """
    by_stem: dict[str, Path] = {}
    for path in images:
        if (size := len(path.stem.encode())) > MAX_STEM_BYTES:
            raise ValueError(
                f"{path} has a name of {size} bytes, wanted at most {MAX_STEM_BYTES}, to which "
                f"the endings of its map's files are added: rename it"
            )
        check_cog_path(folder / path.stem)
        if path.stem in by_stem:
            raise ValueError(
                f"the maps of {by_stem[path.stem]} and {path} would both be called "
                f"{path.stem}{SUFFIXES[0]}: rename one, or map them into two folders"
            )
        by_stem[path.stem] = path
    given = {path.resolve() for path in images}
    for path in images:
        for suffix in SUFFIXES:
            made = folder / f"{path.stem}{suffix}"
            if made.resolve() in given:
                raise ValueError(
                    f"the map of {path} would replace the image {made}: choose another folder "
                    f"with --out"
                )


def _journal_folder(task: MapTask) -> Path:
    return task.path(FOLDER_SUFFIX)


def _compare_with_present(task: MapTask, recorded: dict[str, Any], *, replace: bool) -> MapTask:
    """Return a task with `is_done` and `has_rasters` set by the files that exist.

    Args:
        task: without these.
        recorded: models and settings as the map's JSON will record them.
        replace: whether existing files may be replaced.

    Raises:
        FileExistsError: another map exists, or other files of the same names.
    """
    present = [task.path(suffix) for suffix in SUFFIXES if task.path(suffix).exists()]
    has_begun = MapJournal(_journal_folder(task), task.key, ()).has_begun()
    values = _read_summary(task)
    wants_polygons = recorded["settings"]["polygons"]
    if _identity(values, task) == _identity(recorded | _image_of(task), task):
        free = has_begun or not any(task.path(suffix).exists() for suffix in POLYGONS)
        if wants_polygons and "polygons" not in values and free:
            # If replacing a map was interrupted, the second attempt resumes it.
            return dataclasses.replace(task, has_rasters=has_begun or not replace)
        same = values["settings"]["least_m2"] == recorded["settings"]["least_m2"]
        if not replace and (not wants_polygons or ("polygons" in values and same)):
            return dataclasses.replace(task, is_done=True)
    # If mapping was killed while files were published, some of them exist.
    if replace or not present or has_begun:
        return task
    raise FileExistsError(
        f"{present[0]} exists, and is not the map of this image by these models and settings: "
        f"choose another folder with --out, or add --force to replace it"
    )


def _read_summary(task: MapTask) -> dict[str, Any]:
    """Return the contents of a map's JSON, or {} if there is no readable one."""
    try:
        values = json.loads(task.path(SUFFIXES[-1]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _identity(values: dict[str, Any], task: MapTask) -> list[Any] | None:
    """Return the values that identify a finished map, or None if they are not of a map.

    Threads, CPU instructions and library versions are part of the key of an unfinished map. They
    are left out here: they change only the last bit of a probability, so a finished map stays
    valid.
    """
    try:
        settings = {name: value for name, value in values["settings"].items() if name not in FREE}
        image = values.get("image_sha256")
        if image is None and values["key"] == task.key:  # JSONs of older versions have none
            image = task.image_sha256
        models = [[model["sha256"], model["engine"]] for model in values["models"]]
        beside = values.get("image_beside_sha256")
        fractions = values.get("label_fractions")
        return [image, beside, models, settings, values["precision"], fractions]
    except (KeyError, TypeError, AttributeError):
        return None


def _image_of(task: MapTask) -> dict[str, str]:
    """Return what a map's JSON records to tell its image from others."""
    beside = task.beside_sha256
    return {"image_sha256": task.image_sha256} | ({"image_beside_sha256": beside} if beside else {})


def _read_result(task: MapTask) -> MapResult:
    """Read areas and seams from the JSON of a finished map."""
    summary = _read_summary(task)
    areas = [ClassArea(**area) for area in summary["areas"]]
    return MapResult(areas, SeamCount(**summary.get("seams", {})))  # not in older JSONs


def _publish(task: MapTask, made: Path) -> None:
    """Move a map's files to their folder; the JSON last, since it marks the map as complete."""
    for suffix in reversed(SUFFIXES):
        if not (made / f"{task.stem}{suffix}").exists():
            task.path(suffix).unlink(missing_ok=True)  # from an older map with other layers
    task.path(SUFFIXES[-1]).unlink(missing_ok=True)
    for suffix in SUFFIXES:
        if (made / f"{task.stem}{suffix}").exists():
            (made / f"{task.stem}{suffix}").replace(task.path(suffix))
