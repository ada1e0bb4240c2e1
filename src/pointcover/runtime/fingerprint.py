"""Fingerprints: digests of everything that the result of a training depends on."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pointcover.runtime.atomic_files import sha256

DECIDING_LIBRARIES: Final = (
    "torch",
    "lightning-fabric",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "numpy",
)
"""Libraries of which another version may change the bits of a result."""


def fingerprint(
    settings: Mapping[str, object],
    files: Mapping[str, Path],
    known: Mapping[Path, str] = MappingProxyType({}),
) -> str:
    """Return 32 hexadecimal digits that change with any setting, file name or byte of a file.

    Args:
        settings: JSON values by name.
        files: files, or folders with all their files, by a name that is the same in every copy of
            the tree.
        known: SHA-256 of files for which it is known: these are not read.

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
    """Return the properties of the machine and its libraries that the bits of a training depend on.

    Args:
        device: cpu or cuda.
    """
    import torch

    return {
        "machine": {
            "device": device,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "versions": {name: version(name) for name in DECIDING_LIBRARIES},
    }
