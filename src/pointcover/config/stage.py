"""Run a stage: signals, validated params, a lock, and errors as one message."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.runtime.errors import one_message
from pointcover.runtime.signals import KILL, end_on_signals, end_with_parent

if TYPE_CHECKING:  # these need packages that may be missing, which `run_stage` reports
    from filelock import FileLock

    from pointcover.config.params import Params

LOCK_TIMEOUT_S = 20


def is_assistant() -> bool:
    """Return whether a stage started this process, to compute on a further device."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def run_stage(work: "Callable[[Params], None]") -> None:
    """Run one stage in the current folder and end the process with its exit code.

    All of params.yaml is validated before `work` begins. Errors that a user can correct
    (ValueError, OSError) become one message and exit code 1. A signal ends the stage with exit code
    128 + its number, never with 0, which DVC would treat as success.

    Args:
        work: the stage. It imports what it needs when it is called: importing torch takes seconds,
            and signals and the environment must be set before.
    """
    # Without `dvc` as parent, the stage would write at the same time as the next attempt. An
    # assistant process has nothing to clean up, and may be in a library that runs no handler.
    end_with_parent(KILL if is_assistant() else signal.SIGTERM)
    end_on_signals()
    # Read by OpenMP when torch loads it. By default waiting threads spin: on a CPU with other
    # programs a training step took five times as long (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    level = logging.WARNING if is_assistant() else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    name = Path(sys.argv[0]).stem
    label = f"{name} (process {os.environ['LOCAL_RANK']})" if is_assistant() else name
    with one_message(label):
        from pointcover.config.params import load_params
        from pointcover.runtime.code_lock import check_lock

        check_lock(Path(sys.argv[0]))
        params = load_params(Path("params.yaml"))
        with nullcontext() if is_assistant() else _only_writer(name):
            work(params)


def _only_writer(name: str) -> "AbstractContextManager[FileLock]":
    """Lock this stage in this folder; wait up to LOCK_TIMEOUT_S for a process that still ends.

    Raises:
        ValueError: another process still runs the stage here.
    """
    from filelock import FileLock, Timeout

    folder = Path(".dvc/tmp/pointcover")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout:
        raise ValueError(
            f"another process runs {name!r} in {Path.cwd()}: wait for it, or end it "
            f"(`pkill -f stages/{name}.py`), and try again"
        ) from None
    return lock
