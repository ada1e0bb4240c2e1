"""Work side by side comes out as work done alone, and nobody works on for nobody."""

import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
import threadpoolctl

from pointcover.runtime import parallel
from pointcover.runtime.parallel import BACKENDS, map_in_order
from pointcover.runtime.settings import MachineSettings
from tests.config.test_stage import start
from tests.machine import MACHINE
from tests.processes import is_alive, run_python


def run(function, items, backend="loky", workers=2):
    return list(
        map_in_order(
            function,
            items,
            MachineSettings(**MACHINE.model_dump() | {"workers": workers, "backend": backend}),
            label="testing",
            unit="job",
        )
    )


def start_cluster(*, workers=2, processes):
    from dask.distributed import LocalCluster  # here, as it takes a second to import

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=processes,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )


@contextmanager
def named_to_dask(cluster):
    """Name the scheduler of a cluster as users name theirs."""
    from dask import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        config.refresh()
        yield cluster
    config.refresh()


@pytest.fixture(scope="module")
def threads():
    with start_cluster(processes=False) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def processes():
    with start_cluster(processes=True) as cluster:
        yield cluster


@pytest.fixture
def scheduler(threads):
    """A dask scheduler with two workers, which are threads of this process."""
    with named_to_dask(threads):
        yield threads


@pytest.fixture
def client(processes):
    """A client of a dask scheduler with two workers, which are processes."""
    from dask.distributed import Client

    with named_to_dask(processes), Client(processes, set_as_default=False) as client:
        yield client


@pytest.fixture(params=[*BACKENDS, pytest.param("dask processes", marks=pytest.mark.slow)])
def backend(request):
    name, *of_processes = request.param.split()
    if name == "dask":
        request.getfixturevalue("client" if of_processes else "scheduler")
    return name


def doze(item):
    """Take the longer, the earlier the item."""
    time.sleep(0.05 * (4 - item))
    return item * item


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_results_come_in_order_whoever_is_ready_first_and_workers_end(backend, workers):
    assert run(doze, [0, 1, 2, 3], backend, workers) == [0, 1, 4, 9]
    left = psutil.Process().children(recursive=True)
    assert not [child for child in left if "popen_loky" in " ".join(child.cmdline())]


def test_nothing_to_do_is_done(backend):
    assert run(doze, [], backend) == []


def meet(item, folder):
    """Come to an end only where the other of two items is worked on at the same time."""
    (folder / str(item)).touch()
    deadline = time.monotonic() + 20
    while not (folder / str(1 - item)).exists():
        if time.monotonic() > deadline:
            return "alone"
        time.sleep(0.01)
    return "together"


@pytest.mark.slow
def test_two_workers_work_at_the_same_time(backend, tmp_path):
    assert run(partial(meet, folder=tmp_path), [0, 1], backend) == ["together"] * 2


def test_every_core_works_when_nobody_says_how_many(monkeypatch, tmp_path):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    meeting = partial(meet, folder=tmp_path)
    assert run(meeting, [0, 1], "threading", workers=-1) == ["together"] * 2


def fail_on_odd(item):
    if item % 2:
        raise FileNotFoundError(28, "No space left on device", f"{item}.tif")
    return item


def test_an_error_arrives_as_it_was_raised(backend):
    with pytest.raises(FileNotFoundError) as caught:
        run(fail_on_odd, [0, 2, 1, 4], backend)
    assert (caught.value.errno, caught.value.filename) == (28, "1.tif")


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="'loky', 'threading' or 'dask'"):
        run(doze, [0], "mpi")


def end_without_a_word(item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_message_that_says_what_to_set():
    with pytest.raises(OSError, match=r"killed while testing.* set machine\.workers"):
        run(end_without_a_word, [0, 1])


def count_threads(item):
    import numpy  # noqa: F401  # with its BLAS

    return max(pool["num_threads"] for pool in threadpoolctl.threadpool_info())


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("loky", 2),
        pytest.param("loky", 1, marks=pytest.mark.slow),
        pytest.param("threading", 1, marks=pytest.mark.slow),
        pytest.param("threading", 2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_every_task_counts_on_one_thread(name, workers):
    done = run_python(
        """
        import os, sys
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "2"
        from tests.runtime.test_parallel import count_threads, run
        print(count_threads(0), run(count_threads, [0, 1], sys.argv[1], int(sys.argv[2])))
        """,
        name,
        str(workers),
    )
    assert done.stdout == "2 [1, 1]\n", done.stderr


def count_on_two_threads():
    import numpy  # noqa: F401  # with its BLAS

    threadpoolctl.threadpool_limits(2)


@pytest.mark.slow
def test_every_task_counts_on_one_thread_in_a_cluster(client):
    client.run(count_on_two_threads)
    assert run(count_threads, [0, 1], "dask") == [1, 1]


# A dask cluster that cannot be had


def test_without_dask_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(
        ValueError, match=r"'dask' is not installed: run `pip install 'pointcover\[cluster\]'"
    ):
        run(doze, [0], "dask")


def test_without_a_scheduler_the_message_says_what_to_set_and_no_cluster_is_started():
    with pytest.raises(ValueError, match="set DASK_SCHEDULER_ADDRESS to its address"):
        run(doze, [0], "dask")


def test_a_scheduler_that_does_not_answer_is_one_message(scheduler, monkeypatch):
    from dask import config

    monkeypatch.setattr(parallel, "CONNECT_S", 0.5)
    with (
        config.set({"scheduler-address": "tcp://127.0.0.1:9"}),
        pytest.raises(ValueError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        run(doze, [0], "dask")


def test_a_scheduler_without_workers_is_one_message(scheduler, monkeypatch):
    from dask import config

    monkeypatch.setattr(parallel, "CONNECT_S", 0.5)
    with (
        start_cluster(workers=0, processes=False) as empty,
        config.set({"scheduler-address": empty.scheduler_address}),
        pytest.raises(ValueError, match="has no workers: start workers with `PYTHONPATH=src dask"),
    ):
        run(doze, [0], "dask")


def forget_pointcover():
    import sys

    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if "pointcover" in name}
    sys.modules["pointcover"] = None
    sys.kept = kept


def remember_pointcover():
    import sys

    del sys.modules["pointcover"]
    sys.modules.update(sys.kept)


@pytest.mark.slow
def test_workers_that_lack_pointcover_are_one_message(client):
    client.run(forget_pointcover)
    try:
        with pytest.raises(ValueError, match=r"lack .pointcover.*: start workers with"):
            run(doze, [0], "dask")
    finally:
        client.run(remember_pointcover)


def take_old_code():
    from pointcover.runtime import parallel

    parallel.kept, parallel._code = parallel._code, lambda: "old"


def take_this_code():
    from pointcover.runtime import parallel

    parallel._code = parallel.kept


@pytest.mark.slow
def test_workers_with_older_code_are_refused(client):
    client.run(take_old_code)
    try:
        with pytest.raises(ValueError, match=r"2 of 2 workers .* run other code of pointcover"):
            run(doze, [0], "dask")
    finally:
        client.run(take_this_code)


# The stages


@pytest.mark.slow
def test_no_byte_depends_on_the_machine(project, backend, blank_pictures):
    project.set({"points": 15, "annotate.propagator": "random_walker"})
    project.run("download", "tile", "annotate")
    alone = project.outputs()
    assert len(alone) > 30
    project.set({"machine.workers": 2, "machine.backend": backend})
    project.run("tile", "annotate")
    assert project.outputs() == alone


def test_all_faulty_orthophotos_are_told_of_together_from_all_workers(project):
    project.set({"machine.workers": 2, "machine.backend": "threading"})
    for name in "ac":
        path = project.data / "images" / f"{name}.tif"
        path.write_bytes(path.read_bytes()[:9000])
    message = project.refusal("download", "tile")
    assert message.startswith("2 orthophotos cannot be used:\n  - ")
    assert message.index("a.tif") < message.index("c.tif")


@pytest.mark.slow
def test_a_disk_that_a_worker_finds_full_is_one_message(project):
    project.run("download")
    project.set({"machine.workers": 2})
    done = project.process("tile", max_file_bytes=20_000)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "free some space and run the stage again" in done.stderr.lower()
    assert not list((project.root / "data").glob("tiles*"))


# Nobody works on for nobody

TWO_WORKERS = """
    from pointcover.runtime.parallel import map_in_order
    from tests.machine import MACHINE
    from tests.processes import say_who_works
    for item in map_in_order(
        say_who_works,
        [0, 1, 2],
        MACHINE.model_copy(update={"workers": 2}),
        label="x",
        unit="x",
    ):
        if item == 2:  # the workers wait for more
            Path("idle").touch()
            time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's death"
)
@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("busy", signal.SIGKILL),
        pytest.param("idle", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("busy", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("busy", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_killed_stage_leaves_no_worker_behind(project, state, number):
    last_s = "60" if state == "busy" else "0"
    root = str(Path(__file__).parents[2])
    stage = start(
        project.root, TWO_WORKERS, LAST_S=last_s, PYTHONPATH=f"{root}/src{os.pathsep}{root}"
    )
    deadline = time.monotonic() + 40
    while not (project.root / state).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = [int(path.stem) for path in project.root.glob("*.pid")]
    helpers = [child.pid for child in psutil.Process(stage.pid).children(recursive=True)]
    assert len(workers) == 2
    assert {*workers} <= {*helpers}
    assert all(map(is_alive, workers))
    stage.send_signal(number)
    _, errors = stage.communicate(timeout=20)
    assert stage.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    deadline = time.monotonic() + 20
    while any(map(is_alive, helpers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in helpers if is_alive(pid)]
    assert "Traceback" not in errors


@pytest.mark.slow
def test_after_an_error_no_thread_works_on(tmp_path):
    """One that still writes would make a folder again that the stage has removed."""
    folder = tmp_path / "tiles.partial"

    def work(item):
        if item == 0:
            raise OSError("the disk is full")
        time.sleep(0.3)
        folder.mkdir(exist_ok=True)

    with pytest.raises(OSError, match="full"):
        run(work, [0, 1, 2, 3], "threading")
    shutil.rmtree(folder, ignore_errors=True)
    time.sleep(0.5)
    assert not folder.exists()


@pytest.mark.parametrize("owner", ["backend.queues.Queue", "process_executor.ProcessPoolExecutor"])
def test_a_thread_that_cannot_be_started_ends_the_work_and_does_not_hang(monkeypatch, owner):
    name = "_start_thread" if "queues" in owner else "_start_executor_manager_thread"

    def fail(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(f"joblib.externals.loky.{owner}.{name}", fail)
    with pytest.raises((OSError, MemoryError), match=r"lack of memory|start new thread"):
        run(str, [1, 2])


@pytest.mark.slow
def test_a_result_that_cannot_be_read_is_no_defect(monkeypatch):
    with pytest.raises(OSError, match="or its results could not be read, most likely for lack of"):
        run(partial(Unreadable), [1, 2])


class Unreadable:
    """Is written by a worker, and takes too much memory to be read."""

    def __init__(self, _item):
        pass

    def __reduce__(self):
        return _fill_memory, ()


def _fill_memory():
    raise MemoryError
