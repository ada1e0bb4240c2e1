"""Outputs that are whole or not there: written aside, brought to disk, then renamed."""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""Ending of what is still being written; git ignores it and the next attempt removes it."""


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Return a path to write to; what lies there becomes `path` when the block ends well.

    A block that raises leaves `path` as it was and nothing else behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + PARTIAL)
    try:
        yield aside
        flush_to_disk(aside)
        aside.replace(path)
    except OSError as error:
        # A write to a full disk fails without saying where.
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Return an empty folder to fill; it becomes `path` when the block ends well."""
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


def publish_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with publish_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def publish_json(path: Path, values: Any) -> None:
    """Write JSON that every reader accepts: a NaN in it is an error, so say null and why instead.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    publish_text(path, json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def publish_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table whole or not at all; None is an empty cell."""
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    return digest(path, "sha256")


def digest(path: Path, algorithm: str) -> str:
    """Return the digest of a file, by an algorithm that hashlib names, in hexadecimal digits."""
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


def flush_to_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk: a full disk shows itself here at the latest."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
