"""A team of two clones, with PostgreSQL, S3 and an MLflow server, which is also killed."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pointcover.tracking.runs import EVALUATED_TAG, MODEL_TAG
from tests.clones import SMALL, Clone, ran
from tests.processes import wait_for
from tests.services import KEYS, MLflowServer, postgres, s3_server

pytestmark = pytest.mark.slow

EXPERIMENT = "valley"
PATIENT = "patient"
"""The experiment during which the server is killed."""
EPOCHS = 12

FETCH = """
import sys
from pathlib import Path
from pointcover.models.fetch import fetch_model
fetch_model(Path.cwd(), "models:/synthetic@champion", Path(sys.argv[1]))
"""


def settings() -> dict:
    return SMALL | {"train": SMALL["train"] | {"epochs": 1}, "evaluate": {"panels": 1}}


class Member(Clone):
    """A clone of one of the team."""

    def __init__(self, folder: Path, server: MLflowServer, origin: Path | None = None) -> None:
        self.server = server
        folder.mkdir()
        if origin is None:
            super().__init__(folder, settings())
            return
        self.folder = folder
        self.run("git", "clone", "-q", str(origin), ".")
        self.run("git", "config", "user.name", "second")
        self.run("git", "config", "user.email", "second@localhost")

    @property
    def environment(self) -> dict[str, str]:
        return (
            super().environment
            | KEYS
            | {
                "MLFLOW_TRACKING_URI": self.server.address,
                "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
            }
        )


class Team:
    """Two clones, and what they share."""

    def __init__(self, folder: Path, s3: str, server: MLflowServer) -> None:
        self.folder, self.server = folder, server
        self.first = Member(folder / "first", server)
        self.first.run("dvc", "remote", "add", "--default", "team", "s3://dvc/valley")
        self.first.run("dvc", "remote", "modify", "team", "endpointurl", s3)
        self.first.run("dvc", "repro", "annotate")
        self.first.commit()
        origin = folder / "origin.git"
        self.first.run("git", "clone", "-q", "--bare", ".", str(origin))
        self.first.run("git", "remote", "add", "origin", str(origin))
        self.first.run("dvc", "push")
        self.second = Member(folder / "second", server, origin)

    @property
    def members(self) -> tuple[Member, Member]:
        return self.first, self.second

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.server.address)

    def runs(self) -> dict[str, object]:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        found = self.client.search_runs([experiment.experiment_id]) if experiment else []
        return {run.info.run_name: run for run in found}


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    with postgres() as database, s3_server(folder, ["mlflow", "dvc"]) as s3:
        server = MLflowServer(folder, database, s3)
        server.start()
        try:
            yield Team(folder, s3, server)
        finally:
            server.kill()


def is_evaluated(run) -> bool:
    return run.info.status == "FINISHED" and EVALUATED_TAG in run.data.tags


def model_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_two_clones_share_data_runs_models_and_the_champion(team):
    # The second clone gets tiles and labels from S3, and makes none.
    team.second.run("dvc", "pull", "--with-deps", "annotate")
    assert ran(team.second.run("dvc", "repro", "annotate")) == []

    # Six experiments, three queued in each clone, from both at once.
    rates = {"a": "0.001,0.002,0.003", "b": "0.004,0.005,0.006"}
    for member, letter in zip(team.members, rates, strict=True):
        sweep = ["-n", letter, "-S", f"train.lr={rates[letter]}"]
        member.run("dvc", "exp", "run", "--queue", *sweep)
    for member in team.members:
        member.start("dvc", "queue", "start", log=member.folder / ".dvc/start.log").wait(120)

    def have_ended() -> bool:
        return sum(is_evaluated(run) for run in team.runs().values()) == 6

    wait_for(have_ended, 900, 2)
    for member in team.members:
        wait_for(lambda one=member: one.run("dvc", "queue", "status").count("Success") == 3, 120, 3)
    runs = team.runs()
    assert runs.keys() == {f"{letter}-{number}" for letter in rates for number in (1, 2, 3)}
    assert all(run.info.artifact_uri.startswith("mlflow-artifacts:") for run in runs.values())

    # The champion is the best of all six, whatever clone asks.
    (entry,) = team.client.search_registered_models()
    champion = team.client.get_model_version_by_alias(entry.name, "champion")
    best = max(run.data.metrics["test/miou"] for run in runs.values())
    assert float(champion.tags["test_miou"]) == best
    fetched = []
    for member in team.members:
        folder = team.folder / f"champion of {member.folder.name}"
        folder.mkdir()
        member.run("python", "-c", FETCH, str(folder))
        (model,) = folder.rglob("model.pt")
        fetched.append(model_digest(model))
    assert fetched[0] == fetched[1] == champion.tags["model_sha256"]

    # Experiments and their models go from one clone to the other by git and S3.
    team.first.run("dvc", "exp", "push", "origin", "a-1", "a-2")
    team.second.run("dvc", "exp", "pull", "origin", "a-1", "a-2")
    team.second.run("dvc", "exp", "apply", "a-2")
    assert ran(team.second.run("dvc", "repro")) == []
    model = json.loads((team.second.folder / "models/model.json").read_text())
    assert model_digest(team.second.folder / "models/model.pt") == runs["a-2"].data.tags[MODEL_TAG]
    assert model["weights_sha256"] == runs["a-2"].data.tags[MODEL_TAG]
    assert "0 recorded: none was missing" in team.second.run("pointcover", "sync")


def test_a_training_goes_on_without_its_server_and_nothing_is_lost(team):
    log = team.folder / "patient.log"
    command = ["dvc", "exp", "run", "--temp", "-n", PATIENT, "-S", f"train.epochs={EPOCHS}"]
    process = team.first.start(*command, log=log)

    def has_epoch() -> bool:
        assert process.poll() is None, log.read_text()
        run = team.runs().get(PATIENT)
        return run is not None and "train/loss" in run.data.metrics

    wait_for(has_epoch, 300, 0.1)
    team.server.kill()
    assert process.wait(600) == 0, log.read_text()
    said = log.read_text()
    assert "no MLflow server answers" in said
    assert "connection refused" in said
    assert not re.search("Traceback|HTTPConnectionPool|Retrying", said)
    unlogged = team.first.folder / ".pointcover" / "unlogged"
    assert len(list(unlogged.glob("*/run.json"))) == 2, "the training and the evaluation"
    said = team.first.run("pointcover", "sync", fails=True)
    assert "2 runs wait to be logged, but no MLflow server answers" in said

    team.server.start()
    before = team.runs()[PATIENT]
    assert not is_evaluated(before)
    said = team.first.run("pointcover", "sync")
    assert "2 runs that waited for the server are logged" in said
    assert not list(unlogged.iterdir())
    check_whole(team, before.info.run_id)
    assert "0 recorded: none was missing" in team.first.run("pointcover", "sync")
    check_whole(team, before.info.run_id)


def check_whole(team: Team, run_id: str) -> None:
    """Check that a run has all that it would have had with its server, once."""
    client, run = team.client, team.runs()[PATIENT]
    assert run.info.run_id == run_id
    assert is_evaluated(run)
    other = team.runs().get("a-1")
    if other is not None:  # as an experiment whose server answered all the time
        # A class that no pixel has, and no prediction, has no IoU.
        kinds = [
            {name for name in one.data.metrics if not name.startswith("test/iou/")}
            for one in (run, other)
        ]
        assert kinds[0] == kinds[1]
        assert run.data.params.keys() == other.data.params.keys()
        assert run.data.tags.keys() == other.data.tags.keys()
        files = [{f.path for f in client.list_artifacts(one.info.run_id)} for one in (run, other)]
        assert files[0] == files[1]
    history = client.get_metric_history(run_id, "train/loss")
    assert sorted(metric.step for metric in history) == list(range(1, EPOCHS + 1))
    images = [file.path for file in client.list_artifacts(run_id, "images")]
    full = [re.search(r"/(.+)\+step\+(\d+)\+", name).groups() for name in images if ".png" in name]
    assert len(full) == len(set(full))
    assert {int(step) for _name, step in full} == set(range(1, EPOCHS + 1))
    (output,) = run.outputs.model_outputs
    files = {Path(file.path).name for file in client.list_logged_model_artifacts(output.model_id)}
    assert files == {"MLmodel", "requirements.txt", "model.pt", "model.json"}
    context = {tag.value for used in run.inputs.dataset_inputs for tag in used.tags}
    assert context == {"training", "evaluation"}
    assert run_id in run.data.tags["mlflow.note.content"]
    assert "evaluation-" not in run.data.tags["mlflow.note.content"]
