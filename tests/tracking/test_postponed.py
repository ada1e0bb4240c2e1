"""What a server does not take is logged once it is back, whole and once."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import requests
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.tracking import calls, postponed, registry, store
from pointcover.tracking import runs as tracking
from pointcover.tracking.logged_models import ScoredOn
from pointcover.tracking.runs import (
    EVALUATED_TAG,
    EXPERIMENT_TAG,
    MODEL_TAG,
    log_postponed,
    resume_training_run,
    start_run,
)
from pointcover.tracking.store import StoreUnreachableError, tracking_uri, whole_call


class Server:
    """Stands for the way to a server, which may be away."""

    def __init__(self):
        self.is_away, self.attempts, self.most_calls = False, 0, None

    def perform(self, target, call):
        self.check()
        if self.most_calls is not None:
            self.most_calls -= 1
            self.is_away = self.most_calls <= 0
            self.check()
        return calls.perform(target, call)

    def connect(self, uri):
        self.check()
        return MlflowClient(uri)

    def check(self):
        if self.is_away:
            self.attempts += 1
            raise StoreUnreachableError("no MLflow server answers at http://team:5000 (refused)")


@pytest.fixture
def server(monkeypatch):
    server = Server()
    for module in (tracking, postponed):
        monkeypatch.setattr(module, "perform", server.perform)
    monkeypatch.setattr(tracking, "connect", server.connect)
    monkeypatch.setattr(tracking, "is_server", lambda _uri: True)
    return server


@pytest.fixture
def client(root):
    return MlflowClient(tracking_uri(root))


def folders(root):
    return sorted(path for path in (root / postponed.FOLDER).glob("*") if path.is_dir())


def history(client, run, name):
    return [(one.step, one.value) for one in client.get_metric_history(run.id, name)]


def train_without_server(root, server, tmp_path):
    """Log everything that a training logs; the server is away from the second epoch on."""
    model = tmp_path / "models"
    model.mkdir(exist_ok=True)
    (model / "model.pt").write_bytes(b"weights")
    (model / "model.json").write_text("{}")
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    with start_run(root, "patient") as run:
        run.log_params({"points": 5, "encoder": None})
        run.log_metrics({"loss": 1.0}, step=1)
        server.is_away = True
        run.log_metrics({"loss": 0.5}, step=2)
        run.announce_metric("test/miou")
        run.log_images({"a/b": np.full((4, 4, 3), 7, np.uint8)}, step=2)
        run.log_file(notes, "notes")
        run.log_text("text", "text.txt")
        run.log_dataset("valley", "abc", "data", "training")
        run.log_model(model, 2)
        run.log_scores({"kept/val_miou": 0.5}, ScoredOn("valley", "abc"))
        run.set_tags({MODEL_TAG: "abc"})
    shutil.rmtree(model)  # DVC removes outputs before the next training
    notes.unlink()
    return run


def check_training(client, run):
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"points": "5", "encoder": "null"}
    assert found.data.tags[MODEL_TAG] == "abc"
    assert history(client, run, "loss") == [(1, 1.0), (2, 0.5)]
    assert history(client, run, "kept/val_miou") == [(2, 0.5)]
    assert np.isnan(found.data.metrics["test/miou"])
    assert found.info.end_time < 1.1 * found.info.start_time
    files = {
        file.path
        for folder in (None, "notes")
        for file in client.list_artifacts(run.id, folder)
        if not file.is_dir
    }
    assert files == {"text.txt", "notes/notes.txt"}
    assert len(client.list_artifacts(run.id, "images")) == 2, "the image and its small copy"
    (used,) = found.inputs.dataset_inputs
    assert used.dataset.name == "valley"
    (output,) = found.outputs.model_outputs
    sizes = {
        file.path.rpartition("/")[2]: file.file_size
        for file in client.list_logged_model_artifacts(output.model_id)
    }
    assert sizes["model.pt"] == len(b"weights")


def test_a_run_goes_on_without_its_server_and_the_next_one_logs_what_waits(
    root, server, client, tmp_path, caplog
):
    run = train_without_server(root, server, tmp_path)
    assert client.get_run(run.id).info.status == "RUNNING"
    assert caplog.text.count("This goes on, and what is to be logged waits in") == 1
    assert "10 records of this run wait" in caplog.text
    assert server.attempts == 2, "the server is not asked at each call, but at the end"
    server.is_away = False
    with start_run(root, "next"):
        pass
    check_training(client, run)
    assert not list((root / postponed.FOLDER).iterdir())


def test_a_run_logs_what_waits_itself_when_the_server_is_back(
    root, server, client, monkeypatch, caplog
):
    monkeypatch.setattr(postponed, "TRY_AGAIN_S", 0)
    caplog.set_level("INFO")
    with start_run(root, "a") as run:
        for step in range(1, 6):
            server.is_away = 2 <= step <= 3
            run.log_metrics({"loss": step}, step=step)
            assert bool(folders(root)) == server.is_away
        assert "answers again: 2 waiting records are logged" in caplog.text
    assert history(client, run, "loss") == [(step, step) for step in range(1, 6)]
    assert client.get_run(run.id).info.status == "FINISHED"


def test_the_server_is_asked_again_after_a_while_only(root, server):
    with start_run(root, "a") as run:
        server.is_away = True
        for step in range(20):
            run.log_metrics({"loss": 1}, step=step)
        assert server.attempts == 1


@pytest.mark.parametrize("most_calls", [1, 3, 7, 8, 10])
def test_logging_what_waits_may_be_interrupted_anywhere(most_calls, root, server, client, tmp_path):
    run = train_without_server(root, server, tmp_path)
    server.is_away, server.most_calls = False, most_calls
    with pytest.raises(StoreUnreachableError, match="1 runs wait to be logged"):
        log_postponed(root)
    server.is_away, server.most_calls = False, None
    assert log_postponed(root) == (1, {})
    check_training(client, run)
    assert log_postponed(root) == (0, {})


@pytest.mark.parametrize("lost", [None, "images/*+compressed.webp", "images/*.png"])
def test_calls_that_the_server_had_taken_are_repeated_without_a_trace(
    lost, root, server, client, tmp_path
):
    run = train_without_server(root, server, tmp_path)
    (folder,) = folders(root)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    server.is_away = False
    log_postponed(root)
    shutil.copytree(kept, folder)  # as if killed before anything was noted
    if lost is not None:  # as if the server was killed between the files of an image
        (file,) = Path(client.get_run(run.id).info.artifact_uri.removeprefix("file://")).glob(lost)
        file.unlink()
    log_postponed(root)
    check_training(client, run)


def test_a_line_that_a_killed_process_left_in_part_is_passed_over(root, server, client, tmp_path):
    with start_run(root, "a") as run:
        server.is_away = True
        run.log_metrics({"loss": 1}, step=1)
    (folder,) = folders(root)
    with (folder / "calls.jsonl").open("a") as out:
        out.write('{"name": "metr')
    again = postponed.Postponed.start(root, run.id, {})
    again.add(calls.Call("tags", {"tags": {"a": "b"}}))
    again.close()
    lines = (folder / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["metrics", "end", "tags"]
    server.is_away = False
    log_postponed(root)
    assert client.get_run(run.id).data.tags["a"] == "b"


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE stands for a full disk")
def test_a_full_disk_damages_neither_what_waits_nor_what_comes_after(root, server, client):
    import resource

    with start_run(root, "a") as run:
        server.is_away = True
        run.log_metrics({"loss": 1}, step=1)
        (folder,) = folders(root)
        before = (folder / "calls.jsonl").read_bytes()
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, most))
        try:
            with pytest.raises(OSError, match="too large"):
                run.log_metrics({"loss": 2}, step=2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert (folder / "calls.jsonl").read_bytes() == before
        with (folder / "calls.jsonl").open("ab") as out:
            out.write(b'{"name": "metr')  # as where the disk did not let it be removed either
        run.log_metrics({"loss": 3}, step=3)
    server.is_away = False
    assert log_postponed(root) == (1, {})
    assert history(client, run, "loss") == [(1, 1.0), (3, 3.0)]


def test_what_a_living_process_postpones_is_left_to_it(root, server, client):
    with start_run(root, "a") as run:
        server.is_away = True
        run.log_metrics({"loss": 1}, step=1)
        server.is_away = False
        with start_run(root, "beside"):
            pass
        assert log_postponed(root)[0] == 0
        assert folders(root)
        assert client.get_run(run.id).info.status == "RUNNING"
    assert not folders(root)
    assert history(client, run, "loss") == [(1, 1.0)]


def test_an_evaluation_without_server_is_logged_in_the_run_of_its_model(
    root, server, client, tmp_path, monkeypatch
):
    monkeypatch.setenv("DVC_EXP_NAME", "patient")
    trained = train_without_server(root, server, tmp_path)
    with resume_training_run(root, "abc", "unused") as run:
        run.log_scores({"test/miou": 0.7}, ScoredOn("valley", "def"))
        run.describe(f"![panel](get-artifact?run_uuid={run.id})")
        assert run.register_champion("valley", 0.7, "split") is None
    monkeypatch.delenv("DVC_EXP_NAME")
    assert len(folders(root)) == 2
    server.is_away = False
    assert log_postponed(root) == (2, {})
    found = client.get_run(trained.id)
    assert found.data.metrics["test/miou"] == 0.7
    assert found.data.tags[EVALUATED_TAG] == "true"
    assert found.data.tags[EXPERIMENT_TAG] == "patient"
    assert found.data.tags["mlflow.note.content"].endswith(f"run_uuid={trained.id})")
    assert found.info.status == "FINISHED"
    assert client.get_model_version_by_alias("valley", "champion").run_id == trained.id
    assert len(client.search_runs([found.info.experiment_id])) == 1


def test_an_evaluation_that_is_interrupted_while_it_is_logged_gets_no_second_run(
    root, server, client
):
    server.is_away = True
    with resume_training_run(root, "abc", "named") as run:
        run.log_metrics({"test/miou": 0.7})
    server.is_away, server.most_calls = False, 2
    with pytest.raises(StoreUnreachableError):
        log_postponed(root)
    server.is_away, server.most_calls = False, None
    log_postponed(root)
    experiment = client.get_experiment_by_name("pointcover").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.info.run_name == "named"
    assert found.info.status == "FINISHED"


@pytest.mark.parametrize("kind", ["trained", "evaluated before", "from cache"])
@pytest.mark.parametrize("failing", ["set_run", "delete_tag"])
def test_an_evaluation_whose_run_could_not_be_noted_gets_no_second_run(
    kind, failing, root, server, client, monkeypatch
):
    if kind != "from cache":
        with start_run(root, "training", tags={MODEL_TAG: "abc"}) as trained:
            pass
    if kind == "evaluated before":
        with resume_training_run(root, "abc", "unused"):
            pass
    server.is_away = True
    with resume_training_run(root, "abc", "named") as run:
        run.log_metrics({"test/miou": 0.7})
    server.is_away = False
    with monkeypatch.context() as patch:

        def fail_now(self, *arguments):
            raise KeyboardInterrupt

        owner = postponed.Postponed if failing == "set_run" else MlflowClient
        patch.setattr(owner, failing, fail_now)
        with pytest.raises(KeyboardInterrupt):
            log_postponed(root)
    assert log_postponed(root) == (1, {})
    experiment = client.get_experiment_by_name("pointcover").experiment_id
    found = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    assert len(found) == (2 if kind == "evaluated before" else 1)
    (scored,) = (one for one in found if "test/miou" in one.data.metrics)
    assert scored.info.status == "FINISHED"
    if failing == "set_run":
        assert tracking.POSTPONED_TAG not in scored.data.tags
    if kind == "evaluated before":
        assert scored.data.tags["mlflow.parentRunId"] == trained.id
        assert scored.info.run_name == "training-evaluate"


def test_runs_that_wait_for_another_server_stay_and_sync_names_it(root, server, monkeypatch):
    with start_run(root, "a") as run:
        server.is_away = True
        run.log_metrics({"loss": 1})
    server.is_away = False
    path = folders(root)[0] / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"uri": "http://other:5000"}))
    number, reasons = log_postponed(root)
    assert number == 0
    assert "it waits for the MLflow server http://other:5000" in reasons[run.id]
    assert folders(root)


def test_a_run_that_was_deleted_is_a_warning_with_what_to_do(root, server, client, caplog):
    with start_run(root, "a") as run:
        server.is_away = True
        run.log_metrics({"loss": 1})
    server.is_away = False
    client.delete_run(run.id)
    with start_run(root, "next"):
        pass
    assert "cannot be logged" in caplog.text
    assert "remove the cause, or that folder" in caplog.text
    assert len(folders(root)) == 1


def test_a_record_that_the_server_cannot_take_keeps_no_other_one_waiting(
    root, server, client, monkeypatch, caplog
):
    """The server answers, and one record is error 500 each time, as where its S3 is away."""
    with start_run(root, "first") as refused, start_run(root, "second") as taken:
        server.is_away = True
        refused.set_tags({"text": "refused"})
        taken.set_tags({"text": "taken"})
    server.is_away = False

    def perform(target, call):
        if call.values.get("tags") == {"text": "refused"}:
            raise MlflowException("too many 500 error responses")
        return calls.perform(target, call)

    monkeypatch.setattr(postponed, "perform", perform)
    monkeypatch.setattr(store, "is_server", lambda _uri: True)
    assert {folder.name for folder in folders(root)} == {refused.id, taken.id}
    number, reasons = log_postponed(root)
    assert number == 1
    assert reasons == {refused.id: "its process is alive, or a message above says why"}
    assert "goes on waiting: no MLflow server answers" in caplog.text
    assert "error 500" in caplog.text
    assert client.get_run(taken.id).data.tags["text"] == "taken"
    with start_run(root, "next") as run:
        pass
    assert client.get_run(run.id).info.status == "FINISHED"
    assert [folder.name for folder in folders(root)] == [refused.id]


def test_sync_says_how_many_runs_it_logged(root, server, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr("pointcover.study.sync.list_experiments", lambda _root: {})
    with start_run(root, "a") as run:
        server.is_away = True
        run.log_metrics({"loss": 1})
    server.is_away = False
    done = CliRunner().invoke(app, ["sync"])
    assert done.exit_code == 0
    assert "1 runs that waited for the server are logged" in done.stderr
    assert "0 recorded: none was missing" in done.stderr


def fail(error):
    def raise_it():
        raise error

    return raise_it


def answered(status):
    answer = requests.Response()
    answer.status_code = status
    return requests.HTTPError(f"{status} Client Error for url", response=answer)


REFUSED = "API request to x failed with exception (Caused by [Errno 111] Connection refused)"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MlflowException(REFUSED), StoreUnreachableError, r"no MLflow .*\(connection refused\)"),
        (
            MlflowException("too many 500 error responses"),
            StoreUnreachableError,
            r"error 500: its log names the cause",
        ),
        (
            requests.ConnectionError("Connection refused"),
            StoreUnreachableError,
            r"no MLflow server answers at http://\*\*\*@team:5000",
        ),
        (answered(503), StoreUnreachableError, "no MLflow server answers"),
        (answered(401), PermissionError, "MLFLOW_TRACKING_USERNAME"),
        (
            MlflowException("Permission denied", error_code=PERMISSION_DENIED),
            PermissionError,
            "does not allow this .permission denied.: set MLFLOW_TRACKING_USERNAME",
        ),
        (
            MlflowException("Invalid Host header - possible", error_code=PERMISSION_DENIED),
            PermissionError,
            "does not accept that name of its host: start it with `--allowed-hosts`",
        ),
        (
            MlflowException("Run 'x' not found", error_code=RESOURCE_DOES_NOT_EXIST),
            OSError,
            "refused this .*Run 'x' not found",
        ),
        (
            EndpointConnectionError(endpoint_url="http://s3"),
            StoreUnreachableError,
            "cannot be stored in S3 .*set MLFLOW_S3_ENDPOINT_URL",
        ),
        (NoCredentialsError(), OSError, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here"),
    ],
)
def test_what_a_server_or_its_libraries_say_becomes_one_line(error, kind, said):
    with (
        pytest.raises(kind, match=said) as caught,
        whole_call("http://me:secret@team:5000"),
    ):
        fail(error)()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_defect_stays_a_defect():
    with pytest.raises(ZeroDivisionError), whole_call("http://team:5000"):
        fail(ZeroDivisionError())()


def test_of_two_that_register_at_once_the_better_one_is_champion(root, client, monkeypatch):
    """The better one registers after the other has looked, and before it sets the alias."""
    with start_run(root, "worse") as worse, start_run(root, "better") as better:
        pass
    set_alias, done = MlflowClient.set_registered_model_alias, []

    def set_late(self, *arguments):
        if not done:
            done.append(True)
            assert register(better, 0.8) == "valley"
        set_alias(self, *arguments)

    def register(run, score):
        candidate = registry.Candidate("valley", "e", "split", score, "/models", run.id)
        return registry.register_champion(client, candidate)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", set_late)
    assert register(worse, 0.7) is None
    champion = client.get_model_version_by_alias("valley", "champion")
    assert champion.run_id == better.id


@pytest.mark.parametrize(
    "failing", ["set_registered_model_alias", "delete_model_version_tag", "set_logged_model_tags"]
)
def test_a_registration_that_failed_midway_makes_no_second_version(
    failing, root, client, tmp_path, monkeypatch
):
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "model.json").write_text("{}")
    with start_run(root, "a") as run:
        run.log_model(tmp_path, 1)
        with monkeypatch.context() as patch:

            def fail_now(self, *arguments, **named):
                raise MlflowException("too many 500 error responses")

            patch.setattr(MlflowClient, failing, fail_now)
            with contextlib.suppress(OSError):
                run.register_champion("valley", 0.5, "split")
        assert run.register_champion("valley", 0.5, "split") == "valley"
    (version,) = client.search_model_versions("name = 'valley'")
    assert version.run_id == run.id
    assert registry.UNDECIDED_TAG not in version.tags
    assert client.get_model_version_by_alias("valley", "champion").version == version.version
    (output,) = client.get_run(run.id).outputs.model_outputs
    logged = client.get_logged_model(output.model_id).tags["mlflow.modelVersions"]
    assert json.loads(logged) == [{"name": "valley", "version": version.version}]


def test_a_version_from_which_a_person_took_the_alias_does_not_get_it_back(root, client):
    def register(score):
        with start_run(root, f"scored {score}") as run:
            return run.register_champion("valley", score, "split")

    assert register(0.5)
    assert register(0.9)
    client.set_registered_model_alias("valley", "champion", "1")
    assert not register(0.4)
    assert client.get_model_version_by_alias("valley", "champion").version == 1
    assert register(0.6) == "valley"
    assert client.get_model_version_by_alias("valley", "champion").version == 3
    client.delete_registered_model_alias("valley", "champion")
    assert register(0.55) == "valley"


def test_a_version_without_the_alias_does_not_get_it_by_a_second_evaluation(root, client):
    with start_run(root, "worse") as worse:
        assert worse.register_champion("valley", 0.5, "split")
    with start_run(root, "better") as better:
        assert better.register_champion("valley", 0.9, "split")
        client.set_registered_model_alias("valley", "champion", "1")
        assert better.register_champion("valley", 0.9, "split") is None
        assert client.get_model_version_by_alias("valley", "champion").version == 1
        client.delete_registered_model_alias("valley", "champion")
        assert better.register_champion("valley", 0.9, "split") == "valley"
    assert len(client.search_model_versions("name = 'valley'")) == 2


def test_a_champion_without_a_score_gives_way_to_one_that_has_one(root, client):
    with start_run(root, "a") as run:
        assert run.register_champion("valley", 0.5, "split")
        made = client.create_model_version("valley", "/models", run.id)
        client.set_registered_model_alias("valley", "champion", made.version)
        assert run.register_champion("valley", 0.6, "split") == "valley"


@pytest.mark.parametrize("better_is", ["first", "second"])
def test_one_that_registers_between_another_ones_steps_sees_its_version(
    better_is, root, client, monkeypatch
):
    """The second starts before the first has set the alias, and sets it after that."""
    with start_run(root, "first") as first, start_run(root, "second") as second:
        pass
    scores = {"first": 0.7, "second": 0.7} | {better_is: 0.8}
    set_alias, steps = MlflowClient.set_registered_model_alias, []

    def register(run, score):
        candidate = registry.Candidate("valley", "e", "split", score, "/models", run.id)
        return registry.register_champion(client, candidate)

    def set_in_turns(self, *arguments):
        steps.append(arguments)
        if len(steps) == 1:  # of the first
            register(second, scores["second"])
        elif len(steps) == 2:  # of the second, which has decided: the first goes on meanwhile
            set_alias(self, "valley", "champion", "1")
        set_alias(self, *arguments)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", set_in_turns)
    register(first, scores["first"])
    champion = client.get_model_version_by_alias("valley", "champion")
    assert champion.run_id == {"first": first, "second": second}[better_is].id
