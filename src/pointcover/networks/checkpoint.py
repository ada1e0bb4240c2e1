"""Write and read checkpoints: the weights in model.pt, the description in model.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch
from torch import Tensor

from pointcover.networks.description import Checkpoint, check_alike
from pointcover.networks.model_files import check_model_files
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.weights_files import load_failure
from pointcover.runtime.atomic_files import publish_file, publish_json, sha256
from pointcover.text import shorten
from pointcover.tileset.tiles import TileSet

NO_MODELS: Final = Path("sources")
"""The folder that stands for no further models, since DVC wants a dependency that exists."""

RESTORE: Final = "Restore both with `dvc checkout -f`, or train again with `dvc repro -f train`"


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
