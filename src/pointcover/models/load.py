"""Models by what a user calls them: a file, a folder, an MLflow run or a registered model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pointcover.models.fetch import fetch_model
from pointcover.models.onnx_model import OnnxSegmenter, read_onnx
from pointcover.networks.checkpoint import Checkpoint, check_alike, load_checkpoint
from pointcover.networks.segmenter import Segmenter
from pointcover.tileset.tiles import TileSet

RUN_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class NamedModel:
    """A model, and what it was called."""

    reference: str
    segmenter: Segmenter | OnnxSegmenter
    checkpoint: Checkpoint
    sha256: str
    """Of its weights, or of its ONNX file."""

    @property
    def tile_set(self) -> TileSet:
        """What it was trained on."""
        return self.checkpoint.tile_set

    @property
    def engine(self) -> str:
        """What runs it."""
        return self.segmenter.engine if isinstance(self.segmenter, OnnxSegmenter) else "torch"


def load_model(reference: str, root: Path) -> NamedModel:
    """Read a model.

    Args:
        reference: a folder with model.pt and model.json, or one of these files; an ONNX file that
            was exported; an MLflow run (`runs:/ID`, or its 32 hexadecimal digits); a registered
            model (`models:/NAME@alias`, `models:/NAME/version`).
        root: of the project, whose MLflow store is meant.

    Raises:
        FileNotFoundError: there is no such file or store.
        ValueError: the model is not there, or damaged; a package for ONNX files is missing.
    """
    in_mlflow = reference.startswith(("runs:/", "models:/"))
    path = Path(reference)
    if in_mlflow or (RUN_ID.fullmatch(reference) and not path.exists()):
        with TemporaryDirectory() as folder:
            found = fetch_model(root, reference, Path(folder))
            try:
                return NamedModel(reference, *load_checkpoint(found))
            except ValueError as error:
                raise ValueError(f"{reference}: {error}") from None
    if path.suffix == ".onnx" and path.is_file():
        return NamedModel(reference, *read_onnx(path))
    if path.name in ("model.pt", "model.json") and not path.is_dir():
        path = path.parent
    if not path.is_dir():
        raise FileNotFoundError(
            f"{reference} is no model: wanted a folder with model.pt and model.json (as `dvc "
            f"repro` leaves models/), an ONNX file of `pointcover export`, an MLflow run "
            f"(runs:/ID) or a registered model (models:/NAME@champion)"
        )
    return NamedModel(reference, *load_checkpoint(path))


def load_models(references: Sequence[str], root: Path) -> list[NamedModel]:
    """Read models whose probabilities are to be averaged; see `load_model`.

    Raises:
        FileNotFoundError: as `load_model`.
        ValueError: as `load_model`; or one differs from the first in classes, bands or value range.
    """
    models = [load_model(reference, root) for reference in references]
    for model in models[1:]:
        check_alike(
            model.reference,
            model.tile_set,
            models[0].reference,
            models[0].tile_set,
            "Leave one out",
        )
    return models
