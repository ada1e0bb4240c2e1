"""Serve a registered model: MLflow loads this module to answer requests.

A model's MLmodel file names this module (`tracking/mlmodel.py`). MLflow's server answers with
status 400 and a reason if a request is invalid, and 500 for any other error. Maps are made by the
same code as those of `pointcover predict`.
"""

import base64
import binascii
import contextlib
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Final

from mlflow.exceptions import MlflowException

from pointcover.maps.map_files import NO_DATA, ClassArea, are_of_nothing, fraction_without_data
from pointcover.maps.mapper import Mapper, MapTask
from pointcover.maps.orthophotos import parse_reading
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import NamedModel, load_model
from pointcover.prediction.windows import usual_window_px
from pointcover.raster.raster_io import SIGNATURES, RasterReader
from pointcover.runtime.devices import Fabric, be_deterministic, make_fabric
from pointcover.tracking.mlmodel import IMAGE, SETTINGS

SAMPLES_A_PIXEL: Final = 32
"""Maximum number of values to decode, per pixel of the largest allowed image. A file of some
kilobytes can declare more bands, or larger blocks, than fit in memory."""

WANTED: Final = "the bytes of a GeoTIFF, PNG, JPEG or JPEG 2000, in JSON as base64"

OPTION: Final = re.compile(r"--([a-z][a-z-]*)")
logger = logging.getLogger(__name__)


def _load_pyfunc(path: str, settings: Mapping[str, Any] = SETTINGS) -> "ServedModel":
    """Load a model for MLflow; its weights are read without unpickling objects.

    Args:
        path: of the folder with MLmodel, model.pt and model.json.
        settings: with the keys of `tracking.mlmodel.SETTINGS`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the model is damaged, or a setting is out of range.
    """
    megapixels = float(settings["megapixels"])
    if not megapixels > 0:
        raise ValueError(f"megapixels: got {megapixels:g}, wanted a number above 0")
    fabric = make_fabric(str(settings["device"]), str(settings["precision"]))
    be_deterministic()
    return ServedModel(load_model(path, Path(path)), fabric, megapixels)


class ServedModel:
    """A model that maps images sent as bytes."""

    def __init__(self, model: NamedModel, fabric: Fabric, megapixels: float) -> None:
        """Prepare a model for requests.

        Args:
            model: to map with.
            fabric: device and precision.
            megapixels: maximum total size of the images of one request.
        """
        self._model, self._fabric, self._megapixels = model, fabric, megapixels
        self._settings = MapSettings(
            window_px=usual_window_px(model.tile_set.size_px, model.window_needs)
        )
        self._one_at_a_time = Lock()  # a request takes all threads and much memory

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Map images.

        Args:
            data: a table with a column `image` of files' bytes, or their base64.
            params: `bands`, `value_range`, `gsd_m` and `resample` as in `pointcover predict`;
                `confidence` to return a raster of confidence, too.

        Returns:
            a dictionary for each image: `classes` (bytes of a GeoTIFF); by class name `fractions`
            (fractions of the pixels with data) and `areas_m2`, None where they are not known;
            `remarks`; and if requested `confidence` (bytes of a GeoTIFF).

        Raises:
            MlflowException: the images or params are invalid (INVALID_PARAMETER_VALUE), or there
                is another error (INTERNAL_ERROR).
        """
        options = dict(params or {})
        try:
            gsd_m = options.get("gsd_m")
            _check_gsd(gsd_m)
            reading = parse_reading(
                options.get("bands"),
                options.get("value_range"),
                gsd_m,
                bool(options.get("resample")),
            )
            with self._one_at_a_time, TemporaryDirectory(prefix="pointcover-") as folder:
                return self._map(
                    list(data[IMAGE]),
                    Path(folder),
                    reading,
                    confidence=bool(options.get("confidence")),
                )
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(_with_params(str(error))) from None
        except Exception as error:
            logger.exception("a request could not be answered")
            raise MlflowException(
                f"the request could not be answered ({type(error).__name__}: {error}): see the "
                f"traceback in the log of the server"
            ) from None

    def _map(
        self, images: Sequence[Any], folder: Path, reading: ReadingSettings, *, confidence: bool
    ) -> list[dict[str, Any]]:
        """Map images in a temporary folder; all are checked before the first one is mapped."""
        if not images:
            raise ValueError(f"column {IMAGE!r} is empty, wanted an image in each row")
        mapper = Mapper(self._fabric, [self._model], self._settings, reading)
        tasks: list[MapTask] = []
        for number, value in enumerate(images, start=1):
            path = folder / str(number) / "image"
            with _called(f"image {number}", path):
                path.parent.mkdir()
                path.write_bytes(_decode(value, path))
                left = self._megapixels - sum(task.megapixels for task in tasks)
                self._check_size(RasterReader(path), left)
                tasks += mapper.prepare([path], path.parent, replace=False)
                self._check_map(tasks[-1], left)
        answers = []
        for number, task in enumerate(tasks, start=1):
            with _called(f"image {number}", task.orthophoto.reader.path):
                made = mapper.make(task, lambda megapixels, was_done: None, rasters_only=True)
            answers.append(_answer(task, made.areas, f"image {number}", confidence=confidence))
        return answers

    def _check_size(self, reader: RasterReader, left: float) -> None:
        """Check the size of an image before it is decoded.

        Raises:
            ValueError: the image is too large, or not a raster.
        """
        info = reader.info()
        pixels = info.height * info.width
        if pixels > left * 1e6:
            raise ValueError(self._too_large(f"{info.path} has", info.height, info.width, left))
        block = max(height * width for height, width in reader.dataset.block_shapes)
        samples, most = info.bands * max(pixels, block), SAMPLES_A_PIXEL * self._megapixels * 1e6
        if samples > most:
            raise ValueError(
                f"{info.path} has {info.bands} band(s), and its largest block {block} px: that is "
                f"{samples} values to decode, wanted at most {most:.0f}. Send only the bands that "
                f"the model needs, in smaller blocks"
            )

    def _check_map(self, task: MapTask, left: float) -> None:
        """Check the size of a map, which differs from the image's if that is resampled.

        Raises:
            ValueError: the map is too large.
        """
        if task.megapixels > left:
            grid = task.orthophoto.grid
            raise ValueError(
                self._too_large(f"the map of {grid.path} would have", grid.height, grid.width, left)
            )

    def _too_large(self, what: str, height: int, width: int, left: float) -> str:
        return (
            f"{what} {height} × {width} px, wanted at most {left:.3g} megapixels (all images of a "
            f"request together may have {self._megapixels:.3g}): send a part of it, start the "
            f"server with a higher `megapixels`, or use `pointcover predict`"
        )


def _decode(value: Any, path: Path) -> bytes:
    """Return the bytes of an image; decode base64, which MLflow does only in `dataframe_split`.

    Args:
        value: of a row.
        path: of the image to write, for messages.

    Raises:
        ValueError: the value is not an image.
    """
    if not isinstance(value, str | bytes | bytearray):
        raise ValueError(f"{path} is missing: got {value!r}, wanted {WANTED}")
    data = value.encode() if isinstance(value, str) else bytes(value)
    if data.startswith(tuple(SIGNATURES)):
        return data
    with contextlib.suppress(binascii.Error):
        decoded = base64.b64decode(b"".join(data.split()), validate=True)
        if decoded.startswith(tuple(SIGNATURES)):
            return decoded
    raise ValueError(f"{path} is not an image (it begins with {data[:8]!r}): wanted {WANTED}")


def _answer(
    task: MapTask, areas: Sequence[ClassArea], name: str, *, confidence: bool
) -> dict[str, Any]:
    """Return the answer for an image."""
    path = str(task.orthophoto.reader.path)
    remarks = [_with_params(remark.replace(path, name)) for remark in task.orthophoto.remarks]
    if are_of_nothing(areas):
        remarks.append(f"{name}: {NO_DATA}")
    elif empty := fraction_without_data(areas, task.orthophoto.grid):
        remarks.append(f"{name}: {100 * empty:.1f} % of it has no data, and no class")
    answer: dict[str, Any] = {
        "classes": task.path("_classes.tif").read_bytes(),
        "fractions": {area.name: area.fraction for area in areas},
        "areas_m2": {area.name: area.area_m2 for area in areas},
        "remarks": remarks,
    }
    if confidence:
        answer["confidence"] = task.path("_confidence.tif").read_bytes()
    return answer


def _check_gsd(gsd_m: float | None) -> None:
    if gsd_m is not None and not 0 < gsd_m < math.inf:
        raise ValueError(f"--gsd-m: got {gsd_m:g}, wanted metres above 0")


@contextlib.contextmanager
def _called(name: str, path: Path) -> Iterator[None]:
    """Replace the path of a temporary file in errors by the name of the image."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), name)) from None


def _with_params(text: str) -> str:
    """Replace command-line options in a message by params: --gsd-m by params.gsd_m."""
    return OPTION.sub(lambda found: f"params.{found[1].replace('-', '_')}", text)
