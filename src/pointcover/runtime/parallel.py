"""Work side by side: one function over many items, in order, on whatever the machine is.

What runs where never decides what comes out: results come in the order of the items, and every
task counts on one thread, as numerical libraries add up in another order on two.
"""

import hashlib
import os
import re
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pointcover.runtime.signals import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_S: Final = 10
"""How long a dask scheduler may take to answer."""


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    backend: str,
    label: str,
    unit: str,
) -> Iterator[Result]:
    """Apply a function to items side by side; give results in the items' order, as they come.

    Args:
        function: of a module, or a `partial` of one: it must travel to another process, as items
            and results must. Paths in them are absolute, or they mean nothing elsewhere.
        items: one task each.
        workers: tasks at a time, -1 for one a core. A dask cluster has as many as it has.
        backend: a key of BACKENDS.
        label: what the progress bar says.
        unit: what it counts.

    Raises:
        ValueError: `backend` is unknown, or no dask cluster can be had.
        OSError: a worker was killed.
        Exception: what the function raised; where it does so for several items, any of that.
    """
    if backend not in BACKENDS:
        raise ValueError(f"got backend={backend!r}, wanted one of {', '.join(BACKENDS)}")
    workers = min(cpu_count() if workers == -1 else workers, max(len(items), 1))
    # Closed whatever happens here, so that no worker goes on behind an error.
    with closing(BACKENDS[backend](function, items, workers)) as results:
        try:
            yield from tqdm(results, label, len(items), unit=unit, leave=False, disable=None)
        except TerminatedWorkerError as error:
            raise OSError(
                f"a process that worked for this one was killed while {label}, most likely for "
                f"lack of memory: set machine.workers in params.yaml to fewer than now "
                f"({workers}), or give the cluster's workers more. "
                f"({' '.join(str(error).split())[:200]})"
            ) from None


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Return items in their order, while a thread makes the next one."""
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = thread.submit(next, items, None)
            yield item


def _by_processes(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    """Work in processes of this machine, which end with this one."""
    if workers == 1:
        yield from _alone(function, items)
        return
    with parallel_config(
        "loky", inner_max_num_threads=1, initializer=_begin_worker, initargs=(os.getpid(),)
    ):
        parallel = Parallel(n_jobs=workers, return_as="generator")
    try:
        yield from parallel(delayed(function)(item) for item in items)
    finally:
        # joblib would keep the processes, and their memory, for five idle minutes.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _by_threads(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    """Work in threads of this process: they start at once, but share Python's lock."""
    if workers == 1:
        yield from _alone(function, items)
        return
    with parallel_config("threading"):
        parallel = Parallel(n_jobs=workers, return_as="generator")
    with threadpool_limits(1):
        yield from parallel(delayed(function)(item) for item in items)


def _by_cluster(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    """Work on the cluster of the dask scheduler that the environment names.

    Raises:
        ValueError: dask or a scheduler is missing, or its workers run other code than this.
    """
    try:
        from dask import config
        from dask.distributed import Client, KilledWorker
    except ModuleNotFoundError as error:
        raise ValueError(
            f"machine.backend is 'dask', but {error.name!r} is not installed: run "
            f"`pip install 'distributed>=2024.8'`, or set machine.backend to loky"
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
            f"({' '.join(str(error).split())}): start it (`dask scheduler`), mend "
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
"""Ways to work side by side: each takes the function, the items and the number of workers."""


def _alone(function: Callable[[Any], Any], items: Sequence[Any]) -> Generator[Any, None, None]:
    with threadpool_limits(1):
        yield from map(function, items)


def _begin_worker(parent: int) -> None:
    """Let a worker process live as long as its parent, and leave Ctrl-C to that."""
    end_with_parent(signal.SIGKILL, parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class _OnOneThread(Generic[Item, Result]):
    """A function that counts on one thread, in processes that others started."""

    function: Callable[[Item], Result]

    def __call__(self, item: Item) -> Result:
        threadpool_limits(1)
        return self.function(item)


@cache
def _code() -> str:
    """Return a digest of this package's code, as it was when this process first asked."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _check_cluster(client: Any, address: str) -> None:
    """Check that a cluster has workers, and that they run the code that runs here.

    Raises:
        ValueError: it has none, or they would give stale results that look fresh.
    """
    remedy = (
        "start workers with `PYTHONPATH=src dask worker ADDRESS` in this folder and environment"
    )
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
        found = client.run(_code)
    except TimeoutError:
        raise ValueError(f"the dask scheduler at {address} has no workers: {remedy}") from None
    except Exception as error:  # dask has no class for what a worker cannot import
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
