"""Resume a killed training: the state that it saved, found by the next attempt.

DVC removes a stage's outputs before it runs, so states are saved elsewhere, below the project's
root: experiments in copies of the tree (``--temp``, ``--queue``) find them too. Each training has a
folder of its own, named by its fingerprint, which one process at a time locks.
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import torch
from filelock import FileLock, Timeout

from pointcover.runtime.atomic_files import PARTIAL, publish_file, publish_text, sha256

logger = logging.getLogger(__name__)

FOLDER: Final = Path(".pointcover/resume")
KEPT_DAYS: Final = 14
"""Folders that were not used for so long are removed: a state takes some hundred megabytes."""


MAX_SAVING_FRACTION: Final = 0.1
"""Saving takes at most this fraction of the time: where epochs take less than some ten seconds, as
on a GPU, only some are saved."""

_WAIT_S: Final = 10
_GLOBAL_WAIT_S: Final = 120
_RUN: Final = "run.txt"


class Resumption:
    """The folder of one training, locked until the ``with`` block ends.

    Where another process has locked it (the same training in two experiments at once), this one
    neither loads nor saves.
    """

    def __init__(self, root: Path, name: str) -> None:
        """Take the project's root and the training's fingerprint."""
        self._folders = root / FOLDER
        self._folder = self._folders / name
        self._lock: FileLock | None = None
        self._save_again_s = -math.inf  # of the monotonic clock

    def __enter__(self) -> Self:
        """Lock the folder, and remove those of abandoned trainings."""
        self._folders.mkdir(parents=True, exist_ok=True)
        # A process that is being killed may still hold the lock.
        deadline = time.monotonic() + _WAIT_S
        while self._lock is None:
            with self._all_folders():
                self._lock = _hold(self._folder)
                self._clean()
            if self._lock is None and time.monotonic() > deadline:
                logger.warning(
                    "the same training runs in another process: if this one is killed, it begins "
                    "anew"
                )
                break
            if self._lock is None:
                time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unlock the folder; its files stay."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def load(self) -> dict[str, Any] | None:
        """Read the newest state; None where there is none or it is damaged."""
        states = self._states()
        if not states:
            return None
        newest = states[-1]
        try:
            if sha256(newest) != newest.stem.partition("-")[2]:
                raise ValueError("its bytes are not those that were written")
            state = torch.load(newest, map_location="cpu", weights_only=True)
            assert isinstance(state, dict)
            return state
        except Exception as error:  # damaged files raise many kinds
            reason = " ".join(str(error).split())[:200]
            logger.warning("%s is damaged (%s): training begins anew", newest, reason)
            # Its MLflow run holds epochs that are now computed again.
            for path in (*states, self._folder / _RUN):
                path.unlink(missing_ok=True)
            return None

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch; the last one is removed after this one is complete.

        An epoch that follows too soon (MAX_SAVING_FRACTION) is not saved.

        Raises:
            OSError: the disk is full.
        """
        began_s = time.monotonic()
        if self._lock is None or began_s < self._save_again_s:
            return
        before = self._states()
        fresh = self._folder / "state.pt"
        with publish_file(fresh) as aside:
            torch.save(dict(state), aside)
        # torch does not notice a flipped byte, so the name holds the SHA-256.
        fresh.replace(self._folder / f"{epoch:06}-{sha256(fresh)}.pt")
        for path in before:
            path.unlink()
        ended_s = time.monotonic()
        self._save_again_s = ended_s + (ended_s - began_s) * (1 / MAX_SAVING_FRACTION - 1)

    @property
    def run_id(self) -> str | None:
        """The MLflow run that the training is recorded in, if it began one."""
        path = self._folder / _RUN
        if self._lock is None or not path.is_file():
            return None
        return path.read_text(encoding="utf-8").strip() or None

    @run_id.setter
    def run_id(self, value: str) -> None:
        if self._lock is not None:
            publish_text(self._folder / _RUN, value + "\n")

    def remove(self) -> None:
        """Remove the folder: the training is done."""
        if self._lock is not None:
            with self._all_folders():
                _remove(self._folder)

    def _states(self) -> list[Path]:
        if self._lock is None:
            return []
        return sorted(path for path in self._folder.glob("*-*.pt"))

    @contextmanager
    def _all_folders(self) -> Iterator[None]:
        """Lock creating and removing folders, so that none is removed while it is created.

        Raises:
            TimeoutError: a process that holds this lock hangs.
        """
        path = self._folders / "folders.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=_GLOBAL_WAIT_S)
        except Timeout:
            raise TimeoutError(
                f"{path} has been locked for {_GLOBAL_WAIT_S} s: a process that opens the folder "
                f"hangs; end it, then run this again"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _clean(self) -> None:
        """Remove folders that were not used for KEPT_DAYS, unless a process has locked them."""
        for folder in self._folders.iterdir():
            if not folder.is_dir() or folder == self._folder:
                continue
            if folder.name.endswith(PARTIAL):  # an interrupted removal
                shutil.rmtree(folder, ignore_errors=True)
                continue
            touched_s = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - touched_s > KEPT_DAYS * 86400 and (lock := _hold(folder)):
                lock.release()
                _remove(folder)


def _hold(folder: Path) -> FileLock | None:
    """Lock a folder, which is created if missing; None where another process has locked it."""
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "owner.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _remove(folder: Path) -> None:
    """Remove a folder under another name, so that an interrupted removal leaves no half state."""
    aside = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(aside, ignore_errors=True)
    folder.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)
