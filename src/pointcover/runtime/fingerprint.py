"""Fingerprints: digests of all that decides the result of a training."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch

from pointcover.runtime.atomic_files import sha256

DECIDING_LIBRARIES: Final = (
    "torch",
    "lightning-fabric",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "numpy",
)
"""Whose other version may give other bits."""


def fingerprint(
    settings: Mapping[str, object],
    files: Mapping[str, Path],
    known: Mapping[Path, str] = MappingProxyType({}),
) -> str:
    """Return 32 hexadecimal digits that change with a setting, and with a byte or name of a file.

    Args:
        settings: what JSON can hold, by name.
        files: files, or folders with all that is in them, by a name that is the same in every copy
            of the tree.
        known: SHA-256 of files of which somebody has it: these are not read.

    Raises:
        FileNotFoundError: a file is missing.
    """
    whole = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, path in sorted(files.items()):
        parts = sorted(path.rglob("*")) if path.is_dir() else [path]
        for part in parts:
            if not part.is_dir():
                digest = known.get(part) or sha256(part)
                place = f"{name}\0{part.relative_to(path).as_posix()}\0{digest}\n"
                whole.update(place.encode())
    return whole.hexdigest()[:32]


def environment_of(device: str) -> dict[str, object]:
    """Return what of a machine and its libraries decides the bits of a training.

    Args:
        device: cpu or cuda.
    """
    return {
        "machine": {
            "device": device,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "versions": {name: version(name) for name in DECIDING_LIBRARIES},
    }
