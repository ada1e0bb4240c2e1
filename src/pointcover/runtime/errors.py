"""Report errors of stages and commands as one message and an exit code."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

DEBUG_SWITCH = "POINTCOVER_DEBUG"
MEMORY_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a primitive",  # oneDNN
    "can't start new thread",
)
"""Parts of the messages of torch, CUDA and Python when memory is full, in lower case."""

LOADER_SIGN = "failed to map segment"
"""Part of the message of a shared library that cannot be loaded since memory is full."""

DISK_SIGNS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

LOWER = {
    "predict": "--batch-size or --window-px (or, if only the polygons are missing, leave out "
    "--polygons)",
    "suggest": "--batch-size",
    "train": "train.batch_size or train.crop_px",
    "evaluate": "evaluate.batch_size",
    "tile": "machine.workers",
    "annotate": "machine.workers",
}
"""What to lower for a command or stage to take less memory."""

EXTRAS = {
    "maps": ("onnxruntime", "google"),
    "onnx": ("onnx", "onnxscript", "openvino"),
    "label": ("starlette", "uvicorn", "xstatic"),
    "cluster": ("distributed", "dask"),
    "s3": ("boto3", "botocore"),
    "server": ("psycopg2",),
    "preview": ("matplotlib",),
    "search": ("optuna",),
}
"""Packages by the extra of pyproject.toml that installs them; the others are in `train`."""

PREDICT_EXTRAS = {
    "polygons": ("geopandas", "pandas", "pyogrio", "pyproj", "shapely", "scipy"),
}
"""Further ones for `pointcover predict`; other commands with these packages need all of `train`."""


@contextmanager
def one_message(name: str) -> Iterator[None]:
    """Report an error raised in the block as one message on stderr, and exit with code 1.

    Args:
        name: of the stage or command; the message begins with it.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if is_out_of_memory(error):
            _fail(name, _message_of_memory(name, error))
        _fail(name, _message_of(error))
    except ModuleNotFoundError as error:
        _fail(name, _message_of_missing(name, error))
    except Exception as error:
        if is_out_of_memory(error):
            _fail(name, _message_of_memory(name, error))
        _fail(name, _message_of_defect(error))


def _fail(name: str, message: str) -> NoReturn:
    if os.environ.get(DEBUG_SWITCH):
        raise
    sys.stderr.write(f"\n{name}: {message}\n")
    sys.exit(1)


def _message_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in DISK_SIGNS:
        path = error.filename2 or error.filename  # of a copy, the first is what is copied
        where = f" while writing {path}" if path else ""
        return (
            f"the disk is full{where} ({error.strerror}{describe_disk(path)}): free some space "
            f"and run the stage again"
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = Path(str(error.filename or "")).name
        return (
            f"the name {name!r} has {len(name.encode())} bytes, more than the disk allows (often "
            f"255): rename the image or output that it comes from"
        )
    return str(error)


def describe_disk(path: object) -> str:
    """Return how much of the disk of a file is free, for a message; empty if it is not known."""
    if not isinstance(path, str | os.PathLike):
        return ""
    with suppress(OSError, StopIteration):
        folder = next(one for one in Path(path).absolute().parents if one.is_dir())
        usage = shutil.disk_usage(folder)
        return f"; {usage.free / 1e6:.0f} of {usage.total / 1e6:.0f} MB of {folder} are free"
    return ""


def _message_of_defect(error: Exception) -> str:
    return (
        f"unexpected {type(error).__name__}: {error}. This is a defect of pointcover: run "
        f"again with {DEBUG_SWITCH}=1 to see where, and report it"
    )


def _message_of_missing(name: str, error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    if package in ("", "pointcover"):
        return _message_of_defect(error)
    extras = EXTRAS | (PREDICT_EXTRAS if name == "pointcover predict" else {})
    extra = next((extra for extra, packages in extras.items() if package in packages), "train")
    return (
        f"needs the package {error.name!r}, which this python ({sys.executable}) lacks: run `pip "
        f"install 'pointcover[{extra}]'`; in a clone, `make setup`, then `source "
        f".venv/bin/activate`"
    )


@contextmanager
def naming_packages(name: str) -> Iterator[None]:
    """Let a failed import in the block say how to install the package.

    Args:
        name: of what needs it; the message begins with it.

    Raises:
        ModuleNotFoundError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "pointcover"):
            raise
        text = f"{name} {_message_of_missing(name, error)}"
        raise ModuleNotFoundError(text, name=error.name) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the machine or device is full.

    On a CPU torch raises RuntimeError. torch is not imported here.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or LOADER_SIGN in text
    return isinstance(error, RuntimeError | ImportError) and any(
        sign in text for sign in (*MEMORY_SIGNS, LOADER_SIGN)
    )


def _message_of_memory(name: str, error: Exception) -> str:
    reason = " ".join(str(error).partition("\n")[0].split()) or type(error).__name__
    lower = next((what for work, what in LOWER.items() if work in name), "the amount of work")
    return (
        f"the memory is full ({reason[:200]}): lower {lower}, end other programs, or use a "
        f"machine with more memory"
    )
