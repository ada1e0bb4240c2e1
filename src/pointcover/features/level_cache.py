"""A folder that keeps the levels of an encoder, so that further experiments need not compute them.

The key of a file is a digest of everything its values depend on: the encoder's weights, the image,
and the code. So a file is never out of date, and any may be deleted at any time.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pointcover.runtime.atomic_files import publish_file
from pointcover.runtime.fingerprint import fingerprint
from pointcover.runtime.settings import MachineSettings

logger = logging.getLogger(__name__)

SUFFIX: Final = ".safetensors"

GB: Final = 1_000_000_000

FREED: Final = 0.9
"""Of the limit, to which files are removed, so that this is not done for each new one."""


class LevelCache:
    """Levels in files, of which those that were not used for longest are removed."""

    @classmethod
    def of(cls, machine: MachineSettings) -> "LevelCache | None":
        """Return the cache of a machine, if it has one."""
        if machine.feature_cache is None:
            return None
        return cls(Path(machine.feature_cache).expanduser(), machine.feature_cache_gb)

    def __init__(self, folder: Path, limit_gb: float) -> None:
        """Count the files of a folder, which need not exist.

        Args:
            folder: of the files.
            limit_gb: their largest size in all, in 10^9 bytes.
        """
        self._folder = folder
        self._limit = round(limit_gb * GB)
        self._size = sum(size for _, size, _ in self._files())
        self._is_writable = True

    def get(self, key: str, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Return the tensors of a key, or compute and keep them.

        A file that cannot be read is written again. Where nothing can be written, for instance on a
        full disk, a warning says so once, and everything is computed.
        """
        path = self._folder / key[:2] / f"{key}{SUFFIX}"
        try:
            kept = safetensors.torch.load_file(path)
            os.utime(path)  # it was used now
            return [_restore(*one) for one in sorted(kept.items())]
        except (safetensors.SafetensorError, ValueError, RuntimeError, OSError):
            levels = compute()
        if self._is_writable:
            self._write(path, levels)
        return levels

    def _write(self, path: Path, levels: Sequence[Tensor]) -> None:
        tensors = dict(_arrange(number, level) for number, level in enumerate(levels))
        size = sum(level.nbytes for level in tensors.values())
        if size > self._limit:
            return
        try:
            if self._size + size > self._limit:
                self._free(round(self._limit * FREED) - size)
            with publish_file(path) as aside:
                safetensors.torch.save_file(tensors, aside)
            self._size += size
        except (OSError, safetensors.SafetensorError) as error:
            self._is_writable = False
            logger.warning(
                "warning: the features of encoders are no longer kept: %s cannot be written (%s). "
                "Free some space, or choose another folder as machine.feature_cache",
                self._folder,
                getattr(error, "strerror", None) or error,
            )

    def _free(self, most: int) -> None:
        """Remove the files that were not used for longest, down to a size in all."""
        files = sorted(self._files())
        self._size = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._size <= most:
                return
            Path(path).unlink(missing_ok=True)
            self._size -= size

    def _files(self) -> list[tuple[int, int, str]]:
        """Return the time of the last use, the size and the path of each file."""
        found = []
        for path in self._folder.glob(f"*/*{SUFFIX}"):
            try:
                state = path.stat()
            except FileNotFoundError:  # another process removed it
                continue
            found.append((state.st_mtime_ns, state.st_size, str(path)))
        return found


def _arrange(number: int, level: Tensor) -> tuple[str, Tensor]:
    """Return a name, and the level with its axes in the order of its memory.

    Results depend on that order: rounding differs.
    """
    strides = level.stride()
    axes = sorted(range(level.ndim), key=lambda axis: -strides[axis])
    return f"{number:03d} {' '.join(map(str, axes))}", level.permute(axes).contiguous()


def _restore(name: str, values: Tensor) -> Tensor:
    """Return the level that was arranged to this."""
    axes = [int(axis) for axis in name.split()[1:]]
    return values.permute([axes.index(axis) for axis in range(values.ndim)])


def digest_module(module: nn.Module) -> str:
    """Return a digest of a module's layers, their numbers and names, and their weights."""
    digest = hashlib.sha256()
    for name, layer in module.named_modules():
        plain = {key: value for key, value in vars(layer).items() if _is_plain(value)}
        digest.update(f"{name} {type(layer).__qualname__} {sorted(plain.items())}\n".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def key_of(images: Tensor, about: Sequence[object]) -> str:
    """Return the key of what is computed from images.

    Args:
        images: of a CPU.
        about: what it also depends on, but for code and the versions of libraries.
    """
    digest = hashlib.sha256(repr((*about, tuple(images.shape), images.dtype, _code())).encode())
    digest.update(_bytes_of(images))
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor of any type."""
    flat = tensor.detach().cpu().contiguous().view(-1)
    values: np.ndarray[Any, np.dtype[np.uint8]] = flat.view(torch.uint8).numpy()
    return values.data


@cache
def _code() -> str:
    """Return a digest of this package's files and of the versions that values depend on."""
    versions = {library: version(library) for library in ("torch", "timm", "numpy")}
    return fingerprint(versions, {path.name: path for path in Path(__file__).parent.glob("*.py")})
