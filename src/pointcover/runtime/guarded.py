"""Programs that end with the process that started them, also if that is killed.

Between both runs a guard, `python -m pointcover.runtime.guarded COMMAND…`. Its standard input is a
pipe that only the starting process holds open. The system closes it when that process ends, however
it ends, and the guard then ends the program and all processes of its session. Linux could send a
signal instead, but at the end of the thread that started the program, and only to one process.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Final

from pointcover.runtime.python_path import NOTHING, with_this_python
from pointcover.runtime.signals import KILL, end_with_parent

GRACE_S: Final = 5.0
"""Time for a program to end by itself, before it is killed."""

CHECK_S: Final = 0.5
"""Time between two looks of the guard at its parent, of which a copy may hold the pipe open."""


class GuardedProcess:
    """A program that ends with this process."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        log: Path,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        """Start it.

        Args:
            command: with its arguments.
            folder: the working folder.
            log: file of its output, which is overwritten.
            environment: more variables, for what no list of processes may show.
        """
        with log.open("wb") as out:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", __name__, *command],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=with_this_python(environment),
                start_new_session=True,  # Ctrl-C is for this process, which then ends the program
            )

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._guard.poll()

    def wait(self) -> int:
        """Wait for its end, and return the exit status."""
        return self._guard.wait()

    def end(self) -> None:
        """End it, if it runs, with all processes of its session."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(3 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()


def guard(command: Sequence[str]) -> int:
    """Run a program until it ends, or until the process that started this one does.

    Returns:
        the exit status of the program.
    """
    wants_end = Event()
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda _number, _frame: wants_end.set())
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # If this guard is killed; it has no other threads yet.
        preexec_fn=partial(end_with_parent, signal.SIGTERM) if sys.platform == "linux" else None,
    )
    Thread(target=_wait_for_end_of_input, args=(wants_end,), daemon=True).start()
    while program.poll() is None and not wants_end.wait(CHECK_S):
        if os.name == "posix" and os.getppid() != parent:
            break
    _end(program)
    return program.wait()


def _wait_for_end_of_input(wants_end: Event) -> None:
    while os.read(0, 1024):
        pass
    wants_end.set()


def _end(program: "subprocess.Popen[bytes]") -> None:
    """End a program and what it started; Windows ends the program alone."""
    for number in (signal.SIGTERM, KILL):
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(program.pid, number)
            else:
                program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_S)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
