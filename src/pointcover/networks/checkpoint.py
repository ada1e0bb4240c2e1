"""Checkpoints: the weights in model.pt, all that describes the model in model.json beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.runtime.atomic_files import publish_file, publish_json, sha256
from pointcover.tileset.tiles import TileSet

RESTORE: Final = "Restore both with `dvc checkout -f`, or train again with `dvc repro -f train`"


@dataclass(frozen=True)
class Checkpoint:
    """What describes a model beside its weights."""

    network: NetworkSettings
    tile_set: TileSet
    training: dict[str, Any]
    """The epoch that was kept, and its scores on sparse validation masks."""
    label_shares: tuple[float, ...] | None = None
    """Each class's fraction of the training loss, see `loss_fractions.py`; None where model.json
    is older than that. Named as in the model.json of registered models."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which `from_json` makes the same."""
        return {
            **self.network.model_dump(include=set(NetworkSettings.model_fields)),
            "training": self.training,
            "label_shares": self._shares_by_name(),
            **self.tile_set.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Checkpoint":
        """Read what `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: the values do not describe a model.
        """
        tile_set, shares = TileSet.from_json(values), values.get("label_shares")
        # model.json of before there was a choice of width has none.
        network = {"width": 1.0} | {
            key: values[key] for key in NetworkSettings.model_fields if key in values
        }
        return cls(
            NetworkSettings.model_validate(network),
            tile_set,
            values["training"],
            tuple(float(shares[name]) for name in tile_set.classes.names) if shares else None,
        )

    def _shares_by_name(self) -> dict[str, float] | None:
        if self.label_shares is None:
            return None
        return dict(zip(self.tile_set.classes.names, self.label_shares, strict=True))


@dataclass(frozen=True)
class Member:
    """A model of an ensemble, and its folder."""

    folder: Path
    segmenter: Segmenter
    checkpoint: Checkpoint


def save_checkpoint(folder: Path, checkpoint: Checkpoint, weights: dict[str, Tensor]) -> str:
    """Write model.pt and model.json into a folder.

    Returns:
        SHA-256 of model.pt, which model.json holds as well.
    """
    with publish_file(folder / "model.pt") as aside:
        torch.save(weights, aside)
    digest = sha256(folder / "model.pt")
    publish_json(folder / "model.json", {"weights_sha256": digest, **checkpoint.to_json()})
    return digest


def load_checkpoint(folder: Path) -> tuple[Segmenter, Checkpoint, str]:
    """Read a model: the segmenter, what it is, and the SHA-256 of its weights.

    Raises:
        FileNotFoundError: model.pt or model.json is missing.
        ValueError: model.json is damaged, or the weights are not those that it describes.
    """
    for name in ("model.pt", "model.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} does not exist: run `dvc repro train`, or restore the last model "
                f"with `dvc checkout -f`"
            )
    try:
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        described = values["weights_sha256"]
        checkpoint = Checkpoint.from_json(values)
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
    statistics = BandStatistics(tile_set.mean, tile_set.std)
    segmenter = build_model(network, statistics, len(tile_set.classes))
    try:
        state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
        segmenter.load_state_dict(state, strict=True)
    except (RuntimeError, UnpicklingError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, UnpicklingError):  # torch's message says how to run its code
            reason = "it holds more than tensors, or is damaged, and was not loaded"
        raise ValueError(
            f"{folder / 'model.pt'} does not hold weights of the {network.model} with encoder "
            f"{network.encoder} and {len(tile_set.classes)} classes that model.json describes "
            f"({reason}). {RESTORE}"
        ) from None
    return segmenter, checkpoint, digest


def check_alike(name: str, got: TileSet, other: str, wanted: TileSet, remedy: str) -> None:
    """Check that the probabilities of two models can be averaged.

    Args:
        name: of the one model, for the message.
        got: what it was trained on.
        other: the other model's name.
        wanted: what that was trained on.
        remedy: what to do, beside training both on one dataset.

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
        folder: has folders of model.pt and model.json at any depth, or none.
        own: what the model was trained on whose probabilities are averaged with theirs.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a model is damaged, or of other classes, bands, value range or GSD.
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
    return members
