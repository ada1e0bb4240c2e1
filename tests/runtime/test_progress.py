"""Work shows a line each half minute without a terminal, and a bar in one."""

import io

import pytest

from pointcover.runtime import progress as module
from pointcover.runtime.progress import Progress, show_duration, show_progress
from tests.imagery import ROOT


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_a_line_each_half_minute_says_count_and_time_left(clock, capsys):
    for _ in show_progress(range(10), "tiling", "orthophoto"):
        clock.now_s += 11
    assert capsys.readouterr().err.splitlines() == [
        "tiling: 3 of 10 orthophotos, 2 min left",
        "tiling: 6 of 10 orthophotos, 44 s left",
        "tiling: 9 of 10 orthophotos, 11 s left",
    ]


def test_short_work_prints_nothing(clock, capsys):
    for _ in show_progress(range(10), "tiling", "orthophoto"):
        clock.now_s += 1
    assert capsys.readouterr().err == ""


def test_an_epoch_is_a_line_with_its_numbers_and_restarts_the_half_minute(clock, capsys):
    with Progress("training", 400, "image", done=100) as shown:
        clock.now_s += 20
        shown.update(100)
        shown.milestone("epoch 2 of 4: loss 0.500, val mIoU 0.610, 5 images/s")
        shown.note("loss 0.500, val mIoU 0.610")
        clock.now_s += 20
        shown.update(50)
        clock.now_s += 20
        shown.update(50)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 2 of 4: loss 0.500, val mIoU 0.610, 5 images/s, 40 s left",
        "training: 300 of 400 images, loss 0.500, val mIoU 0.610, 3.3 images/s, 30 s left",
    ]


def test_work_of_an_earlier_attempt_does_not_count_for_the_time_left(clock, capsys):
    with Progress("mapping", 100.0, "megapixel") as shown:
        clock.now_s += 1
        shown.update(80.0, was_done=True)
        clock.now_s += 30
        shown.update(10.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "mapping: 90.0 of 100.0 megapixels, 31 s left"


def test_bytes_have_prefixes_and_an_unknown_total_no_time_left(clock, capsys):
    with Progress("tiles.zip", None, "B") as shown:
        clock.now_s += 30
        shown.update(60_000_000)
    assert capsys.readouterr().err == "tiles.zip: 60.0M, 2.00MB/s\n"


def test_other_processes_of_a_training_show_nothing(clock, capsys):
    with Progress("training", 10, "image", is_shown=False) as shown:
        clock.now_s += 60
        shown.update(5)
        shown.milestone("epoch 1 of 2")
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_and_no_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("mapping", 10, "image") as shown:
        shown.update(5)
        shown.note("loss 0.500")
        shown.milestone("epoch 1 of 2")
        shown.milestone("one: test mIoU 0.5", in_terminal=True)
    written = terminal.getvalue()
    assert "mapping:  50%" in written
    assert "epoch 1 of 2" not in written
    assert "one: test mIoU 0.5\n" in written


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "1 s"), (59, "59 s"), (61, "2 min"), (6000, "1.7 h")]
)
def test_durations_are_rounded_up(seconds, shown):
    assert show_duration(seconds) == shown


def test_every_command_shows_progress_in_this_way():
    """A bar of tqdm prints nothing for hours where there is no terminal."""
    users = {
        path.name for path in (ROOT / "src").rglob("*.py") if "import tqdm" in path.read_text()
    }
    assert users == {"progress.py"}
