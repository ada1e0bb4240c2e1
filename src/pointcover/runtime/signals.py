"""How processes end: with their parent, and on a signal only once things are in order."""

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

SIGNAL_GRACE_S = 20
ItemT = TypeVar("ItemT")


def end_with_parent(number: int, parent: int | None = None) -> None:
    """Ask Linux to send this process a signal when its parent dies; other systems cannot.

    What counts is the end of the thread that started this process, not only of its process.

    Args:
        number: of the signal.
        parent: process id of the parent, for one that may have died before it could be asked.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), number)


@dataclass
class _Signals:
    """What is known of signals that ask this process to end."""

    holds: int = 0
    waiting: int | None = None
    first_s: float = -math.inf


_signals = _Signals()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal that comes in the block end the process right after it.

    For what others see half done where it is cut short: a library's transaction that is left open
    locks its database even for the one who would put things in order.
    """
    _hold_signals()
    try:
        yield
    finally:
        _release_signals()


@contextmanager
def entered_whole(make: Callable[[], AbstractContextManager[ItemT]]) -> Iterator[ItemT]:
    """Enter and leave a context whole: a signal meanwhile ends the process right after.

    For what must not be left between two states, such as an MLflow run that exists and that nobody
    will end. In the block itself signals end the process as ever.

    Args:
        make: gives the context; it, too, is not cut short.
    """
    with ExitStack() as stack:
        stack.enter_context(uninterrupted())
        value = stack.enter_context(make())
        stack.callback(_hold_signals)
        _release_signals()
        yield value


def _hold_signals() -> None:
    _signals.holds += 1


def _release_signals() -> None:
    _signals.holds -= 1
    if _signals.waiting is not None and not _signals.holds:
        number, _signals.waiting = _signals.waiting, None
        end_on_signal(number, None)


def end_on_signals() -> None:
    """Let SIGTERM, SIGINT and SIGHUP end this process by SystemExit: `finally` blocks run."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_on_signal)


def end_on_signal(number: int, _frame: object) -> None:
    """End the process, once: the next signals must not cut short what ends it in good order.

    Where Ctrl-C or a signal to the whole group ends `dvc` too, the stage gets SIGTERM on top. Later
    ones count again: Python drops the first where it arrives in a destructor.
    """
    now_s = time.monotonic()
    if _signals.holds:
        _signals.waiting = number
    elif now_s - _signals.first_s > SIGNAL_GRACE_S:
        _signals.first_s = now_s
        sys.exit(128 + number)
