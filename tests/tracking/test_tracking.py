import contextlib
import errno
import json
import math
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import numpy as np
import psutil
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pointcover.models.fetch import fetch_model
from pointcover.tracking import owners
from pointcover.tracking import runs as tracking
from pointcover.tracking import store as mlflow_store
from pointcover.tracking.logged_models import MODEL_FILES, ScoredOn
from pointcover.tracking.runs import MODEL_TAG, resume_training_run, start_run
from pointcover.tracking.store import project_root, tracking_uri
from tests.processes import wait_for

NOBODY = 2**22 + 1
"""A process id above Linux's largest."""

OPEN_AND_WAIT = """
import sys, time
from pathlib import Path
from pointcover.tracking.runs import start_run
run = start_run(Path(sys.argv[1]), "waiting")
print(run.id, flush=True)
time.sleep(300)
"""


@contextlib.contextmanager
def python(code, *arguments):
    source = str(Path(tracking.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def client(root):
    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def stored(root, run):
    return client(root).get_run(run.id)


def status(root, run):
    return stored(root, run).info.status


def train(root, sha="abc", name="trained"):
    with start_run(root, name) as run:
        run.set_tags({MODEL_TAG: sha})
    return run


# Where the store is


def test_dvc_root_has_priority_over_the_working_directory(tmp_path, bare_root, monkeypatch):
    monkeypatch.chdir(bare_root)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "true root"))
    assert project_root() == tmp_path / "true root"


def test_the_root_is_found_from_a_folder_below(bare_root, monkeypatch):
    (bare_root / "data" / "tiles").mkdir(parents=True)
    monkeypatch.chdir(bare_root / "data" / "tiles")
    assert project_root() == bare_root


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, "sqlite:////p/mlflow.db"),
        ("", "sqlite:////p/mlflow.db"),
        ("sqlite:///runs/all.db", "sqlite:////p/runs/all.db"),
        ("sqlite:////elsewhere/all.db", "sqlite:////elsewhere/all.db"),
        ("http://host:5000", "http://host:5000"),
        ("https://host/mlflow", "https://host/mlflow"),
        ("postgresql+psycopg2://u:p@host/db", "postgresql+psycopg2://u:p@host/db"),
    ],
)
def test_the_tracking_uri_is_absolute(given, wanted, monkeypatch):
    if given is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking_uri(Path("/p")) == wanted


@pytest.mark.parametrize(
    "given",
    ["mlruns", "./mlruns", "/p/mlruns", "file:///p/mlruns", "sqlite://", "sqlite:///:memory:"],
)
def test_file_stores_and_databases_in_memory_are_refused(given, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with pytest.raises(ValueError, match=r"MLFLOW_TRACKING_URI is .*set it to .* or unset it"):
        tracking_uri(Path("/p"))


@pytest.mark.slow
def test_a_run_in_a_copy_of_the_tree_is_recorded_in_the_original_root(root, monkeypatch):
    copy = root / ".dvc" / "tmp" / "exps" / "copy"
    copy.mkdir(parents=True)
    (copy / "dvc.yaml").touch()
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(root))
    with start_run(project_root(), "copied") as run:
        run.log_text("hello", "a.txt")
    assert stored(root, run).info.run_name == "copied"
    assert (root / "mlruns" / run.id / "artifacts" / "a.txt").read_text() == "hello"
    assert [path.name for path in copy.iterdir()] == ["dvc.yaml"]


@pytest.mark.slow
def test_a_relative_database_is_made_below_the_root_with_its_files_there(
    root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/all.db")
    with start_run(root, "a") as run:
        run.log_text("hello", "a.txt")
    assert (root / "runs" / "all.db").stat().st_size > 0
    assert (root / "mlruns" / run.id / "artifacts" / "a.txt").exists()


@pytest.mark.slow
def test_an_empty_file_is_made_a_store(bare_root):
    (bare_root / "mlflow.db").touch()
    with start_run(bare_root, "first") as run:
        pass
    assert status(bare_root, run) == "FINISHED"
    left = {path.name for path in bare_root.iterdir()}
    assert left <= {"dvc.yaml", "mlflow.db", "mlflow.db.lock"}


@pytest.mark.slow
def test_an_old_file_store_is_not_used_and_has_a_warning(root, monkeypatch, caplog):
    (root / "mlruns" / "0").mkdir(parents=True)
    (root / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\n")
    monkeypatch.chdir(root)
    with start_run(root, "a") as run:
        pass
    assert status(root, run) == "FINISHED"
    assert "old MLflow file store" in caplog.text


def test_a_moved_project_is_an_error_with_the_old_folder(root):
    with start_run(root, "a"):
        pass
    moved = root.rename(root.with_name("moved"))
    with pytest.raises(FileNotFoundError, match=r"my maps .* does not exist.*rename mlflow\.db"):
        start_run(moved, "b")


def test_a_deleted_experiment_is_an_error_that_names_the_remedy(root):
    with start_run(root, "a") as run:
        pass
    experiment_id = stored(root, run).info.experiment_id
    client(root).delete_experiment(experiment_id)
    with pytest.raises(ValueError, match=f"mlflow experiments restore -x {experiment_id}"):
        start_run(root, "b")


def test_a_damaged_store_is_one_plain_error(bare_root):
    (bare_root / "mlflow.db").write_bytes(b"x" * 5000)
    with pytest.raises(OSError, match=r"mlflow\.db cannot be used .*not a database") as caught:
        start_run(bare_root, "a")
    assert caught.value.__suppress_context__
    assert "\n" not in str(caught.value)


def fail_in_store(root, said, *statements):
    """Return the error of the last of some statements in the store, as MLflow wraps it."""
    uri = tracking_uri(root)
    engine = sqlalchemy.create_engine(uri, connect_args={"timeout": 0})

    def execute():
        try:
            for statement in statements:
                connection.exec_driver_sql(statement)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise MlflowException(error) from error

    with (
        engine.connect() as connection,
        pytest.raises(OSError, match=said) as caught,
        mlflow_store.whole_call(uri),
    ):
        execute()
    assert "sqlite3" not in str(caught.value)
    return caught.value


def test_a_locked_store_is_told_from_others_and_says_who_may_end_it(root):
    said = r"mlflow\.db is locked by another process that writes to it: wait until it"
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = fail_in_store(root, said, "INSERT INTO tags VALUES ('a', 'b', 'c')")
    assert isinstance(error, mlflow_store.StoreLockedError)


def test_a_full_disk_under_the_store_is_said_as_of_any_file(root):
    statements = "PRAGMA max_page_count = 1", "CREATE TABLE more (x)"
    error = fail_in_store(root, "No space left on device", *statements)
    assert (error.errno, error.filename) == (errno.ENOSPC, str(root / "mlflow.db"))


def test_a_store_that_was_removed_is_said(root):
    def remove():
        (root / "mlflow.db").unlink()
        found = sqlite3.OperationalError("attempt to write a readonly database")
        raise MlflowException(found) from found

    said = r"mlflow\.db was removed or renamed while a run was recorded"
    with pytest.raises(OSError, match=said), mlflow_store.whole_call(tracking_uri(root)):
        remove()


def test_an_unreachable_server_is_one_plain_quick_error(root, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    before = dict(os.environ)
    start = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        start_run(root, "a")
    assert time.monotonic() - start < 15
    message = str(caught.value)
    assert f"127.0.0.1:{port}" in message
    assert "MLFLOW_TRACKING_URI, or unset" in message
    assert "secret" not in message
    assert "\n" not in message
    assert caught.value.__suppress_context__
    assert {name: os.environ.get(name) for name in before} == before
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("drips", [False, True])
def test_a_server_that_never_answers_is_given_up(root, monkeypatch, drips):
    """It accepts, and then sends nothing, or a blank now and then."""
    monkeypatch.setattr(mlflow_store, "CONNECT_S", 2)
    monkeypatch.setattr(mlflow_store, "REQUEST_S", 1)
    start = time.monotonic()
    with silent_server(drips) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectionError, match=rf"no MLflow server answers at .*:{port}"):
            start_run(root, "a")
    assert time.monotonic() - start < 15


@contextlib.contextmanager
def silent_server(drips):
    """Listen on a port, whose number is given, until the block ends."""
    ends = threading.Event()

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            if drips:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ends.wait(0.1):
                connection.sendall(b" " if drips else b"")

    def accept(server):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],)).start()

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        thread = threading.Thread(target=accept, args=(server,))
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ends.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


# How a run ends


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (None, "FINISHED"),
        (RuntimeError("broken"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_a_run_ends_as_its_block_ends(error, wanted, root):
    with contextlib.ExitStack() as stack:
        if error is not None:
            stack.enter_context(pytest.raises(type(error)))
        with start_run(root, "a") as run:
            assert status(root, run) == "RUNNING"
            if error is not None:
                raise error
    assert status(root, run) == wanted
    assert stored(root, run).info.end_time is not None


def test_an_error_in_the_block_is_not_hidden_by_a_lost_store(root, monkeypatch, caplog):
    run = start_run(root, "a")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(run.target.client, "set_terminated", fail)
    with pytest.raises(RuntimeError, match="broken"), run:
        raise RuntimeError("broken")
    assert "could not be ended as FAILED: disk full" in caplog.text


@pytest.mark.slow
def test_a_run_is_ended_as_killed_after_its_process_and_not_before(root, caplog):
    with python(OPEN_AND_WAIT, root) as process:
        run_id = process.stdout.readline().strip()
        with start_run(root, "beside"):
            pass
        assert client(root).get_run(run_id).info.status == "RUNNING"

        process.send_signal(signal.SIGKILL)
        # Not waited for: a dead child of a living parent is a zombie, which still has its id.
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        with start_run(root, "after"):
            pass
    assert client(root).get_run(run_id).info.status == "KILLED"
    assert run_id in caplog.text


def test_a_process_that_got_the_id_of_a_dead_one_does_not_own_its_run(root):
    run = start_run(root, "dead")
    started = float(stored(root, run).data.tags[owners.STARTED_TAG])
    run.set_tags({owners.STARTED_TAG: str(started - 10)})
    with start_run(root, "next"):
        pass
    assert status(root, run) == "KILLED"


def test_runs_of_other_hosts_and_of_other_programs_are_left_alone(root):
    elsewhere = start_run(root, "elsewhere")
    elsewhere.set_tags({owners.HOST_TAG: "elsewhere", owners.PID_TAG: str(NOBODY)})
    experiment_id = stored(root, elsewhere).info.experiment_id
    by_hand = client(root).create_run(experiment_id, run_name="by hand").info.run_id
    with start_run(root, "next"):
        pass
    assert status(root, elsewhere) == "RUNNING"
    assert client(root).get_run(by_hand).info.status == "RUNNING"


@pytest.mark.parametrize("tag", [owners.MACHINE_TAG, owners.NAMESPACE_TAG, owners.BOOT_TAG])
def test_a_run_of_a_container_with_the_same_host_name_is_left_alone(tag, root, monkeypatch):
    monkeypatch.setattr(tracking, "is_own_store", lambda uri: False)  # as on a server
    elsewhere = start_run(root, "elsewhere")
    elsewhere.set_tags({tag: "another", owners.PID_TAG: str(NOBODY)})
    with start_run(root, "next"):
        pass
    assert status(root, elsewhere) == "RUNNING"


def test_a_run_of_before_a_reboot_is_ended_in_the_own_store(root):
    before = start_run(root, "before")
    before.set_tags({owners.BOOT_TAG: "another"})  # the process id may belong to another one now
    with start_run(root, "next"):
        pass
    assert status(root, before) == "KILLED"


def test_training_resumes_its_run_after_a_reboot_on_a_server_too(root, monkeypatch):
    monkeypatch.setattr(tracking, "is_own_store", lambda uri: False)
    before = start_run(root, "before")
    before.set_tags({owners.BOOT_TAG: "another"})
    with start_run(root, "after", resume_id=before.id) as run:
        pass
    assert run.id == before.id
    assert status(root, before) == "FINISHED"


def test_orphans_of_other_experiments_are_left_alone(root):
    runs = [start_run(root, "dead", experiment=name) for name in ("one", "two")]
    for run in runs:
        run.set_tags({owners.PID_TAG: str(NOBODY)})
    with start_run(root, "next", experiment="two"):
        pass
    assert [status(root, run) for run in runs] == ["RUNNING", "KILLED"]


def test_the_experiment_is_that_of_mlflows_own_variable(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "north")
    run = train(root)
    found = client(root).get_experiment(stored(root, run).info.experiment_id)
    assert found.name == "north"
    with resume_training_run(root, "abc", "toy") as again:
        pass
    assert again.id == run.id
    assert tracking.is_tagged(root, MODEL_TAG, "abc")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert not tracking.is_tagged(root, MODEL_TAG, "abc")


# What a run is called and holds


def test_a_run_has_the_given_name_and_its_own_id_under_any_seed(root):
    runs = []
    for _ in range(2):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the global state is what may not matter
        with start_run(root, "toy-100", tags={"dataset": "toy"}) as run:
            runs.append(stored(root, run))
    assert [run.info.run_name for run in runs] == ["toy-100", "toy-100"]
    assert runs[0].info.run_id != runs[1].info.run_id
    assert runs[0].data.tags["dataset"] == "toy"
    assert "dvc.exp_name" not in runs[0].data.tags


def test_a_run_has_the_name_of_its_dvc_experiment(root, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "dusty-gull")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123abc")
    with start_run(root, "toy-100") as run:
        pass
    found = stored(root, run)
    assert found.info.run_name == "dusty-gull"
    assert found.data.tags["dvc.exp_name"] == "dusty-gull"
    assert found.data.tags["dvc.baseline_rev"] == "0123abc"


def test_a_run_without_a_name_is_refused(root):
    with pytest.raises(ValueError, match="name of a run is empty"):
        start_run(root, "")


def test_parameters_may_be_repeated_but_not_changed(root):
    with start_run(root, "a") as run:
        run.log_params({"points": 100, "lr": 1e-3, "amp": True, "model": "unet"})
        run.log_params({"points": 100})
        with pytest.raises(ValueError, match="Changing param values is not allowed"):
            run.log_params({"points": 500})
    wanted = {"points": "100", "lr": "0.001", "amp": "True", "model": "unet"}
    assert stored(root, run).data.params == wanted


def test_a_run_returns_the_steps_of_a_metric(root):
    with start_run(root, "steps") as run:
        assert run.logged_steps("train/loss") == frozenset()
        for step in (1, 3):
            run.log_metrics({"train/loss": 0.5}, step=step)
        run.log_metrics({"val/loss": 0.5}, step=2)
        assert run.logged_steps("train/loss") == {1, 3}


def test_metrics_keep_their_steps_and_those_without_a_value_are_left_out(root):
    with start_run(root, "a") as run:
        for epoch in (1, 2):
            run.log_metrics({"val/iou/building": epoch / 4, "val/iou/water": None}, step=epoch)
        run.log_metrics({"test/miou": 0.75})
        run.log_metrics({"val/iou/water": None})
    history = client(root).get_metric_history(run.id, "val/iou/building")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.5)]
    assert stored(root, run).data.metrics == {"val/iou/building": 0.5, "test/miou": 0.75}


def test_an_announced_metric_comes_first_and_is_replaced_by_its_value(root):
    with start_run(root, "a") as run:
        run.announce_metric("test/miou")
        for epoch in (1, 2):
            run.log_metrics({"train/loss": 0.5, "val/miou": 0.25}, step=epoch)
        assert math.isnan(stored(root, run).data.metrics["test/miou"])
        run.log_metrics({"test/miou": 0.75})
    assert list(stored(root, run).data.metrics) == ["test/miou", "train/loss", "val/miou"]
    assert stored(root, run).data.metrics["test/miou"] == 0.75


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_a_number_is_refused(value, root):
    refused = pytest.raises(ValueError, match=r"train/loss is (nan|inf).*pass None")
    with start_run(root, "a") as run, refused:
        run.log_metrics({"train/loss": value}, step=1)
    assert stored(root, run).data.metrics == {}


def test_a_name_that_mlflow_rejects_is_one_plain_error(root):
    with start_run(root, "a") as run, pytest.raises(ValueError, match=r"iou\[0\]"):
        run.log_metrics({"iou[0]": 1.0})


def test_files_and_texts_lie_below_the_root(root, tmp_path):
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(b"weights")
    with start_run(root, "a") as run:
        run.log_file(checkpoint, "model")
        run.log_file(checkpoint)
        run.log_dict({"miou": 0.5}, "report.json")
    files = root / "mlruns" / run.id / "artifacts"
    assert (files / "model" / "best.pt").read_bytes() == b"weights"
    assert (files / "best.pt").read_bytes() == b"weights"
    assert json.loads((files / "report.json").read_text()) == {"miou": 0.5}


def test_what_cannot_be_logged_is_refused_by_name(root, tmp_path):
    with start_run(root, "a") as run:
        with pytest.raises(FileNotFoundError, match=r"best\.pt is not a file"):
            run.log_file(tmp_path / "best.pt")
        with pytest.raises(ValueError, match="JSON"):
            run.log_dict({"miou": float("nan")}, "report.json")


# Going on with a run


def test_resumed_training_continues_its_run(root):
    with start_run(root, "a") as run:
        run.log_metrics({"loss": 2.0}, step=1)
    with start_run(root, "b", resume_id=run.id) as again:
        assert status(root, again) == "RUNNING"
        again.log_metrics({"loss": 1.0}, step=2)
    assert again.id == run.id
    assert status(root, run) == "FINISHED"
    assert len(client(root).get_metric_history(run.id, "loss")) == 2


@pytest.mark.parametrize(("wanted", "reason"), [("gone", "not in the store"), ("open", "open in")])
def test_training_that_cannot_continue_its_run_gets_a_new_one(wanted, reason, root, caplog):
    other = start_run(root, "a")
    with start_run(root, "b", resume_id=other.id if wanted == "open" else "0" * 32) as run:
        pass
    assert run.id != other.id
    assert reason in caplog.text


def test_a_resumed_run_belongs_to_the_process_that_resumed_it(root):
    run = start_run(root, "a")
    run.set_tags({owners.PID_TAG: str(NOBODY)})
    with start_run(root, "b", resume_id=run.id) as again, start_run(root, "beside"):
        assert again.id == run.id  # the orphan was ended, then opened again
        assert status(root, again) == "RUNNING"


def test_the_first_evaluation_is_recorded_in_the_run_that_trained_the_model(root):
    train(root, sha="other")
    trained = train(root)
    train(root, sha="other")
    with resume_training_run(root, "abc", "toy") as run:
        assert status(root, run) == "RUNNING"
        run.log_metrics({"test/miou": 0.5})
    assert run.id == trained.id
    found = stored(root, trained)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "trained"
    assert found.data.metrics == {"test/miou": 0.5}
    assert "ensemble" not in found.data.tags


def test_a_second_evaluation_is_a_child_of_the_run(root):
    trained = train(root)
    runs = []
    for _ in range(3):
        with resume_training_run(root, "abc", "toy") as run:
            runs.append(run)
    assert runs[0].id == trained.id
    assert len({run.id for run in runs}) == 3
    for child in runs[1:]:
        assert stored(root, child).data.tags["mlflow.parentRunId"] == trained.id
        assert stored(root, child).info.run_name == "trained-evaluate"


def test_a_second_evaluation_has_the_name_of_its_dvc_experiment(root, monkeypatch):
    trained = train(root)
    with resume_training_run(root, "abc", "toy"):
        pass
    monkeypatch.setenv("DVC_EXP_NAME", "other-views")
    with resume_training_run(root, "abc", "toy") as child:
        pass
    assert stored(root, child).info.run_name == "other-views"
    assert stored(root, child).data.tags["mlflow.parentRunId"] == trained.id


def test_an_evaluation_of_an_ensemble_gets_a_child_run(root):
    trained = train(root)
    with resume_training_run(root, "abc", "toy", models=3) as ensemble:
        pass
    assert stored(root, ensemble).data.tags["mlflow.parentRunId"] == trained.id
    with resume_training_run(root, "abc", "toy") as own:
        pass
    assert own.id == trained.id


def test_an_evaluation_that_failed_may_be_repeated_in_the_same_run(root):
    trained = train(root)
    with pytest.raises(RuntimeError), resume_training_run(root, "abc", "toy"):
        raise RuntimeError
    assert status(root, trained) == "FAILED"
    with resume_training_run(root, "abc", "toy") as run:
        pass
    assert run.id == trained.id
    assert status(root, trained) == "FINISHED"


def test_two_evaluations_at_once_do_not_share_a_run(root):
    trained = train(root)
    with (
        resume_training_run(root, "abc", "a") as first,
        resume_training_run(root, "abc", "b") as run,
    ):
        assert first.id == trained.id
        assert stored(root, run).data.tags["mlflow.parentRunId"] == trained.id


def test_a_model_without_a_run_gets_a_tagged_new_run(root):
    train(root, sha="other")
    with resume_training_run(root, "abc", "toy-100") as run:
        pass
    found = stored(root, run)
    assert found.info.run_name == "toy-100"
    assert found.data.tags["pointcover.training"] == "from cache"
    with resume_training_run(root, "abc", "toy-100") as again:
        pass
    assert stored(root, again).data.tags["mlflow.parentRunId"] == run.id


def test_among_equal_models_that_of_the_same_dvc_experiment_is_evaluated(root, monkeypatch):
    trained = {}
    for name in ("gull", "auk"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        trained[name] = train(root).id
    monkeypatch.setenv("DVC_EXP_NAME", "gull")
    with resume_training_run(root, "abc", "toy") as run:
        pass
    assert run.id == trained["gull"]

    # An experiment whose training was cached takes the newest, and gives it its own name.
    monkeypatch.setenv("DVC_EXP_NAME", "tern")
    with resume_training_run(root, "abc", "toy") as run:
        pass
    assert run.id == trained["auk"]
    assert stored(root, run).info.run_name == "tern"
    assert stored(root, run).data.tags["dvc.exp_name"] == "tern"


# Several processes, and programs of MLflow's own


def test_importing_tracking_does_not_import_mlflow():
    code = "import sys, pointcover.tracking; print('mlflow' in sys.modules)"
    with python(code) as process:
        assert process.communicate()[0].strip() == "False"


@pytest.mark.slow
def test_opening_the_first_run_logs_nothing(bare_root):
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "sys.stderr = sys.stdout\n" + OPEN_AND_WAIT.replace("time.sleep(300)", "")
    )
    with python(code, bare_root) as process:
        lines = process.communicate()[0].splitlines()
    assert len(lines) == 1, lines


@pytest.mark.slow
def test_a_store_is_made_after_its_first_process_was_killed(bare_root):
    code = f"""
import os
from sqlalchemy import event
from sqlalchemy.engine import Engine
statements = 0
@event.listens_for(Engine, "before_cursor_execute")
def die_in_the_migration(*arguments):
    global statements
    statements += 1
    if statements == 150:
        os.kill(os.getpid(), {int(signal.SIGKILL)})
{OPEN_AND_WAIT}"""
    with python(code, bare_root) as process:
        assert process.communicate() == ("", None)
        assert process.returncode == -signal.SIGKILL
    assert not (bare_root / "mlflow.db").exists()
    (partial,) = bare_root.glob("mlflow.db.*.partial")
    assert partial.stat().st_size > 0
    with start_run(bare_root, "next") as run:
        pass
    assert status(bare_root, run) == "FINISHED"
    assert not list(bare_root.glob("*.partial*"))


@pytest.mark.slow
def test_six_processes_may_open_an_empty_store_at_once(bare_root):
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(python(OPEN_AND_WAIT, bare_root)) for _ in range(6)]
        run_ids = {process.stdout.readline().strip() for process in processes}
    assert len(run_ids - {""}) == 6
    for run_id in run_ids:
        assert client(bare_root).get_run(run_id).info.run_name == "waiting"


@pytest.mark.slow
def test_mlflow_ui_shows_the_runs_with_nothing_to_set(root, monkeypatch, network, target):
    with start_run(root, "seen") as run:
        run.log_text("hello", "a.txt")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = f"http://127.0.0.1:{port}"

    def answer(path, body=None):
        request = urllib.request.Request(
            address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def is_up():
        with contextlib.suppress(OSError):
            return answer("/health") == b"OK"
        return False

    clean = {name: os.environ[name] for name in os.environ if not name.startswith("MLFLOW_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"],
        cwd=root,
        env={**clean, "DO_NOT_TRACK": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(is_up, 90)
        experiment_id = stored(root, run).info.experiment_id
        found = json.loads(
            answer("/api/2.0/mlflow/runs/search", {"experiment_ids": [experiment_id]})
        )
        assert [each["info"]["run_name"] for each in found["runs"]] == ["seen"]
        assert answer(f"/get-artifact?run_uuid={run.id}&path=a.txt") == b"hello"

        # The same server as the store of another experiment, whose files it keeps.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with start_run(root, "served", experiment="served") as run:
            run.log_text("hello", "a.txt")
            run.set_tags({MODEL_TAG: "abc"})
            run.log_metrics({"loss": 1.0}, step=1)
        for score in (0.5, 0.6):  # the second is a child run
            with resume_training_run(root, "abc", "toy", experiment="served") as again:
                again.log_model(network, 7)
                assert again.register_champion("served", score, "a")
            assert (again.id == run.id) == (score == 0.5)
        found = fetch_model(root, "models:/served@champion", target)
        assert sorted(path.name for path in found.iterdir()) == [
            "MLmodel",
            "model.json",
            "model.pt",
            "requirements.txt",
        ]
        served = MlflowClient(address).get_run(run.id)
        assert served.info.artifact_uri.startswith("mlflow-artifacts:")
        assert served.data.metrics == {"loss": 1.0}
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def champion(root, name="valley"):
    return MlflowClient(tracking_uri(root)).get_model_version_by_alias(name, "champion")


def evaluated(root, score, split="a"):
    with start_run(root, f"scored {score}") as run:
        return run.register_champion("valley", score, split), run.id


def test_the_champion_is_the_best_model_of_a_split(root):
    assert evaluated(root, 0.5)[0]
    assert not evaluated(root, 0.4)[0]
    is_better, best = evaluated(root, 0.6)
    assert is_better
    assert not evaluated(root, 0.6)[0]
    assert champion(root).run_id == best
    assert champion(root).source.endswith(f"{best}/artifacts/model")
    versions = MlflowClient(tracking_uri(root)).search_model_versions("name = 'valley'")
    assert len(versions) == 2, "only those that beat the last are registered"


def test_another_split_has_a_champion_of_its_own(root, caplog):
    _, first = evaluated(root, 0.5)
    name, second = evaluated(root, 0.4, split="b")
    assert name.startswith("valley-")
    assert champion(root).run_id == first
    assert champion(root, name).run_id == second
    assert f"so this model is registered as '{name}'" in caplog.text
    assert evaluated(root, 0.6, split="b")[0] == name


def test_models_of_one_name_of_two_experiments_are_registered_apart(root, monkeypatch):
    _, first = evaluated(root, 0.5)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "north")
    name, second = evaluated(root, 0.9)
    assert name != "valley"
    assert champion(root).run_id == first
    assert champion(root, name).run_id == second
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert evaluated(root, 0.6)[0] == "valley"


def model_of(root, run):
    """The logged model of a run."""
    (output,) = stored(root, run).outputs.model_outputs
    return client(root).get_logged_model(output.model_id)


def model_folder(root, run):
    return Path(url2pathname(urlsplit(model_of(root, run).artifact_location).path))


def written(root, run):
    """The files of a run's model, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in model_folder(root, run).iterdir()}


@pytest.fixture
def network(tmp_path):
    """A folder with the files of a model; tracking does not look into them."""
    made = tmp_path / "models"
    made.mkdir()
    for name in MODEL_FILES:
        (made / name).write_text(name)
    return made


def test_a_model_is_logged_for_mlflow_and_its_weights_are_stored_once(root, network):
    with start_run(root, "training", tags={MODEL_TAG: "abc"}) as run:
        run.log_model(network, 7)
    before = written(root, run)
    with resume_training_run(root, "abc", "toy") as again:
        again.log_model(network, 7)
    for name in MODEL_FILES:
        assert written(root, run)[name] == before[name]
    described = Model.load(str(model_folder(root, run)))
    assert described.run_id == run.id
    assert described.model_id == model_of(root, run).model_id
    assert described.flavors["python_function"]["loader_module"] == "pointcover.serving"
    assert described.signature.inputs.input_names() == ["image"]
    assert {"MLmodel", "requirements.txt", *MODEL_FILES} == set(written(root, run))


def test_a_run_names_its_model_at_the_epoch_that_it_is_of_once(root, network):
    with start_run(root, "training", tags={MODEL_TAG: "abc"}) as run:
        run.log_params({"dataset": "sources/valley.yaml", "points": 20})
        run.log_metrics({"loss": 1.0}, step=9)
    for _ in range(2):  # the second is a child run
        with resume_training_run(root, "abc", "toy") as again:
            again.log_model(network, 7)
    (output,) = stored(root, run).outputs.model_outputs
    assert output.step == 7
    model = model_of(root, run)
    assert model.source_run_id == run.id
    assert (model.params["epoch"], model.params["points"]) == ("7", "20")
    assert model.tags["dataset"] == "valley"
    assert (model.name, model.status) == ("model", "READY")


def test_models_have_scores_with_dataset_and_step_and_the_best_is_found(root, network, monkeypatch):
    for name, score in (("worse", 0.4), ("best", 0.6), ("middle", 0.5)):
        with start_run(root, name) as run:
            run.log_model(network, 7)
            run.log_scores({"test/miou": score, "test/iou/road": None}, ScoredOn("toy", "ab" * 32))
        found = {metric.key: metric for metric in model_of(root, run).metrics}
        assert list(found) == ["test/miou"]
        assert (found["test/miou"].value, found["test/miou"].step) == (score, 7)
        assert found["test/miou"].dataset_name == "toy"
        assert found["test/miou"].dataset_digest == ("ab" * 32)[:36]
        assert stored(root, run).data.metrics == {"test/miou": score}
    mlflow.set_tracking_uri(tracking_uri(root))
    try:
        best = mlflow.search_logged_models(
            experiment_ids=[stored(root, run).info.experiment_id],
            order_by=[{"field_name": "metrics.test/miou", "ascending": False}],
            output_format="list",
        )
    finally:
        mlflow.set_tracking_uri(None)
    runs = [client(root).get_run(model.source_run_id).info.run_name for model in best]
    assert runs == ["best", "middle", "worse"]


def test_a_registered_version_is_linked_with_its_model_and_says_what_it_is(root, network):
    with start_run(root, "training") as run:
        run.log_dataset("valley", "cd" * 32, "data/sparse", "training")
        run.log_model(network, 7)
        about = tracking.ModelNotes("| mIoU | 0.5 |", {"clicks": "40"})
        assert run.register_champion("valley", 0.5, "a", about) == "valley"
    version = champion(root)
    assert version.description == "| mIoU | 0.5 |"
    wanted = {"test_miou": "0.5", "test_split": "a", "clicks": "40", "training_data": "cd" * 18}
    assert version.tags == wanted
    model = model_of(root, run)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [
        {"name": "valley", "version": version.version}
    ]
    assert version.source == model.artifact_location
    entry = client(root).get_registered_model("valley")
    assert entry.tags == {"experiment": "pointcover", "test_split": "a"}
    assert "highest test mIoU" in entry.description


def test_a_run_says_who_ran_what_and_hides_what_is_internal(root, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123abc")
    with start_run(root, "training", tags={"dataset": "toy"}) as run:
        run.describe("| test mIoU | 0.5 |")
    tags = stored(root, run).data.tags
    assert tags["mlflow.source.git.commit"] == "0123abc"
    assert tags["mlflow.source.name"] == Path(sys.argv[0]).name
    assert tags["mlflow.note.content"] == "| test mIoU | 0.5 |"
    shown = {tag for tag in tags if not tag.startswith("mlflow.")}  # as MLflow's pages choose
    assert shown == {"dataset", "dvc.baseline_rev"}


def test_a_model_without_weights_in_its_run_gets_them(root, network):
    with resume_training_run(root, "from another clone", "toy") as run:
        run.log_model(network, 7)
    with start_run(root, "cut short") as torn:
        torn.log_model(network, 7)
        (model_folder(root, torn) / "model.pt").write_text("mode")
        torn.log_model(network, 7)
    for made in (run, torn):
        assert {"MLmodel", "requirements.txt", *MODEL_FILES} == set(written(root, made))
        for name in MODEL_FILES:
            assert (model_folder(root, made) / name).read_text() == name


def test_a_champion_of_a_second_evaluation_is_the_model_of_the_run_that_trained_it(
    root, network, target
):
    with start_run(root, "training", tags={MODEL_TAG: "abc"}) as run:
        pass
    for score in (0.5, 0.6):  # the second is a child run
        with resume_training_run(root, "abc", "toy") as scoring:
            scoring.log_model(network, 7)
            assert scoring.register_champion("valley", score, "a")
    assert scoring.id != run.id
    assert champion(root).source == model_of(root, run).artifact_location
    assert champion(root).run_id == run.id
    found = fetch_model(root, "models:/valley@champion", target)
    assert {path.name for path in found.iterdir()} > set(MODEL_FILES)


def test_pictures_of_an_epoch_are_kept_with_its_step(root):
    with start_run(root, "training") as run:
        run.log_images({"north_3": np.zeros((4, 12, 3), np.uint8)}, step=7)
    files = MlflowClient(tracking_uri(root)).list_artifacts(run.id, "images")
    assert any("north_3" in file.path and "step%7" in file.path.replace("+", "%") for file in files)


def test_a_run_names_the_data_that_it_used(root):
    with start_run(root, "training") as run:
        run.log_dataset("valley", "ab" * 32, "data/sparse", "training")
    (used,) = MlflowClient(tracking_uri(root)).get_run(run.id).inputs.dataset_inputs
    assert used.dataset.name == "valley"
    assert used.dataset.digest == ("ab" * 32)[:36]
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}


# Models out of the store --------------------------------------------------------------------------


@pytest.fixture
def trained(root, tmp_path):
    """A run that has a model among its artifacts, and the model's folder."""
    made = tmp_path / "made"
    made.mkdir()
    for name in ("model.pt", "model.json"):
        (made / name).write_text(name)
    with start_run(root, "training") as run:
        for path in sorted(made.iterdir()):
            run.log_file(path, "model")
    return run.id, made


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.mark.parametrize("prefix", ["", "runs:/"])
def test_the_model_of_a_run_is_fetched_by_its_id(root, trained, target, prefix):
    run_id, made = trained
    found = fetch_model(root, f"{prefix}{run_id}", target)
    assert {path.name: path.read_text() for path in found.iterdir()} == {
        path.name: path.read_text() for path in made.iterdir()
    }


@pytest.mark.parametrize("source", ["runs:/{run}/model", "{folder}"])
@pytest.mark.parametrize("reference", ["models:/land cover@champion", "models:/land cover/1"])
def test_a_registered_model_is_fetched_by_alias_and_version(
    root, trained, target, source, reference
):
    run_id, made = trained
    client = MlflowClient(tracking_uri(root))
    client.create_registered_model("land cover")
    where = source.format(run=run_id, folder=made.as_uri())
    version = client.create_model_version("land cover", where, run_id=run_id)
    client.set_registered_model_alias("land cover", "champion", version.version)
    assert (fetch_model(root, reference, target) / "model.pt").read_text() == "model.pt"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("runs:/" + "0" * 32, "MLflow has no runs:/0000"),
        ("models:/nobody@champion", "MLflow has no models:/nobody@champion"),
        ("models:/nobody/3", "MLflow has no models:/nobody/3"),
        ("models:/nobody", "has no version: write models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_a_model_that_the_store_does_not_have_is_one_line(root, target, reference, said):
    with pytest.raises(ValueError, match=said) as caught:
        fetch_model(root, reference, target)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_model_is_refused(root, target):
    with start_run(root, "killed early") as run:
        pass
    with pytest.raises(ValueError, match="name a run with finished training"):
        fetch_model(root, run.id, target)


def test_fetching_without_a_store_makes_none(bare_root, target):
    with pytest.raises(FileNotFoundError, match=r"there is no MLflow store at .*MLFLOW_TRACKING_U"):
        fetch_model(bare_root, "runs:/" + "0" * 32, target)
    assert [path.name for path in bare_root.iterdir()] == ["dvc.yaml"]


def test_reading_an_empty_store_leaves_it_empty(bare_root, target):
    (bare_root / "mlflow.db").touch()
    with pytest.raises(FileNotFoundError, match="there is no MLflow store at"):
        fetch_model(bare_root, "models:/valley@champion", target)
    assert tracking.reopen_model_run(bare_root, "abc") is None
    assert {path.name: path.stat().st_size for path in bare_root.iterdir()} == {
        "dvc.yaml": 0,
        "mlflow.db": 0,
    }


def test_the_run_of_an_experiment_that_was_renamed_gets_its_new_name(root, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "old")
    with start_run(root, "old", tags={MODEL_TAG: "a" * 64}) as run:
        run.log_params({"points": 20, "seed": 1, "encoder": None})
    wanted = {"points": 20, "encoder": None}
    assert not tracking.rename_run(root, "new", "b" * 64, wanted, ["new"])
    assert not tracking.rename_run(root, "new", "a" * 64, {"points": 21}, ["new"])
    assert not tracking.rename_run(root, "new", "a" * 64, wanted, ["new", "old"])  # a copy of it
    assert tracking.rename_run(root, "new", "a" * 64, wanted, ["new"])
    assert tracking.recorded_experiments(root) == {"new"}
    found = MlflowClient(tracking_uri(root)).get_run(run.id)
    assert found.info.run_name == "new"


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_files_that_a_server_keeps_on_its_own_machine_are_explained(error):
    with (
        pytest.raises(OSError, match=r"written to /srv/mlruns .* `--serve-artifacts` and"),
        mlflow_store.whole_call("http://127.0.0.1:5000"),
    ):
        raise error(2, "No such file or directory", "/srv/mlruns")
    with pytest.raises(error), mlflow_store.whole_call("sqlite:///a.db"):
        raise error(2, "No such file or directory", "/srv/mlruns")
