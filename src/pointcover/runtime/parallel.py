"""Parallel map: one function over many items, in order, in processes, threads or a Dask cluster.

The backend never changes a result: results are in the order of the items, and every task uses one
thread, since numerical libraries sum in another order on two.
"""

import ctypes
import hashlib
import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from pointcover.runtime.progress import show_progress
from pointcover.runtime.signals import KILL, end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_S: Final = 10
"""Timeout for the answer of a Dask scheduler."""


class Machine(Protocol):
    """Number of workers and backend; `MachineSettings` has both."""

    @property
    def workers(self) -> int:
        """Tasks at a time, -1 for one per core; a Dask cluster has its own number."""

    @property
    def backend(self) -> str:
        """A key of BACKENDS."""


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    machine: Machine,
    *,
    label: str,
    unit: str,
) -> Iterator[Result]:
    """Apply a function to items in parallel, and yield results in the order of the items.

    Args:
        function: of a module, or a `partial` of one: it is pickled for other processes, like items
            and results. Paths in them must be absolute.
        items: one task each.
        machine: number of workers, and backend.
        label: of the progress bar.
        unit: of the progress bar.

    Raises:
        ValueError: there is no usable Dask cluster.
        OSError: a worker was killed.
        Exception: an error of the function; if several items fail, that of any of them.
    """
    from joblib import cpu_count
    from joblib.externals.loky.process_executor import BrokenProcessPool

    workers = min(cpu_count() if machine.workers == -1 else machine.workers, max(len(items), 1))
    # Closed also after an error, so that no worker continues.
    with closing(BACKENDS[machine.backend](function, items, workers)) as results:
        try:
            yield from show_progress(results, label, unit, len(items))
        except (BrokenProcessPool, ThreadFailedError) as error:
            raise OSError(
                f"a worker process was killed while {label}, or its results could not be read, "
                f"most likely for lack of memory: set machine.workers in params.yaml to fewer than "
                f"now ({workers}), or give the workers of the cluster more memory. "
                f"({' '.join(str(error).split())[:200]})"
            ) from None


class ThreadFailedError(Exception):
    """A thread that feeds worker processes has failed, so that their results never come."""


@contextmanager
def _watched_threads() -> Iterator[None]:
    """Raise an error in this thread when one of joblib's threads ends with an error.

    Otherwise this thread would wait without end, as where no more thread can be started.

    Raises:
        ThreadFailedError: one has failed.
    """
    waiting, before, reasons = threading.get_ident(), threading.excepthook, list[str]()

    def end_waiting(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("joblib"):
            before(args)
            return
        reasons.append(f"{args.exc_type.__name__}: {args.exc_value}")
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(waiting), ctypes.py_object(ThreadFailedError)
        )

    threading.excepthook = end_waiting
    try:
        yield
    except ThreadFailedError:
        raise ThreadFailedError(*reasons) from None
    finally:
        threading.excepthook = before


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield items in order, while a thread computes the next one."""
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = thread.submit(next, items, None)
            yield item


def _by_processes(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    """Run tasks in processes of this machine, which end with this process."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    if workers == 1:
        yield from _serially(function, items)
        return
    with parallel_config(
        "loky", inner_max_num_threads=1, initializer=_begin_worker, initargs=(os.getpid(),)
    ):
        parallel = Parallel(n_jobs=workers, return_as="generator")
    try:
        with _watched_threads():
            yield from parallel(delayed(function)(item) for item in items)
    except RuntimeError as error:
        if "thread" not in str(error):  # joblib joins the thread that could not be started
            raise
        raise MemoryError("can't start new thread") from None
    finally:
        # By default joblib keeps idle processes, and their memory, for five minutes.
        with suppress(RuntimeError):  # of a thread that could not be started
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _by_threads(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    """Run tasks in threads of this process, which start fast but share the interpreter lock.

    After an error, the running tasks are waited for (joblib does not): one that still writes would
    make a folder again that cleanup has removed.
    """
    from threadpoolctl import threadpool_limits

    if workers == 1:
        yield from _serially(function, items)
        return
    with threadpool_limits(1), ThreadPoolExecutor(workers) as threads:
        yield from threads.map(function, items)


def _by_cluster(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    """Run tasks on the cluster of the Dask scheduler that the environment names.

    Raises:
        ValueError: Dask or a scheduler is missing, or its workers run other code than this process.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        from dask import config
        from dask.distributed import Client, KilledWorker
    except ModuleNotFoundError as error:
        raise ValueError(
            f"machine.backend is 'dask', but {error.name!r} is not installed: run "
            f"`pip install 'pointcover[cluster]'`, or set machine.backend to loky"
        ) from None
    address = config.get("scheduler-address", None)
    if address is None:  # Client() would then start a cluster of its own
        raise ValueError(
            "machine.backend is 'dask', but no scheduler is named: start one (`dask scheduler`) "
            "with workers (`dask worker ADDRESS`) and set DASK_SCHEDULER_ADDRESS to its address, "
            "such as tcp://127.0.0.1:8786; or set machine.backend to loky"
        )
    try:
        client = Client(timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise ValueError(
            f"machine.backend is 'dask', but no scheduler answers at {address} "
            f"({' '.join(str(error).split())}): start it (`dask scheduler`), correct "
            f"DASK_SCHEDULER_ADDRESS, or set machine.backend to loky"
        ) from None
    with client:
        _check_cluster(client, address)
        with parallel_config("dask", client=client):
            parallel = Parallel(return_as="generator")
        task = delayed(_OnOneThread(function))
        try:
            yield from parallel(task(item) for item in items)
        except KilledWorker as error:
            raise TerminatedWorkerError(str(error)) from None


BACKENDS: Final[
    dict[str, Callable[[Callable[[Any], Any], Sequence[Any], int], Generator[Any, None, None]]]
] = {"loky": _by_processes, "threading": _by_threads, "dask": _by_cluster}
"""Backends: each is a function of the function, the items and the number of workers."""


def _serially(function: Callable[[Any], Any], items: Sequence[Any]) -> Generator[Any, None, None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield from map(function, items)


def _begin_worker(parent: int) -> None:
    """Initialise a worker process: it ends with its parent, and the parent handles Ctrl-C."""
    end_with_parent(KILL, parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class _OnOneThread(Generic[Item, Result]):
    """A function limited to one thread, for processes that were started elsewhere."""

    function: Callable[[Item], Result]

    def __call__(self, item: Item) -> Result:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
        return self.function(item)


@cache
def _code() -> str:
    """Return a digest of this package's code at the first call of this process."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _check_cluster(client: Any, address: str) -> None:
    """Check that a cluster has workers, and that they run the same code as this process.

    Raises:
        ValueError: it has no workers, or they run other code.
    """
    remedy = (
        "start workers with `PYTHONPATH=src dask worker ADDRESS` in this folder and environment"
    )
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
        found = client.run(_code)
    except TimeoutError:
        raise ValueError(f"the dask scheduler at {address} has no workers: {remedy}") from None
    except Exception as error:  # Dask has no exception class for failed imports of a worker
        missing = re.search("No module named '([^']*)'", str(error))
        if not missing:
            raise
        raise ValueError(
            f"workers of the dask scheduler at {address} lack {missing[1]!r}: {remedy}"
        ) from None
    stale = sorted(worker for worker, code in found.items() if code != _code())
    if stale:
        raise ValueError(
            f"{len(stale)} of {len(found)} workers of the dask scheduler at {address} run other "
            f"code of pointcover than this process ({', '.join(stale[:3])}): end them and {remedy}"
        )
