"""The maps of the model that "Train" made last, and what is known of it, kept with the project."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

from pydantic import Field

from pointcover.labelling.rendering import encode_ids
from pointcover.raster.overviews import ClassReader
from pointcover.runtime.atomic_files import publish_json
from pointcover.validation import Section, validate

logger = logging.getLogger(__name__)

FOLDER: Final = "trained"
DESCRIPTION: Final = "trained.json"


class TrainedModel(Section):
    """A model that was trained on the labels, and its maps."""

    number: int = Field(ge=1, description="Of the training; each has a greater one.")
    experiment: str = Field(description="DVC's name of it; empty if DVC said none.")
    classes: tuple[str, ...] = Field(description="Names of the classes by id.")
    maps: dict[str, str] = Field(description="Paths of the maps of classes, by name of the image.")
    run: tuple[str, str] | None = Field(
        default=None, description="Ids of the experiment and the run in MLflow."
    )
    test_miou: float | None = Field(default=None, description="On the labels of the test images.")


@dataclass(frozen=True)
class _Opened:
    model: TrainedModel
    readers: dict[str, ClassReader]


class TrainedMaps:
    """Opens the maps of the last training, and reads tiles of them."""

    def __init__(self, folder: Path) -> None:
        """Open what an earlier session made; what is damaged or gone is left out.

        Args:
            folder: of the maps.
        """
        self.folder = folder
        self._lock = Lock()
        self._opened: _Opened | None = None
        path = folder / DESCRIPTION
        if not path.is_file():
            return
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            self._open(validate(TrainedModel, values, path))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("the trained model's maps are not shown: %s", error)

    @property
    def model(self) -> TrainedModel | None:
        """The last model, if there is one."""
        return None if self._opened is None else self._opened.model

    def describe(self, names: Mapping[str, int]) -> dict[str, Any] | None:
        """Return what the page needs to show the maps.

        Args:
            names: numbers of the open images by name.
        """
        opened = self._opened
        if opened is None:
            return None
        return {
            "number": opened.model.number,
            "experiment": opened.model.experiment,
            "test_miou": opened.model.test_miou,
            "has_run": opened.model.run is not None,
            "images": [names[name] for name in opened.readers if name in names],
        }

    def take(self, model: TrainedModel) -> None:
        """Show the maps of a model from now on.

        Raises:
            ValueError: a map is damaged.
            OSError: the disk is full, or a map is missing.
        """
        self._open(model)
        publish_json(self.folder / DESCRIPTION, model.model_dump(mode="json"))

    def close(self) -> None:
        """Close the maps."""
        with self._lock:
            self._close()

    def tile(
        self, number: int, image: str, place: tuple[int, int, int, int], colours: Mapping[str, str]
    ) -> bytes | None:
        """Return a tile as PNG, or None where there is no such map.

        Args:
            number: of the training.
            image: name of the image.
            place: level, row and column of the tile, and its side in pixels.
            colours: by name of the class.

        Raises:
            ValueError: the map is damaged there.
        """
        level, row, col, size_px = place
        with self._lock:
            opened = self._opened
            if opened is None or opened.model.number != number or image not in opened.readers:
                return None
            ids = opened.readers[image].read(level, row * size_px, col * size_px, size_px)
        return encode_ids(ids, opened.model.classes, colours)

    def _open(self, model: TrainedModel) -> None:
        readers = {name: ClassReader(Path(path)) for name, path in model.maps.items()}
        with self._lock:
            self._close()
            self._opened = _Opened(model, readers)

    def _close(self) -> None:
        if self._opened is not None:
            for reader in self._opened.readers.values():
                reader.close()
        self._opened = None
