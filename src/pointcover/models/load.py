"""Load models from a file, a folder, an MLflow run or the MLflow model registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pointcover.models.fetch import fetch_model
from pointcover.models.onnx_model import OnnxNetwork, read_onnx
from pointcover.models.references import is_in_mlflow, path_of
from pointcover.networks.description import Checkpoint, check_alike
from pointcover.prediction.windows import WindowNeeds, needs_of
from pointcover.tileset.tiles import TileSet

if TYPE_CHECKING:  # an ONNX file needs no torch
    from torch import nn

    from pointcover.networks.segmenter import Segmenter


@dataclass(frozen=True)
class NamedModel:
    """A model, and the reference by which it was loaded."""

    reference: str
    """See `load_model`."""
    network: "Segmenter | OnnxNetwork"
    """With its normalisation; see `segmenter` for a network of torch."""
    checkpoint: Checkpoint
    sha256: str
    """SHA-256 of its weights, or of its ONNX file."""

    @property
    def tile_set(self) -> TileSet:
        """The tile set that it was trained on."""
        return self.checkpoint.tile_set

    @property
    def window_needs(self) -> WindowNeeds:
        """What it needs of windows."""
        return needs_of([self.checkpoint.classifier])

    @property
    def engine(self) -> str:
        """Name and version of its ONNX runtime; `torch` for a model of PyTorch."""
        return self.network.engine if isinstance(self.network, OnnxNetwork) else "torch"

    @cached_property
    def segmenter(self) -> "nn.Module":
        """The network as one of torch: images (B, bands, H, W) uint8 → logits (B, C, H, W)."""
        if not isinstance(self.network, OnnxNetwork):
            return self.network
        from pointcover.models.onnx_segmenter import OnnxSegmenter

        return OnnxSegmenter(self.network)


def load_model(reference: str, root: Path) -> NamedModel:
    """Load a model.

    Args:
        reference: a folder with model.pt and model.json, or one of these files; an exported ONNX
            file; an MLflow run (`runs:/ID`, or its 32 hexadecimal digits); a registered model
            (`models:/NAME@alias`, `models:/NAME/version`).
        root: of the project, whose MLflow store is used.

    Raises:
        FileNotFoundError: there is no such file or store.
        ValueError: the model is missing or damaged, or a package for ONNX files is missing.
        ConnectionError: the tracking server does not answer.
    """
    if is_in_mlflow(reference):
        with TemporaryDirectory() as folder:
            found = fetch_model(root, reference, Path(folder))
            try:
                return NamedModel(reference, *_load_folder(found))
            except ValueError as error:
                raise ValueError(f"{reference}: {error}") from None
    path = path_of(reference)
    if path.is_file():
        return NamedModel(reference, *read_onnx(path))
    return NamedModel(reference, *_load_folder(path))


def _load_folder(folder: Path) -> "tuple[Segmenter, Checkpoint, str]":
    from pointcover.networks.checkpoint import load_checkpoint

    return load_checkpoint(folder)


def load_models(references: Sequence[str], root: Path) -> list[NamedModel]:
    """Load the models of an ensemble; see `load_model`.

    Raises:
        FileNotFoundError: there is no such file or store.
        ValueError: a model is missing or damaged, or differs from the first one in classes, bands
            or value range.
    """
    models = [load_model(reference, root) for reference in references]
    for model in models[1:]:
        check_alike(
            model.reference,
            model.tile_set,
            models[0].reference,
            models[0].tile_set,
            "Omit one of them",
        )
    return models
