"""Checkpoints: the weights in model.pt, and the description of the model in model.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from pointcover.networks.build import BandStatistics, build_fitted
from pointcover.networks.model_files import check_model_files
from pointcover.networks.pixel_classifiers.settings import PixelClassifierSettings
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.networks.weights_files import load_failure
from pointcover.runtime.atomic_files import publish_file, publish_json, sha256
from pointcover.text import shorten
from pointcover.tileset.tiles import TileSet

NO_MODELS: Final = Path("sources")
"""The folder that stands for no further models, since DVC wants a dependency that exists."""

RESTORE: Final = "Restore both with `dvc checkout -f`, or train again with `dvc repro -f train`"


@dataclass(frozen=True)
class Checkpoint:
    """The description of a model without its weights."""

    network: NetworkSettings
    tile_set: TileSet
    training: dict[str, Any]
    """The epoch that was kept, and its scores on sparse validation masks."""
    label_fractions: tuple[float, ...] | None = None
    """Each class's fraction of the training loss, see `loss_fractions.py`; None where model.json
    is older than that. Older files name it label_shares."""
    classifier: PixelClassifierSettings | None = None
    """Of a pixel classifier: its features and the sizes of its head."""

    def build(self) -> Segmenter:
        """Build the segmenter that takes the weights.

        Raises:
            ValueError: a name is unknown, or values do not go together.
        """
        statistics = BandStatistics(self.tile_set.mean, self.tile_set.std)
        classes = len(self.tile_set.classes)
        return build_fitted(self.network, statistics, classes, self.classifier)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of model.json, which `from_json` reads."""
        return {
            **self.network.model_dump(include=set(NetworkSettings.model_fields)),
            "training": self.training,
            "label_fractions": self._fractions_by_name(),
            **({"classifier": self.classifier.model_dump(mode="json")} if self.classifier else {}),
            **self.tile_set.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Checkpoint":
        """Make a checkpoint from the result of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the values do not describe a model.
        """
        tile_set, fractions = (
            TileSet.from_json(values),
            values.get("label_fractions", values.get("label_shares")),
        )
        # Older model.json have no width.
        network = {"width": 1.0} | {
            key: values[key] for key in NetworkSettings.model_fields if key in values
        }
        return cls(
            NetworkSettings.model_validate(network),
            tile_set,
            values["training"],
            tuple(float(fractions[name]) for name in tile_set.classes.names) if fractions else None,
            PixelClassifierSettings.model_validate(values["classifier"])
            if "classifier" in values
            else None,
        )

    def _fractions_by_name(self) -> dict[str, float] | None:
        if self.label_fractions is None:
            return None
        return dict(zip(self.tile_set.classes.names, self.label_fractions, strict=True))


@dataclass(frozen=True)
class Member:
    """A model of an ensemble, and its folder."""

    folder: Path
    segmenter: Segmenter
    checkpoint: Checkpoint


def save_checkpoint(folder: Path, checkpoint: Checkpoint, weights: dict[str, Tensor]) -> str:
    """Write model.pt and model.json into a folder.

    Returns:
        SHA-256 of model.pt, which is also in model.json.
    """
    with publish_file(folder / "model.pt") as aside:
        torch.save(weights, aside)
    digest = sha256(folder / "model.pt")
    publish_json(folder / "model.json", {"weights_sha256": digest, **checkpoint.to_json()})
    return digest


def load_checkpoint(folder: Path) -> tuple[Segmenter, Checkpoint, str]:
    """Read a model: the segmenter, its description, and the SHA-256 of its weights.

    Raises:
        FileNotFoundError: model.pt or model.json is missing.
        ValueError: model.json is damaged, or the weights are not those that it describes.
    """
    check_model_files(folder)
    try:
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        described = values["weights_sha256"]
        checkpoint = Checkpoint.from_json(values)
        segmenter = checkpoint.build()
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{folder / 'model.json'} does not describe a model ({reason}): {RESTORE}"
        ) from None
    tile_set = checkpoint.tile_set
    digest = sha256(folder / "model.pt")
    if digest != described:
        raise ValueError(
            f"{folder / 'model.pt'} has SHA-256 {digest[:12]}…, but model.json describes "
            f"{described[:12]}…: the file is damaged or of another run. {RESTORE}"
        )
    network = checkpoint.network
    unbounded = _names_with_infinity(segmenter)
    try:
        state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
        segmenter.load_state_dict(state, strict=True)
    except (RuntimeError, UnpicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{folder / 'model.pt'} does not hold weights of the {network.model} with encoder "
            f"{network.encoder} and {len(tile_set.classes)} classes that model.json describes "
            f"({load_failure(error)}). {RESTORE}"
        ) from None
    broken = [
        name
        for name, values in segmenter.state_dict().items()
        if values.isnan().any() or (name not in unbounded and bool(values.isinf().any()))
    ]
    if broken:
        raise ValueError(
            f"{folder / 'model.pt'} holds weights that are not finite ({shorten(broken, 3)}), with "
            f"which every pixel is of the first class. {RESTORE}"
        )
    return segmenter, checkpoint, digest


def _names_with_infinity(segmenter: Segmenter) -> set[str]:
    """Return the names of tensors that hold infinity by design, such as thresholds of leaves."""
    state = segmenter.state_dict()
    return {name for name, values in state.items() if bool(values.isinf().any())}


def check_alike(name: str, got: TileSet, other: str, wanted: TileSet, remedy: str) -> None:
    """Check that the probabilities of two models can be averaged.

    Args:
        name: of one model, for the message.
        got: the tile set that it was trained on.
        other: the other model's name.
        wanted: the tile set that the other one was trained on.
        remedy: what to do, besides training both on one dataset.

    Raises:
        ValueError: they differ in classes, bands or value range.
    """
    for what, one, two in (
        ("classes", ", ".join(got.classes.names), ", ".join(wanted.classes.names)),
        ("class colours", got.classes.colours, wanted.classes.colours),
        ("bands", got.bands, wanted.bands),
        ("value range", got.value_range, wanted.value_range),
    ):
        if one != two:
            raise ValueError(
                f"{name} and {other} differ in their {what}: {one} against {two}. {remedy}, or "
                f"train both on one dataset"
            )


def load_ensemble(folder: Path, own: TileSet) -> list[Member]:
    """Read the models below a folder, in the order of their paths.

    Args:
        folder: contains folders of model.pt and model.json at any depth; NO_MODELS may have none.
        own: the tile set of the model with which they are averaged.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no model; or a model is damaged, or has other classes, bands, value
            range or GSD.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"evaluate.ensemble: {folder} is no folder, wanted one with models below it (each a "
            f"folder of model.pt and model.json), or `sources` for none"
        )
    members = []
    for description in sorted(folder.rglob("model.json")):
        segmenter, checkpoint, _ = load_checkpoint(description.parent)
        check_alike(
            str(description),
            checkpoint.tile_set,
            "the model trained here",
            own,
            f"Take it out of {folder}",
        )
        if not all(checkpoint.tile_set.knows_gsd(gsd_m) for gsd_m in own.gsds_m):
            raise ValueError(
                f"{description}: it was trained on a GSD of {checkpoint.tile_set.show_gsds()}, the "
                f"model trained here on {own.show_gsds()}: take it out of {folder}, or train both "
                f"with one tile.downsample"
            )
        members.append(Member(description.parent, segmenter, checkpoint))
    if not members and folder != NO_MODELS:
        raise ValueError(
            f"evaluate.ensemble: {folder} holds no model: put folders of model.pt and model.json "
            f"there, or set evaluate.ensemble to {NO_MODELS}, which means none"
        )
    return members
