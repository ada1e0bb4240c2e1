"""The point log: nothing confirmed is lost, and logs merge."""

import errno
import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointcover.labelling.history import PointHistory
from pointcover.labelling.point_log import PointLog, merge_logs, newest_of, read_log

Action = tuple[str, int]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "stroke", "move", "relabel", "remove", "skip", "undo", "redo"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


def act(history: PointHistory, actions: Sequence[Action]) -> None:
    for what, number in actions:
        points = history.points
        if what == "add":
            history.add("a <b>.tif", number + 0.5, 7, f"class {number % 2}")
        elif what == "stroke":
            places = [(number + step, 9) for step in range(3)]
            history.add_stroke("b.tif", places, "class 0")
        elif what == "skip":
            history.add("a <b>.tif", number + 0.5, 7, None, "skipped")
        elif what in ("undo", "redo"):
            getattr(history, what)()
        elif points:
            chosen = points[number % len(points)].id
            more = {"move": (number, 2 * number), "relabel": ("other",), "remove": ()}[what]
            getattr(history, what)(chosen, *more)


def reopened(path):
    log = PointLog(path)
    try:
        return PointHistory(log, "anna").points
    finally:
        log.close()


@given(ACTIONS)
def test_a_project_reopens_with_the_same_points(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("log") / "points.jsonl"
    log = PointLog(path)
    history = PointHistory(log, "anna")
    act(history, actions)
    log.close()
    assert reopened(path) == history.points


@given(ACTIONS.filter(lambda actions: any(what == "add" for what, _ in actions)), st.data())
def test_a_cut_at_any_byte_loses_at_most_the_last_record(tmp_path_factory, actions, data):
    path = tmp_path_factory.mktemp("log") / "points.jsonl"
    log = PointLog(path)
    act(PointHistory(log, "anna"), actions)
    log.close()
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    log = PointLog(path)
    assert log.records == read_log(path)[0]
    assert len(log.records) == whole
    PointHistory(log, "anna").add("b.tif", 1, 2, "x")
    log.close()
    assert len(read_log(path)[0]) == whole + 1


def test_undo_and_redo_take_back_and_repeat(tmp_path):
    log = PointLog(tmp_path / "points.jsonl")
    history = PointHistory(log, "anna")
    first = history.add("a.tif", 1, 2, "land")
    history.move(first.id, 5, 6)
    history.remove(first.id)
    assert history.points == []
    history.undo()
    assert [(p.x, p.y, p.label) for p in history.points] == [(5, 6, "land")]
    history.undo()
    assert [(p.x, p.y) for p in history.points] == [(1, 2)]
    history.redo()
    assert [(p.x, p.y) for p in history.points] == [(5, 6)]
    history.undo()
    history.undo()
    assert (history.points, history.undo(), history.can_undo) == ([], [], False)
    history.add("a.tif", 1, 2, "water")
    assert not history.can_redo
    log.close()


def shown(history):
    return sorted((p.id, p.x, p.y, p.label) for p in history.points)


@given(ACTIONS, ACTIONS)
def test_undo_goes_on_after_a_restart(tmp_path_factory, first, second):
    """Undo and redo do the same in a session that goes on and in one that begins anew."""
    path = tmp_path_factory.mktemp("log") / "points.jsonl"
    log = PointLog(path)
    history = PointHistory(log, "anna")
    act(history, first)
    log.close()
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(path.read_bytes())
    logs = [PointLog(path), PointLog(copy)]
    going, again = history, PointHistory(logs[1], "anna")
    going._log = logs[0]
    for what, number in second:
        if what in ("undo", "redo"):
            act(going, [(what, number)])
            act(again, [(what, number)])
            assert shown(again) == shown(going)
            assert (again.can_undo, again.can_redo) == (going.can_undo, going.can_redo)
    while going.can_undo:
        going.undo()
        again.undo()
    assert shown(again) == shown(going) == []
    for one in logs:
        one.close()


def test_undo_after_a_restart_leaves_what_somebody_else_changed(tmp_path):
    path = tmp_path / "points.jsonl"
    log = PointLog(path)
    anna, ben = PointHistory(log, "anna"), PointHistory(log, "ben")
    first = anna.add("a.tif", 1, 2, "land")
    anna.add("a.tif", 3, 4, "land")
    ben._points = newest_of(log.records)
    ben.relabel(first.id, "water")
    again = PointHistory(log, "anna")
    assert [p.id for p in again.undo()] != [first.id]
    assert [(p.id, p.label) for p in again.points] == [(first.id, "water")]
    assert not again.can_undo
    log.close()


def test_a_renamed_class_ends_what_can_be_undone_after_a_restart(tmp_path):
    log = PointLog(tmp_path / "points.jsonl")
    history = PointHistory(log, "anna")
    history.add("a.tif", 1, 2, "land")
    history.rename_class("land", "soil")
    assert not PointHistory(log, "anna").can_undo
    log.close()


def test_a_stroke_is_undone_at_once(tmp_path):
    log = PointLog(tmp_path / "points.jsonl")
    history = PointHistory(log, "anna")
    history.add("a.tif", 1, 2, "land")
    assert len(history.add_stroke("a.tif", [(3, 4), (5, 6), (7, 8)], "water")) == 3
    assert len(history.undo()) == 3
    assert [point.label for point in history.points] == ["land"]
    history.redo()
    assert [point.x for point in history.points] == [1, 3, 5, 7]
    log.close()


def test_a_full_disk_is_an_error_and_leaves_no_half_record(tmp_path, monkeypatch):
    path = tmp_path / "points.jsonl"
    log = PointLog(path)
    history = PointHistory(log, "anna")
    history.add("a.tif", 1, 2, "land")
    before = path.read_bytes()
    write = os.write

    def full(file: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content[: len(content) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left.*points\.jsonl"):
            history.add("a.tif", 3, 4, "land")
    assert path.read_bytes() == before
    assert len(history.points) == 1
    history.add("a.tif", 3, 4, "land")
    log.close()
    assert len(reopened(path)) == 2


def _replace(path):
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def _extend(path):
    with path.open("ab") as file:
        file.write(path.read_bytes())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_replace, "was replaced"),
        (_extend, "has been changed"),
        (lambda path: os.truncate(path, 5), "has been changed"),
        (os.remove, "was removed"),
    ],
)
def test_a_log_that_another_program_changed_is_not_written(tmp_path, change, what):
    path = tmp_path / "points.jsonl"
    log = PointLog(path)
    history = PointHistory(log, "anna")
    history.add("a.tif", 1, 2, "land")
    change(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(OSError, match=rf"points\.jsonl {what} .*start again"):
        history.add("a.tif", 3, 4, "land")
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(history.points) == len(log.records) == 1
    log.close()


def test_logs_of_two_people_merge_in_any_order(tmp_path):
    paths = [tmp_path / name for name in ("anna.jsonl", "ben.jsonl")]
    log = PointLog(paths[0])
    shared = PointHistory(log, "anna").add("a.tif", 1, 2, "land")
    log.close()
    paths[1].write_bytes(paths[0].read_bytes())
    for path, author in zip(paths, ("anna", "ben"), strict=True):
        log = PointLog(path)
        history = PointHistory(log, author)
        history.add("a.tif", 3, 4, author)
        history.relabel(shared.id, f"by {author}")
        log.close()
    merged = []
    for number, order in enumerate((paths, paths[::-1])):
        out = tmp_path / f"merged_{number}.jsonl"
        assert merge_logs(order, out) == 5
        merged.append(out.read_bytes())
    assert merged[0] == merged[1]
    points = newest_of(read_log(out)[0])
    assert len(points) == 3
    assert points[shared.id].label == "by ben"  # the later one


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[1]",
        "no JSON",
        '{"id": "x", "image": "a", "x": 1, "y": 1, "class": "a", "state": "labelled", '
        '"author": "a", "time": "2026-01-01T00:00:00.000000Z"}',
    ],
)
def test_a_damaged_line_is_named_with_its_number(tmp_path, line):
    path = tmp_path / "points.jsonl"
    log = PointLog(path)
    PointHistory(log, "anna").add("a.tif", 1, 2, "land")
    log.close()
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"points\.jsonl is damaged: line 2 is no record"):
        PointLog(path)


def test_times_grow_where_the_clock_was_set_back(tmp_path):
    path = tmp_path / "points.jsonl"
    log = PointLog(path)
    point = PointHistory(log, "anna").add("a.tif", 1, 2, "land")
    log.close()
    path.write_text(path.read_text().replace(point.time[:4], "2999", 1))
    log = PointLog(path)
    PointHistory(log, "anna").move(point.id, 3, 4)
    log.close()
    assert [(p.x, p.y, p.time[:4]) for p in reopened(path)] == [(3, 4, "2999")]
