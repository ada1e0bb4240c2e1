"""The point log: a file of JSON Lines, one record an action, which is only ever appended to.

A record is on the disk before its action is confirmed. The newest record of a point says what the
point is. So the logs of two people are merged by joining their lines.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, get_args

State = Literal["labelled", "removed", "skipped", "unsure"]
"""What a record says of its point: a label, no longer a label, or a suggestion without a label that
was skipped, or whose class a person cannot tell."""

ID: Final = re.compile(r"[0-9a-f]{32}")
LONGEST: Final = 1000
"""Characters of a text in a record."""
KEYS: Final = ("id", "image", "x", "y", "class", "state", "author", "time")
OPTIONAL: Final = ("shape", "action")

Shape = tuple[tuple[tuple[float, float], ...], ...]
"""Rings of a polygon, the outer one first, then holes: each of x and y in pixels of the image; the
last vertex is not the first one again."""

MOST_VERTICES: Final = 5000
ACTION: Final = re.compile(r"(do|undo|redo|rename) [0-9a-f]{8}")


@dataclass(frozen=True)
class Record:
    """One action on one point."""

    id: str
    """Of the point, 32 hexadecimal digits."""
    image: str
    """Name of the image in the project."""
    x: float
    """Columns from the left edge of the image, in pixels; the first pixel's centre is at 0.5."""
    y: float
    """Rows from the upper edge of the image, in pixels."""
    label: str | None
    """Name of the class; None where the point has no label."""
    state: State
    author: str
    time: str
    """UTC, ISO 8601 with microseconds."""
    shape: Shape = ()
    """Of a polygon; empty for a point. x and y of a polygon lie within it."""
    action: str = ""
    """What a person did: `do`, `undo`, `redo` or `rename`, and the number of what was done. Records
    of one action belong together. Logs of older versions have none."""

    def to_line(self) -> str:
        """Return the record as a line of JSON, with its line break."""
        values = (self.id, self.image, self.x, self.y, self.label, self.state)
        pairs: dict[str, Any] = dict(zip(KEYS, (*values, self.author, self.time), strict=True))
        if self.shape:
            pairs["shape"] = self.shape
        if self.action:
            pairs["action"] = self.action
        return json.dumps(pairs, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def order(self) -> tuple[str, str, str]:
        """Key by which records of one point are newer or older, the same on every machine."""
        return self.time, self.author, self.to_line()


def parse_record(line: str) -> Record:
    """Parse a line of the log.

    Raises:
        ValueError: it is no record.
    """
    values = json.loads(line)
    if not isinstance(values, dict) or set(values) - set(OPTIONAL) != set(KEYS):
        raise ValueError(f"wanted an object with the keys {', '.join(KEYS)}")
    for key in ("id", "image", "author", "time", "state"):
        if not isinstance(values[key], str) or not 0 < len(values[key]) <= LONGEST:
            raise ValueError(f"{key}: wanted text of 1 to {LONGEST} characters")
    if not ID.fullmatch(values["id"]):
        raise ValueError("id: wanted 32 hexadecimal digits")
    for key in ("x", "y"):
        if type(values[key]) not in (int, float) or not math.isfinite(values[key]):
            raise ValueError(f"{key}: wanted a finite number")
    label, state = values["class"], values["state"]
    if state not in get_args(State) or (state == "labelled") != isinstance(label, str):
        raise ValueError(f"wanted a class and state labelled, or null and {get_args(State)[1:]}")
    time_of(values["time"])
    action = values.get("action", "")
    if not isinstance(action, str) or (action and not ACTION.fullmatch(action)):
        raise ValueError("action: wanted do, undo, redo or rename, and 8 hexadecimal digits")
    return Record(
        values["id"],
        values["image"],
        float(values["x"]),
        float(values["y"]),
        label,
        state,
        values["author"],
        values["time"],
        parse_shape(values["shape"]) if "shape" in values else (),
        action,
    )


def parse_shape(values: Any) -> Shape:
    """Parse the rings of a polygon.

    Raises:
        ValueError: they are no rings of finite numbers.
    """
    if not isinstance(values, list) or not values or not all(isinstance(r, list) for r in values):
        raise ValueError("shape: wanted a list of rings")
    if sum(len(ring) for ring in values) > MOST_VERTICES:
        raise ValueError(f"shape: wanted at most {MOST_VERTICES} vertices")
    return tuple(parse_line(ring, 3) for ring in values)


def parse_line(values: Any, least: int) -> tuple[tuple[float, float], ...]:
    """Parse vertices.

    Raises:
        ValueError: they are fewer than `least`, or no pairs of finite numbers.
    """
    if not isinstance(values, list) or not least <= len(values) <= MOST_VERTICES:
        raise ValueError(f"shape: wanted {least} to {MOST_VERTICES} vertices")
    for pair in values:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("shape: wanted vertices of x and y")
        if not all(type(one) in (int, float) and math.isfinite(one) for one in pair):
            raise ValueError("shape: wanted finite numbers")
    return tuple((float(x), float(y)) for x, y in values)


def time_of(text: str) -> datetime:
    """Parse the time of a record.

    Raises:
        ValueError: it is no time.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """Format a time as records have it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class PointLog:
    """The log of a project, open for appending."""

    def __init__(self, path: Path) -> None:
        """Read the log, and remove a last line that a crash cut short.

        Args:
            path: made if it does not exist.

        Raises:
            ValueError: a line in the middle is no record.
            OSError: the file cannot be read or written.
        """
        self.path = path
        self._lock = Lock()
        if not path.exists():
            path.touch()
            _flush_folder(path.parent)  # else a power cut may lose the file's name
        records, whole = read_log(path)
        self._records = records
        if path.stat().st_size > whole:
            with path.open("rb+") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        self._size = whole
        self._file = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        self._newest = max((record.time for record in records), default="")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @property
    def records(self) -> Sequence[Record]:
        """All records, in the order of the file."""
        return self._records

    def append(self, record: Record) -> Record:
        """Write a record to the disk. It gets the current time, later than all times of the log.

        Returns:
            the record with its time, once it is on the disk.

        Raises:
            OSError: the disk is full, the file cannot be written, or another program changed it.
                Nothing was appended.
        """
        with self._lock:
            self._check_unchanged()
            record = replace(record, time=self._next_time())
            line = record.to_line().encode("utf-8")
            try:
                os.lseek(self._file, self._size, os.SEEK_SET)
                done = 0
                while done < len(line):
                    done += os.write(self._file, line[done:])
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, self._size)
                error.filename = str(self.path)
                raise
            self._size += len(line)
            self._newest = record.time
            self._records.append(record)
            return record

    def _check_unchanged(self) -> None:
        """Refuse to write where records would be lost, or others overwritten.

        Raises:
            OSError: another program replaced, removed, shortened or extended the file.
        """
        own = os.fstat(self._file)
        try:
            found = self.path.stat()
        except FileNotFoundError:
            what = "was removed"
        else:
            if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
                what = "was replaced"
            elif own.st_size != self._size:
                what = f"has been changed ({own.st_size} bytes, wanted {self._size})"
            else:
                return
        raise OSError(
            f"{self.path} {what} by another program while it was open, so nothing is written to "
            f"it. End `pointcover label`, restore the file or keep it as it is now, and start "
            f"again on the same --port. Add points of others with --merge."
        )

    def _next_time(self) -> str:
        now = format_time(datetime.now(UTC))
        if now > self._newest:
            return now
        return format_time(time_of(self._newest) + timedelta(microseconds=1))


def _flush_folder(folder: Path) -> None:
    """Flush the names of a folder's files to the disk; Windows cannot, and needs not."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read_log(path: Path) -> tuple[list[Record], int]:
    """Read a log.

    Returns:
        the records, and the number of bytes up to the last whole line.

    Raises:
        ValueError: a line is no record.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    records = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            records.append(parse_record(line.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is damaged: line {number} is no record ({error}). Delete this line, or "
                f"restore the file from a copy"
            ) from None
    return records, whole


def newest_of(records: Iterable[Record]) -> dict[str, Record]:
    """Return the newest record of each point, by id, in the order of the points' first records."""
    newest: dict[str, Record] = {}
    for record in records:
        if record.id not in newest or record.order > newest[record.id].order:
            newest[record.id] = record
    return newest


def merge_logs(paths: Iterable[Path], out: Path) -> int:
    """Write the records of several logs as one, sorted by time; equal ones once.

    Args:
        paths: of the logs.
        out: of the merged log, which may be one of them.

    Returns:
        the number of records.

    Raises:
        ValueError: a line of a log is no record.
        OSError: the disk is full.
    """
    from pointcover.runtime.atomic_files import publish_text

    records = {record for path in paths for record in read_log(path)[0]}
    publish_text(out, "".join(r.to_line() for r in sorted(records, key=lambda r: r.order)))
    return len(records)


def as_values(record: Record) -> dict[str, Any]:
    """Return a record as the page gets it."""
    values: dict[str, Any] = json.loads(record.to_line())
    return values
