"""Atomic writes: outputs are written to a temporary path, flushed to disk, then renamed."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""Suffix of unfinished outputs. Git ignores them, and the next attempt removes them."""


TORCH_SIGNS = ("unexpected pos", "PytorchStreamWriter failed")
"""Parts of torch's messages when a file could not be written whole."""


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to `path` at the end of the block.

    If the block raises, the temporary file is removed and `path` is unchanged.

    Raises:
        OSError: the disk is full; torch's own error of that is a RuntimeError without a reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + PARTIAL)
    try:
        yield aside
        flush_to_disk(aside)
        aside.replace(path)
    except OSError as error:
        # The error of a write to a full disk names no file.
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    except RuntimeError as error:
        if not any(sign in str(error) for sign in TORCH_SIGNS):
            raise
        reason = "torch could not write it whole"
        raise OSError(errno.ENOSPC, reason, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which replaces `path` at the end of the block."""
    aside = path.with_name(path.name + PARTIAL)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                flush_to_disk(file)
        if path.exists():
            shutil.rmtree(path)
        aside.replace(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_new_file(path: Path, *, replace: bool) -> None:
    """Check that a file does not exist, or may be replaced.

    Raises:
        FileExistsError: it exists, and may not be replaced.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists: name another file, or say replace=True")


def publish_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with publish_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def publish_json(path: Path, values: Any) -> None:
    """Write standard JSON atomically: NaN is an error, use null instead.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    publish_text(path, json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def publish_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table atomically; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    publish_text(path, text.getvalue())


def read_json(path: Path) -> Any:
    """Read JSON that an earlier stage published.

    Raises:
        FileNotFoundError: the stage did not run.
        ValueError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist: run `dvc repro`, which runs the stage that writes it"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it and run `dvc repro`, which writes it again"
        ) from None


@contextmanager
def own_file(path: Path, again: str = "run `dvc repro`") -> Iterator[None]:
    """Report values that a file of an earlier stage lacks, or has in another shape, as damage.

    Args:
        path: of the file, or its folder.
        again: what to do to have it written again.

    Raises:
        ValueError: the block raised an error as of missing keys or wrong types.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if str(path) in str(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path} is damaged, or of another version ({reason}): delete it and {again}, which "
            f"writes it again"
        ) from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    return digest(path, "sha256")


def digest(path: Path, algorithm: str) -> str:
    """Return the digest of a file in hexadecimal digits, by an algorithm of hashlib."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digest_values(values: Any) -> str:
    """Return the SHA-256 of values that JSON can hold, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8")).hexdigest()


def probe_folder(folder: Path) -> None:
    """Make a folder and check that a file can be written there.

    Raises:
        OSError: it cannot.
    """
    probe = folder / f"probe{PARTIAL}"
    folder.mkdir(parents=True, exist_ok=True)
    probe.touch()
    probe.unlink(missing_ok=True)  # another process may probe, too


@contextmanager
def removing_empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder and its parents, if they are new and empty, when the block ends."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in new:
            with suppress(OSError):  # it is not empty, or was never made
                path.rmdir()


def flush_to_disk(path: Path) -> None:
    """Flush a file's bytes to the disk, which also raises the error of a full disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
