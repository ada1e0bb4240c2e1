"""Name the inputs of experiments by their contents, so that they have one name on all machines."""

import copy
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pointcover.runtime.atomic_files import digest_values, publish_json, read_json, sha256
from pointcover.runtime.progress import Progress

FOLDERS: Final = ("source", "annotations", "evaluate.ensemble")
"""Settings that are paths of folders or files with data."""

FILES: Final = ("dataset", "train.weights_file")
"""Settings that are a name or the path of a file."""

SOURCES: Final = "sources"
"""Folder of a project with its own cards, on which its first stage always depends."""

IGNORED: Final = (".DS_Store", "Thumbs.db", "__pycache__")
"""Names of files and folders that programs leave beside data, which DVC ignores too."""

JOURNAL_INDEX: Final = "-shm"
"""Ending of SQLite's index of a journal, which changes when a file is read, and holds no data."""

KEPT: Final = Path(".pointcover") / "contents.json"


class Inputs:
    """The contents of the files that experiments depend on.

    Digests are kept in the project by path, size and time of the last change, so that a file is
    read once, and again when it changes.
    """

    def __init__(self, root: Path) -> None:
        """Read the digests that were kept; without them, or if they are damaged, files are read.

        Args:
            root: the project's folder.
        """
        self._root = root
        self._digests: dict[Path, str] = {}
        try:
            found = dict(read_json(root / KEPT))
        except (OSError, ValueError, TypeError):
            found = {}
        self._kept: dict[str, list[Any]] = {
            key: mark for key, mark in found.items() if isinstance(mark, list) and len(mark) == 3
        }
        self._is_changed = False

    def name(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings in which the contents of files stand for their paths.

        Args:
            values: the contents of params.yaml.

        Returns:
            a copy, with a digest for each setting that is the path of an existing file or folder,
            and one of the project's folder `sources`.
        """
        named = copy.deepcopy(dict(values))
        for dotted in (*FOLDERS, *FILES):
            *sections, key = dotted.split(".")
            at = named
            for section in sections:
                at = at.get(section, {})
            path = self._root / str(at.get(key))
            if path.is_file() or (dotted in FOLDERS and path.is_dir()):
                at[key] = self._digest(path)
        named[f"files of {SOURCES}"] = self._digest(self._root / SOURCES)
        return named

    def _digest(self, path: Path) -> str:
        """Return a digest of the relative names and contents of a folder's files, or of a file."""
        if path not in self._digests:
            files = [path] if path.is_file() else sorted(path.rglob("*"))
            files = [file for file in files if file.is_file() and not _is_ignored(file, path)]
            states = {file: file.stat() for file in files}
            size = sum(state.st_size for state in states.values())
            digests = {}
            try:
                with Progress(f"reading {path}", size, "B") as progress:
                    for file, state in states.items():
                        digests[file.relative_to(path).as_posix()] = self._digest_file(file, state)
                        progress.update(state.st_size)
            finally:  # what was read before an interruption is not read again
                self._keep()
            self._digests[path] = digest_values(digests)
        return self._digests[path]

    def _keep(self) -> None:
        """Write the digests, by a file of this process's own: other studies write them, too.

        A study does not end where they cannot be written.
        """
        if self._is_changed:
            kept = self._root / KEPT
            own = kept.with_name(f"{kept.stem}-{os.getpid()}{kept.suffix}")
            with suppress(OSError):
                publish_json(own, self._kept)
                own.replace(kept)
            self._is_changed = False

    def _digest_file(self, file: Path, state: os.stat_result) -> str:
        key, mark = str(file.resolve()), [state.st_size, state.st_mtime_ns]
        if self._kept.get(key, [])[:2] != mark:
            self._kept[key] = [*mark, sha256(file)]
            self._is_changed = True
        return str(self._kept[key][2])


def _is_ignored(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    return file.name.endswith(JOURNAL_INDEX) or any(part in IGNORED for part in parts)
