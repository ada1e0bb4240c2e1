"""A stage ends well, or with one message and an exit code that nobody takes for success."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tomllib

import pytest

from pointcover.maps.map_files import FOR_POLYGONS
from pointcover.runtime.errors import EXTRAS, PREDICT_EXTRAS, one_message
from tests.imagery import ROOT
from tests.processes import is_alive

STAGE = """
    import os, sys, time
    from pathlib import Path
    sys.argv[0] = "stages/demo.py"
    from pointcover.config import stage
    from pointcover.runtime import signals as processes
    from pointcover.runtime.atomic_files import publish_folder

    def work(params):
        {body}

    stage.LOCK_TIMEOUT_S = 0.2
    stage.run_stage(work)
"""
WAIT = "print(os.getpid(), flush=True); time.sleep(60)"


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def start(folder, body, **environment):
    """Start a stage whose work is `body`, in another process."""
    code = textwrap.dedent(STAGE).format(
        body=textwrap.indent(textwrap.dedent(body), " " * 4).strip()
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
    )


def run(folder, body, **environment):
    process = start(folder, body, **environment)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_work_gets_all_params_and_ends_with_0(folder):
    assert run(folder, "print(params.points, params.tile.size_px)") == (0, "200 256\n", "")


@pytest.mark.parametrize(
    "error", ["FileNotFoundError", pytest.param("ValueError", marks=pytest.mark.slow)]
)
def test_an_error_that_a_user_can_mend_is_one_message(folder, error):
    assert run(folder, f'raise {error}("a.tif is bad: mend it")') == (
        1,
        "",
        "\ndemo: a.tif is bad: mend it\n",
    )


def test_a_defect_is_one_message_that_says_how_to_see_where(folder):
    code, _, errors = run(folder, 'raise KeyError("x")')
    assert code == 1
    assert "Traceback" not in errors
    assert (
        "unexpected KeyError: 'x'. This is a defect of pointcover: run again with POINT" in errors
    )


OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})  # as torch calls it


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        (
            "pointcover predict",
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "can't allocate memory: you tried): lower --batch-size or --window-px (or, ",
        ),
        (
            "pointcover suggest",
            OutOfMemoryError("CUDA out of memory. Tried\nmore"),
            "(CUDA out of memory. Tried): lower --batch-size, end",
        ),
        ("train (process 1)", MemoryError(), "(MemoryError): lower train.batch_size or train.crop"),
        ("evaluate", RuntimeError("cuDNN error: CUBLAS_STATUS_ALLOC_FAILED"), "evaluate.batch_"),
        ("tile", MemoryError("Unable to allocate 9 GiB"), "allocate 9 GiB): lower machine.workers"),
        ("pointcover sync", MemoryError(), "lower the amount of work"),
        ("train", RuntimeError("could not create a primitive"), "lower train.batch_size"),
        ("tile", RuntimeError("can't start new thread"), "lower machine.workers"),
        ("predict", ImportError("a.so: failed to map segment from shared object"), "lower --batch"),
        ("annotate", OSError(12, "Cannot allocate memory"), "lower machine.workers"),
    ],
)
def test_a_full_memory_is_no_defect_and_its_message_says_what_to_lower(capsys, name, error, said):
    with pytest.raises(SystemExit) as caught, one_message(name):
        raise error
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith(f"\n{name}: the memory is full (")
    assert said in message
    assert "defect" not in message
    assert message.count("\n") == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("", name="torch.nn"), "needs the package 'torch.nn', which this"),
        (ModuleNotFoundError("", name="torch.nn"), "`pip install 'pointcover[train]'`"),
        (ModuleNotFoundError("", name="onnxscript"), "`pip install 'pointcover[onnx]'`"),
        (ModuleNotFoundError("", name="uvicorn"), "`pip install 'pointcover[label]'`"),
        (ModuleNotFoundError("", name="psycopg2"), "`pip install 'pointcover[server]'`"),
        (ModuleNotFoundError("", name="matplotlib.figure"), "`pip install 'pointcover[preview]'`"),
        (ModuleNotFoundError("", name="optuna"), "`pip install 'pointcover[search]'`"),
        (ModuleNotFoundError("", name="geopandas"), "`pip install 'pointcover[train]'`"),
        (ModuleNotFoundError("No module", name="pointcover.x"), "This is a defect of pointcover"),
    ],
)
def test_a_command_that_lacks_a_package_names_it(capsys, error, said):
    with pytest.raises(SystemExit) as caught, one_message("pointcover export"):
        raise error
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("\npointcover export: ")
    assert said in message


@pytest.mark.parametrize("package", [*FOR_POLYGONS, "torch"])
def test_maps_with_polygons_need_no_training(capsys, package):
    with pytest.raises(SystemExit), one_message("pointcover predict"):
        raise ModuleNotFoundError("", name=package)
    extra = "train" if package == "torch" else "polygons"
    assert f"run `pip install 'pointcover[{extra}]'`" in capsys.readouterr().err


@pytest.mark.parametrize(("extra", "packages"), [*EXTRAS.items(), *PREDICT_EXTRAS.items()])
def test_each_extra_is_declared_with_a_package_of_it(extra, packages):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[^\w-]", one)[0] for one in declared["optional-dependencies"][extra]}
    named = {"google": "protobuf", "boto3": "dvc-s3", "psycopg2": "psycopg2-binary"}
    named |= {"xstatic": "xstatic-leaflet"}
    assert names & {named.get(one, one) for one in packages}


@pytest.mark.parametrize("error", ["ValueError", pytest.param("KeyError", marks=pytest.mark.slow)])
def test_the_debug_switch_shows_the_traceback(folder, error):
    code, _, errors = run(folder, f'raise {error}("x")', POINTCOVER_DEBUG="1")
    assert code == 1
    assert "Traceback" in errors
    assert "in work" in errors


def test_a_full_disk_is_one_message_that_names_the_file_and_the_remedy(folder):
    body = """
        import resource
        from pointcover.runtime.atomic_files import publish_text
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        publish_text(Path("out.txt"), "x" * 5000)
    """
    code, _, errors = run(folder, body)
    assert code == 1
    assert errors.startswith("\ndemo: the disk is full while writing out.txt (File too large; ")
    assert f" MB of {folder} are free): free some space and run the stage again\n" in errors
    assert not (folder / "out.txt").exists()
    assert not list(folder.glob("*.partial"))


def test_a_name_that_is_too_long_is_one_message(capsys, tmp_path):
    with pytest.raises(SystemExit), one_message("predict"):
        (tmp_path / ("x" * 300)).touch()
    assert "has 300 bytes, more than the disk allows (often 255): rename" in capsys.readouterr().err


def test_no_work_begins_with_bad_params(folder):
    path = folder / "params.yaml"
    path.write_text(re.sub(r"(?m)^points: \d+", "points: many", path.read_text()))
    code, output, errors = run(folder, 'print("worked")')
    assert (code, output) == (1, "")
    assert errors == (
        "\ndemo: params.yaml has one fault:\n"
        "  - points: got 'many', wanted a whole number, at least 1\n"
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_is_no_success_and_leaves_nothing_half_made(folder, number, code):
    body = f"""
        with publish_folder(Path("out")) as out:
            (out / "half").write_text("ha")
            {WAIT}
    """
    process = start(folder, body)
    pid = int(process.stdout.readline())
    assert (folder / "out.partial" / "half").exists()
    os.kill(pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert not (folder / "out").exists()
    assert not (folder / "out.partial").exists()


IN_ORDER = """
    class Kept:
        def __enter__(self):
            {enter}
            print("entered", flush=True)
        def __exit__(self, kind, *_):
            print("leaving", kind and kind.__name__, flush=True)
            {leave}
            print("left", flush=True)
    with processes.entered_whole(Kept):
        print("inside", flush=True)
        {inside}
    print("after", flush=True)
"""
KILL = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.05)"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("enter", ["entered", "leaving SystemExit", "left"]),
        ("inside", ["entered", "inside", "leaving SystemExit", "left"]),
        ("leave", ["entered", "inside", "leaving None", "left"]),
    ],
)
def test_a_signal_never_leaves_a_context_half_entered_or_half_left(folder, place, said):
    parts = {"enter": "pass", "inside": "pass", "leave": "pass"} | {place: KILL}
    code, output, errors = run(
        folder, "import signal\n" + textwrap.dedent(IN_ORDER).format(**parts)
    )
    assert output.splitlines() == said
    assert (code, errors) == (143, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///mlflow.db", "written\nended KILLED\n"),
        pytest.param("http://localhost:5000", "ended KILLED\n", marks=pytest.mark.slow),
    ],
)
def test_a_signal_waits_for_a_database_but_not_for_a_server(folder, uri, said):
    """Cut short in SQLAlchemy, the store stays locked and the run can no longer be ended."""
    body = f"""
        import signal
        from pointcover.tracking import runs as tracking
        from pointcover.tracking.calls import Target
        class Client:
            def log_batch(self, run_id, metrics):
                {KILL}
                print("written", flush=True)
            def set_terminated(self, run_id, status, end_time):
                print("ended", status, flush=True)
        target = Target(Client(), "{uri}", "1", "1")
        with processes.entered_whole(lambda: tracking.Run(Path(), target, None)) as run:
            run.log_metrics({{"loss": 1.0}})
            print("went on", flush=True)
    """
    assert run(folder, body) == (143, said, "")


def test_more_signals_do_not_cut_short_what_the_first_began(folder):
    """Ctrl-C ends `dvc` too, whose death sends another signal while the run is being closed."""
    body = f"""
        import signal
        try:
            {KILL}
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
                time.sleep(0.05)
            print("closed", flush=True)
    """
    assert run(folder, body) == (143, "closed\n", "")


def test_a_signal_that_was_lost_can_be_sent_again(folder):
    """Python drops an exception that is raised in a destructor, the signal's with it."""
    body = f"""
        import signal
        processes.SIGNAL_GRACE_S = 0.1
        class Deaf:
            def __del__(self):
                {KILL}
        one = Deaf()
        del one
        print("still here", flush=True)
        time.sleep(0.2)
        {KILL}
        print("still here", flush=True)
    """
    code, output, _ = run(folder, body)
    assert (code, output) == (143, "still here\n")


@pytest.mark.slow
def test_a_second_process_on_the_stage_is_refused_until_the_first_ends(folder):
    first = start(folder, WAIT)
    first.stdout.readline()
    try:
        code, output, errors = run(folder, 'print("worked")')
        assert (code, output) == (1, "")
        assert f"another process runs 'demo' in {folder}: wait for it, or end it" in errors
    finally:
        first.kill()  # even so the lock is gone with its holder
        first.communicate()
    assert run(folder, 'print("worked")') == (0, "worked\n", "")


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's death"
)
def test_a_stage_does_not_outlive_the_dvc_that_started_it(folder):
    code = textwrap.dedent(STAGE).format(body=WAIT)
    parent = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    dvc = subprocess.Popen(
        [sys.executable, "-c", parent, sys.executable, "-c", code],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    pid = int(dvc.stdout.readline())
    assert is_alive(pid)
    dvc.kill()
    dvc.wait()
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)
    dvc.stdout.close()


def assert_names_the_missing_package(done, package):
    assert done.returncode == 1
    assert done.stderr.count("\n") == 2
    assert f"needs the package '{package}', which this python" in done.stderr
    assert "run `pip install 'pointcover[train]'`; in a clone, `make setup`" in done.stderr


@pytest.mark.parametrize(
    "name",
    ["annotate", *(pytest.param(one, marks=pytest.mark.slow) for one in ("download", "tile"))],
)
def test_a_stage_in_a_bare_python_says_what_to_do(folder, name):
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "stages" / f"{name}.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert_names_the_missing_package(done, "pydantic")


def test_a_stage_that_lacks_one_package_alone_names_it(folder):
    code = """
        import runpy, sys
        sys.modules["rasterio"] = None
        runpy.run_path(sys.argv[1], run_name="__main__")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(ROOT / "stages" / "tile.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert_names_the_missing_package(done, "rasterio")
