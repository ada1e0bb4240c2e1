"""Keep calls that a server did not take, in the project's folder, until it takes them.

Each run has a folder below `.pointcover/unlogged`: run.json says which run it is, calls.jsonl has
a call on each line, with the files beside it, and done.txt the number of calls that were taken
since. A process that writes or reads the folder locks it.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from pointcover.runtime.atomic_files import publish_json, publish_text, read_json
from pointcover.tracking.calls import Call, Target, perform

logger = logging.getLogger(__name__)

FOLDER: Final = Path(".pointcover/unlogged")
TRY_AGAIN_S: Final = 30
"""Seconds between attempts to reach the server."""

_RUN: Final = "run.json"
_CALLS: Final = "calls.jsonl"
_DONE: Final = "done.txt"
_FILES: Final = "files"


@dataclass
class Postponed:
    """The calls of one run that wait, in a folder that this process has locked."""

    folder: Path
    _lock: FileLock
    _count: int = 0
    _try_again_s: float = -math.inf  # of the monotonic clock

    @classmethod
    def start(cls, root: Path, name: str, run: Mapping[str, Any]) -> Self:
        """Make the folder of a run, or go on with that of an attempt before.

        Args:
            root: the project's root.
            name: of the folder: the run's id, where it has one.
            run: what run.json says, by which the run is found.

        Raises:
            OSError: the folder cannot be written, or another process has it.
        """
        folder = root / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(folder)
        lock.acquire(timeout=10)
        if not (folder / _RUN).exists():
            publish_json(folder / _RUN, {**run, "began_s": time.time()})
        return cls(folder, lock, sum(1 for _ in _lines(folder)))

    def add(self, call: Call) -> None:
        """Write a call and its files.

        Raises:
            OSError: the disk is full.
        """
        source = call.source
        beside = self.folder / _FILES / str(self._count)
        shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
        if call.image is not None:
            import numpy as np

            beside.mkdir(parents=True)
            source = beside / "image.npy"
            np.save(source, call.image, allow_pickle=False)
        elif source is not None:
            beside.mkdir(parents=True)
            target = beside / source.name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
        name = None if source is None else f"{_FILES}/{self._count}/{source.name}"
        line = json.dumps({"name": call.name, "values": call.values, "source": name})
        _append(self.folder / _CALLS, f"{line}\n".encode())
        self._count += 1

    def is_due(self) -> bool:
        """Return whether the server is to be tried again."""
        return time.monotonic() >= self._try_again_s

    def wait(self) -> None:
        """Try the server again in TRY_AGAIN_S."""
        self._try_again_s = time.monotonic() + TRY_AGAIN_S

    def try_now(self) -> None:
        """Try the server again at the next call."""
        self._try_again_s = -math.inf

    def perform_all(self, target: Target, placeholder: str = "") -> int:
        """Log what waits, in order, and remove the folder; return the number of calls.

        Args:
            target: the run.
            placeholder: stands for the run's id in the calls, where it was not known.

        Raises:
            OSError: the server does not answer; what it has taken is not logged again.
            ValueError: MLflow rejects a call.
        """
        done = self._done()
        for index, line in enumerate(_lines(self.folder)):
            if index < done:
                continue
            values = json.loads(line.replace(placeholder, target.run_id) if placeholder else line)
            source = values.pop("source")
            call = Call(**values, source=None if source is None else self.folder / source)
            perform(target, call)
            publish_text(self.folder / _DONE, str(index + 1))
        count = self._count - done
        self.close(remove=True)
        return count

    def _done(self) -> int:
        path = self.folder / _DONE
        return int(path.read_text(encoding="utf-8")) if path.exists() else 0

    @property
    def run(self) -> dict[str, Any]:
        """What run.json says."""
        return dict(read_json(self.folder / _RUN))

    def set_run(self, run_id: str, model_run_id: str) -> None:
        """Note the run that was made or found for these calls, so that no second one is."""
        ids = {"run_id": run_id, "model_run_id": model_run_id}
        publish_json(self.folder / _RUN, self.run | ids)

    @property
    def count(self) -> int:
        """Number of calls that wait."""
        return self._count - self._done()

    def close(self, *, remove: bool = False) -> None:
        """Unlock the folder, and remove it if nothing waits in it."""
        if remove:
            shutil.rmtree(self.folder)
        self._lock.release()
        if remove:
            with contextlib.suppress(OSError):  # Windows may still hold it
                Path(self._lock.lock_file).unlink(missing_ok=True)


def waiting_runs(root: Path) -> list[dict[str, Any]]:
    """Return what run.json says of each run with calls that wait, oldest first."""
    found = []
    for path in (root / FOLDER).glob(f"*/{_RUN}"):
        with contextlib.suppress(FileNotFoundError):  # logged in the meantime
            found.append({**read_json(path), "folder": path.parent.name})
    return sorted(found, key=lambda run: float(run["began_s"]))


@contextlib.contextmanager
def taken(root: Path, name: str) -> Iterator[Postponed | None]:
    """Lock the folder of a run to log its calls; None where its process is alive or it is gone."""
    folder = root / FOLDER / name
    lock = _lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield None
        return
    try:
        is_there = (folder / _RUN).exists()
        yield Postponed(folder, lock, sum(1 for _ in _lines(folder))) if is_there else None
    finally:
        lock.release()


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _append(path: Path, line: bytes) -> None:
    """Write a line after the last whole one; leave no part of it where the disk is full."""
    with path.open("ab+") as out:
        size = out.tell()
        out.seek(max(0, size - 1))
        if size and out.read() != b"\n":  # a killed process left part of a line
            out.seek(0)
            size = out.read().rfind(b"\n") + 1
            out.truncate(size)
    try:
        with path.open("ab") as out:
            out.write(line)
    except OSError:
        os.truncate(path, size)
        raise


def _lines(folder: Path) -> Iterator[str]:
    """Yield whole lines; a process that was killed may have left a part of one."""
    path = folder / _CALLS
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from (line for line in lines if line.endswith("\n"))
