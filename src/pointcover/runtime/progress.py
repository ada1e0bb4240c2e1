"""Show how far long work is: a bar in a terminal, otherwise a line each half minute.

Without a terminal (CI, SLURM, DVC's queue, studies, output to a file) a bar would be one long line
or nothing. Work that ends within half a minute prints no line. Lines are written to standard error.
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Final, Self, TypeVar

LINE_S: Final = 30
"""Seconds between two lines."""

BAR: Final = "{l_bar}{bar}| {n:.1f}/{total:.1f} {unit} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
"""A bar of a quantity that is no count, such as megapixels."""

Item = TypeVar("Item")


class Progress:
    """The progress of one piece of work; a context manager."""

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        *,
        done: float = 0,
        is_shown: bool = True,
        **bar: Any,
    ) -> None:
        """Begin a bar, or wait for the first line.

        Args:
            label: what is done, such as `tiling`.
            total: number of units; None where it is unknown.
            unit: in the singular; `B` for bytes.
            done: units that were done before.
            is_shown: False shows nothing, as in one of several processes.
            bar: further arguments of the bar.
        """
        from tqdm import tqdm

        self._label, self._total, self._unit = label, total, unit
        self._done = self._before = done
        self._note = ""
        self._started_s = self._last_s = time.monotonic()
        is_terminal = sys.stderr.isatty()
        self._writes = is_shown and not is_terminal
        scale = {"unit_scale": True} if unit == "B" else {}
        self._bar = tqdm(
            desc=label,
            total=total,
            initial=done,
            unit=unit,
            disable=not (is_shown and is_terminal),
            **{"leave": False, **scale, **bar},
        )

    def update(self, units: float = 1, *, was_done: bool = False) -> None:
        """Count further units; those that `was_done` before do not count for the speed."""
        self._done += units
        if was_done:
            self._before += units
            if not self._bar.disable:
                self._bar.initial += units
        self._bar.update(units)
        if self._writes and time.monotonic() - self._last_s >= LINE_S:
            self._print(f"{self._label}: {self._counted()}", self._note, self._rate())

    @property
    def done(self) -> float:
        """The number of units that are done."""
        return self._done

    def note(self, text: str) -> None:
        """Show a text, such as the loss, at the end of the bar and of the next lines."""
        self._note = text
        if not self._bar.disable:
            self._bar.set_postfix_str(text)

    def milestone(self, text: str, *, in_terminal: bool = False) -> None:
        """Write a line at once, with the time left where there is no bar.

        Args:
            text: of the line.
            in_terminal: whether to write it above a bar, too.
        """
        if self._writes:
            self._print(text)
        elif in_terminal:
            self._bar.write(text, file=sys.stderr)

    def clear(self) -> None:
        """Remove the bar until the next update, so that something else can be printed."""
        self._bar.clear()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def __enter__(self) -> Self:
        """Return the progress."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        self.close()

    def _print(self, *parts: str) -> None:
        self._last_s = time.monotonic()
        sys.stderr.write(", ".join(filter(None, [*parts, self._left()])) + "\n")
        sys.stderr.flush()

    def _counted(self) -> str:
        unit = "" if self._unit == "B" else f" {self._unit}s"
        of = "" if self._total is None else f" of {_shown(self._total, self._unit)}"
        return f"{_shown(self._done, self._unit)}{of}{unit}"

    def _speed(self) -> float:
        """Return units a second."""
        seconds = time.monotonic() - self._started_s
        return (self._done - self._before) / seconds if seconds > 0 else 0.0

    def _rate(self) -> str:
        speed = self._speed()
        unit = "B" if self._unit == "B" else f" {self._unit}s"
        return f"{_shown(speed, self._unit)}{unit}/s" if speed >= 1 else ""

    def _left(self) -> str:
        speed = self._speed()
        if self._total is None or speed <= 0:
            return ""
        return f"{show_duration(max(self._total - self._done, 0) / speed)} left"


def show_progress(
    items: Iterable[Item], label: str, unit: str, total: int | None = None
) -> Iterator[Item]:
    """Yield items, and show how many were done; see `Progress`.

    Args:
        items: of the work.
        label: what is done.
        unit: an item, in the singular.
        total: number of items, where `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(label, total, unit) as progress:
        for item in items:
            yield item
            progress.update()


def show_duration(seconds: float) -> str:
    """Return a duration in its largest unit, rounded up: 12 s, 4 min, 2.5 h."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 360) / 10:.1f} h"


def _shown(number: float, unit: str) -> str:
    if unit == "B":
        from tqdm import tqdm

        return str(tqdm.format_sizeof(number))
    return f"{number:.1f}" if isinstance(number, float) else str(number)
