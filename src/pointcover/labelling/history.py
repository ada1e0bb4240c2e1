"""The labels of a project, and undo and redo of what their author did, read from the log."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import RLock

from pointcover.labelling.point_log import PointLog, Record, Shape, State, newest_of


@dataclass(frozen=True)
class Change:
    """An action that can be undone."""

    number: str
    """By which the log knows it."""
    steps: tuple[tuple[Record | None, Record], ...]
    """What was written, and what the same point was before; None where the action added it."""


class PointHistory:
    """The points and polygons of a project; a change is appended to the log before it counts."""

    def __init__(self, log: PointLog, author: str) -> None:
        """Take the points of a log, and what of the author's actions can be undone."""
        self._log = log
        self._author = author
        self._points = newest_of(log.records)
        self._done, self._undone = _replay(log.records, author)
        self._lock = RLock()

    @property
    def points(self) -> list[Record]:
        """Labelled points and polygons, oldest first."""
        with self._lock:
            return [one for one in self._points.values() if one.state == "labelled"]

    @property
    def passed_over(self) -> list[Record]:
        """Suggestions that were skipped, or whose class a person could not tell."""
        with self._lock:
            return [one for one in self._points.values() if one.state in ("skipped", "unsure")]

    @property
    def can_undo(self) -> bool:
        """Whether the author did anything that is not undone."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether the last action was an undo."""
        return bool(self._undone)

    def add(
        self, image: str, x: float, y: float, label: str | None, state: State = "labelled"
    ) -> Record:
        """Add a point, or record that a suggestion got no label.

        Raises:
            OSError: the disk is full.
        """
        record = Record(uuid.uuid4().hex, image, x, y, label, state, self._author, "")
        return self._do(None, record)

    def add_stroke(
        self,
        image: str,
        places: Sequence[tuple[float, float]],
        label: str,
        ids: Sequence[str] | None = None,
    ) -> list[Record]:
        """Add points of one class that are undone together.

        Args:
            image: name of the image.
            places: of the points.
            label: name of the class.
            ids: of the points, by default new ones. A point whose id is known is not added again.

        Returns:
            the points; fewer than places if the disk is full meanwhile.

        Raises:
            OSError: the disk is full, and no point was added.
        """
        with self._lock:
            found: list[Record] = []
            written: list[Record] = []
            number = _new_number()
            chosen = ids or [uuid.uuid4().hex for _ in places]
            for point_id, (x, y) in zip(chosen, places, strict=True):
                if point_id in self._points:
                    found.append(self._points[point_id])
                    continue
                new = Record(point_id, image, x, y, label, "labelled", self._author, "")
                try:
                    written.append(self._write(new, f"do {number}"))
                except OSError:
                    if not found:
                        raise
                    break
                found.append(written[-1])
            if written:
                self._done.append(Change(number, tuple((None, record) for record in written)))
                self._undone.clear()
            return found

    def add_polygon(
        self, image: str, shape: Shape, place: tuple[float, float], named: tuple[str, str]
    ) -> Record:
        """Add a polygon; one whose id is known is not added again.

        Args:
            image: name of the image.
            shape: its rings.
            place: within it.
            named: its id and the name of its class.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            if named[0] in self._points:
                return self._points[named[0]]
            state: State = "labelled"
            return self._do(
                None,
                Record(named[0], image, *place, named[1], state, self._author, "", shape),
            )

    def find(self, ids: Sequence[str]) -> list[Record]:
        """Return the newest records of those points that are known, also of removed ones."""
        with self._lock:
            return [self._points[one] for one in ids if one in self._points]

    def move(self, point_id: str, x: float, y: float) -> Record:
        """Move a point.

        Raises:
            KeyError: there is no such point.
            OSError: the disk is full.
        """
        before = self._labelled(point_id)
        return self._do(before, replace(before, x=x, y=y))

    def relabel(self, point_id: str, label: str) -> Record:
        """Give a point another class.

        Raises:
            KeyError: there is no such point.
            OSError: the disk is full.
        """
        before = self._labelled(point_id)
        return self._do(before, replace(before, label=label))

    def remove(self, point_id: str) -> Record:
        """Remove a point.

        Raises:
            KeyError: there is no such point.
            OSError: the disk is full.
        """
        before = self._labelled(point_id)
        return self._do(before, replace(before, label=None, state="removed"))

    def rename_class(self, old: str, new: str) -> None:
        """Give all points of a class its new name, which cannot be undone.

        Raises:
            OSError: the disk is full; some of the points may have the new name.
        """
        with self._lock:
            action = f"rename {_new_number()}"
            for point in self.points:
                if point.label == old:
                    self._write(replace(point, label=new), action)
            self._done.clear()
            self._undone.clear()

    def undo(self) -> list[Record]:
        """Undo the last action; return what was written.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            if not self._done:
                return []
            action = f"undo {self._done[-1].number}"
            written = [
                self._write(before or replace(after, label=None, state="removed"), action)
                for before, after in reversed(self._done[-1].steps)
            ]
            self._undone.append(self._done.pop())
            return written

    def redo(self) -> list[Record]:
        """Do again what was undone last; return what was written.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            if not self._undone:
                return []
            action = f"redo {self._undone[-1].number}"
            written = [self._write(after, action) for _, after in self._undone[-1].steps]
            self._done.append(self._undone.pop())
            return written

    def labels(self) -> Collection[str]:
        """Return the names of the classes that points have."""
        return {point.label for point in self.points if point.label is not None}

    def _labelled(self, point_id: str) -> Record:
        found = self._points[point_id]
        if found.state != "labelled":
            raise KeyError(point_id)
        return found

    def _do(self, before: Record | None, after: Record) -> Record:
        with self._lock:
            number = _new_number()
            record = self._write(after, f"do {number}")
            self._done.append(Change(number, ((before, record),)))
            self._undone.clear()
            return record

    def _write(self, record: Record, action: str) -> Record:
        written = self._log.append(replace(record, author=self._author, action=action))
        self._points[written.id] = written
        return written


def _new_number() -> str:
    return uuid.uuid4().hex[:8]


def _replay(records: Iterable[Record], author: str) -> tuple[list[Change], list[Change]]:
    """Return the author's actions that are done, and those that are undone, oldest first.

    Actions on a point that somebody else changed later are left out: an undo would take back the
    other one's change, too.
    """
    done: list[Change] = []
    undone: list[Change] = []
    before: dict[str, Record] = {}
    for record in records:
        kind, _, number = record.action.partition(" ")
        if record.author != author:
            for stack in (done, undone):
                stack[:] = [one for one in stack if record.id not in _ids(one)]
        elif kind == "rename":
            done.clear()
            undone.clear()
        elif kind in ("undo", "redo"):
            source, target = (done, undone) if kind == "undo" else (undone, done)
            if source and source[-1].number == number:  # once an action, however many records
                target.append(source.pop())
        else:
            step = (before.get(record.id), record)
            if done and number and done[-1].number == number:
                done[-1] = Change(number, (*done[-1].steps, step))
            else:
                done.append(Change(number or _new_number(), (step,)))
            undone.clear()
        before[record.id] = record
    return done, undone


def _ids(change: Change) -> set[str]:
    return {record.id for _, record in change.steps}
