"""Answers of an annotator, written into the file of a sample one by one.

Each answer is a transaction of SQLite, so that it is on the disk, whole, before it counts. The
column `class` has the newest answers, as from a GIS; a table of all answers is only appended to.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

from pointcover.assessment.sample_file import COLUMN, ID, layers_of, read_design

TABLE: Final = "pointcover_answers"
WAIT_S: Final = 3.0
"""For another program that has the file locked."""

SPATIAL: Final = {"ST_IsEmpty": 1, "ST_MinX": 1, "ST_MaxX": 1, "ST_MinY": 1, "ST_MaxY": 1}
"""Functions in the triggers of a GeoPackage's spatial index, by number of arguments. The triggers
need them to exist, and call them only where a geometry changes."""

State = Literal["open", "labelled", "unsure"]


@dataclass(frozen=True)
class Answer:
    """What is known of one point."""

    state: State
    label: str | None


class SampleAnswers:
    """The file of a sample, open for answers."""

    def __init__(self, path: Path, author: str) -> None:
        """Open a sample.

        Args:
            path: of the file of `pointcover sample`.
            author: written beside each answer.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no sample.
            OSError: it cannot be written.
        """
        self.path, self._author = path, author
        self.design = read_design(path)
        self._layers = layers_of(path)
        self._lock = Lock()
        self._database = sqlite3.connect(path, timeout=WAIT_S, check_same_thread=False)
        try:
            with self._writing():
                for name, arguments in SPATIAL.items():
                    self._database.create_function(name, arguments, partial(_refuse, name))
                self._database.execute("PRAGMA synchronous = EXTRA")
                self._database.execute("BEGIN IMMEDIATE")
                self._database.execute(
                    f"CREATE TABLE IF NOT EXISTS {TABLE} (number INTEGER PRIMARY KEY, id INTEGER "
                    f"NOT NULL, class TEXT, author TEXT NOT NULL, time TEXT NOT NULL)"
                )
            self.answers = self._read()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def answer(self, number: int, label: str | None) -> Answer:
        """Write an answer.

        Args:
            number: id of the point.
            label: name of its class; None where a person cannot tell.

        Raises:
            KeyError: there is no such point.
            ValueError: there is no such class.
            OSError: the disk is full, or another program has locked the file.
        """
        if number not in self.answers:
            raise KeyError(f"the sample has no point {number}")
        if label is not None and label not in self.design.classes:
            raise ValueError(f"got the class {label!r}, wanted one of {self.design.classes}")
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self._lock, self._writing() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                f"INSERT INTO {TABLE} (id, class, author, time) VALUES (?, ?, ?, ?)",
                (number, label, self._author, time),
            )
            for layer in self._layers:
                database.execute(
                    f'UPDATE "{layer}" SET "{COLUMN}" = ? WHERE "{ID}" = ?', (label or "", number)
                )
        self.answers[number] = _answer(label)
        return self.answers[number]

    def _read(self) -> dict[int, Answer]:
        """Return the answers by id: the column's, and `unsure` where the last one was that."""
        found = {point.id: Answer("open", None) for point in self.design.points}
        for number, label in self._database.execute(
            f"SELECT id, class FROM {TABLE} ORDER BY number"
        ):
            if number in found:
                found[number] = Answer("open", None) if label is not None else _answer(None)
        for layer in self._layers:
            for number, label in self._database.execute(
                f'SELECT "{ID}", "{COLUMN}" FROM "{layer}"'
            ):
                text = (label or "").strip()
                if number in found and text in self.design.classes:
                    found[number] = _answer(text)
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or nothing; say what SQLite's errors mean."""
        try:
            with self._database as database:
                yield database
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text:
                raise OSError(errno.ENOSPC, "No space left on device", str(self.path)) from None
            advice = (
                "close it in the other program, such as QGIS"
                if "locked" in text
                else "check that the file can be written, and that its disk is well"
            )
            raise OSError(f"{self.path} cannot be written ({text}): {advice}") from None


def _answer(label: str | None) -> Answer:
    return Answer("unsure", None) if label is None else Answer("labelled", label)


def _refuse(name: str, *arguments: Any) -> None:
    raise ValueError(f"{name} is called, though no geometry changes")
