"""What every stage does around its work: params, lock, signals, and errors in one message.

A stage imports this module before any other that is not Python's own: from here on it ends with the
`dvc` that started it, and a missing package is one message instead of a traceback.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

# Read by OpenMP when torch loads it. By default a thread that waits spins, and where another
# program needs the processor too a training step took five times as long (measured).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _say_what_is_missing(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report an error that ends Python; a missing package as one message."""
    if isinstance(error, ModuleNotFoundError) and not os.environ.get(DEBUG_SWITCH):
        sys.stderr.write(
            f"pointcover: the python that runs this stage ({sys.executable}) lacks "
            f"{error.name!r}. Run `make setup`, then `source .venv/bin/activate`, and try again\n"
        )
    else:
        sys.__excepthook__(kind, error, trace)


def is_assistant() -> bool:
    """Return whether a stage started this process, to compute on another device beside it."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


sys.excepthook = _say_what_is_missing

from pointcover.runtime.errors import DEBUG_SWITCH, one_message  # noqa: E402
from pointcover.runtime.signals import end_on_signals, end_with_parent  # noqa: E402

if Path(sys.argv[0]).parent.name == "stages":
    # At once, as torch takes seconds to import. When `dvc` dies: an orphan would write beside the
    # next attempt. An assistant writes nothing that would have to be put in order, and may wait in
    # a library that lets no handler run.
    end_with_parent(signal.SIGKILL if is_assistant() else signal.SIGTERM)

from filelock import FileLock, Timeout  # noqa: E402

from pointcover.config.params import Params, load_params  # noqa: E402

LOCK_TIMEOUT_S = 20

logger = logging.getLogger("pointcover")


def run_stage(work: Callable[[Params], None]) -> None:
    """Run one stage in the current folder and end the process with its exit code.

    All of params.yaml is validated before `work` begins. Errors that a user can mend (ValueError,
    OSError) become one message; exit code 1. A signal ends the stage with 128 + its number, never
    with 0: DVC would take a stage that ends with 0 on SIGTERM for finished.
    """
    name = Path(sys.argv[0]).stem
    level = logging.WARNING if is_assistant() else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    end_on_signals()
    with one_message(f"{name} (process {os.environ['LOCAL_RANK']})" if is_assistant() else name):
        params = load_params(Path("params.yaml"))
        with nullcontext() if is_assistant() else _only_writer(name):
            work(params)


def _only_writer(name: str) -> FileLock:
    """Lock this stage in this folder, waiting a little for an orphan to end.

    Raises:
        ValueError: another process still runs the stage here.
    """
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
