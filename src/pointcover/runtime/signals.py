"""Signals: processes end with their parent, and clean up before they end on a signal."""

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

SIGNAL_GRACE_S = 20
KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
"""The signal that ends a process at once; Windows has one signal for both."""
ItemT = TypeVar("ItemT")


def end_with_parent(number: int, parent: int | None = None) -> None:
    """Ask Linux to send this process a signal when its parent dies; elsewhere do nothing.

    The signal is sent at the end of the thread that started this process.

    Args:
        number: of the signal.
        parent: process id of the parent, if it may have died before this call.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), number)


@dataclass
class _Signals:
    """The state of signals that end this process."""

    holds: int = 0
    waiting: int | None = None
    first_s: float = -math.inf


_signals = _Signals()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer signals during the block: they end the process right after it.

    Use it for operations that must not be interrupted half-way: a transaction that a library leaves
    open locks its database even for the code that cleans up.
    """
    _hold_signals()
    try:
        yield
    finally:
        _release_signals()


@contextmanager
def entered_whole(make: Callable[[], AbstractContextManager[ItemT]]) -> Iterator[ItemT]:
    """Defer signals while a context is entered or left, but not in its block.

    Use it for contexts that must not be left half-entered, such as an MLflow run that exists but
    would never be ended.

    Args:
        make: returns the context; signals are deferred during this call too.
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


@contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """Raise an error in the block after some seconds, also within a regular expression or a read.

    Only the main thread can be interrupted: in others, and on Windows, there is no limit.

    Raises:
        TimeoutError: with the message.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "SIGALRM"):
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_on_signals() -> None:
    """Make SIGTERM, SIGINT and SIGHUP raise SystemExit, so that `finally` blocks run."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), end_on_signal)


def end_on_signal(number: int, _frame: object) -> None:
    """End the process by SystemExit, and ignore further signals for SIGNAL_GRACE_S: cleanup runs.

    When Ctrl-C or a signal to the process group also ends `dvc`, the stage gets SIGTERM as well.
    Signals after the grace period count again, since Python drops one that arrives in a destructor.
    """
    now_s = time.monotonic()
    if _signals.holds:
        _signals.waiting = number
    elif now_s - _signals.first_s > SIGNAL_GRACE_S:
        _signals.first_s = now_s
        sys.exit(128 + number)
