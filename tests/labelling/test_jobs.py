"""Training in the background, with its log in the page."""

import os
import subprocess
import sys

import pytest

from pointcover.labelling.jobs import Jobs
from pointcover.labelling.session import Session
from pointcover.labelling.trained_maps import TrainedModel
from tests.labelling.scenes import POINTS, open_scene
from tests.map_models import CLASSES, save_model
from tests.processes import wait_for

MODEL = {"number": 1, "experiment": "", "classes": ("a",), "maps": {}, "test_miou": 0.634}

FAKE_DVC = """
import sys
print("Running stage 'train'", flush=True)
print(" ".join(sys.argv[1:3]))
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Jobs in the folder of a pipeline whose DVC trains nothing."""
    monkeypatch.chdir(tmp_path)
    session = Session(open_scene(tmp_path, images=3), threads=1)
    pipeline = tmp_path / "pipeline"
    (pipeline / "sources").mkdir(parents=True)
    (pipeline / "dvc").mkdir()
    (pipeline / "dvc" / "__init__.py").touch()
    (pipeline / "dvc" / "__main__.py").write_text(FAKE_DVC)
    for name in ("dvc.yaml", "params.yaml"):
        (pipeline / name).write_text("")
    yield Jobs(session, pipeline)
    session.close()


def finished(jobs):
    return wait_for(lambda: jobs.session.job["state"] in ("done", "failed") and jobs.session.job)


def label(jobs, images=3):
    for image in range(images):
        for x, y, name in POINTS:
            jobs.session.add(image, (x, y), name)


def test_training_shows_its_log_and_where_the_model_is(jobs, monkeypatch):
    monkeypatch.setattr(Jobs, "_map_trained", lambda jobs, name: TrainedModel(**MODEL))
    label(jobs)
    jobs.train()
    with pytest.raises(ValueError, match="another job runs"):
        jobs.export()
    job = finished(jobs)
    assert job["state"] == "done", job
    assert job["log"].splitlines() == ["Running stage 'train'", "exp run"]
    assert "models, its maps in" in job["text"]
    assert "test images: 0.63" in job["text"]
    assert (jobs.folder / "sources" / "label_project.yaml").is_file()
    jobs.train()  # its own card is replaced
    assert finished(jobs)["state"] == "done"


def test_a_card_of_somebody_else_is_not_overwritten(jobs):
    label(jobs)
    sources = jobs.folder / "sources"
    for name in ("project.yaml", "label_project.yaml"):
        (sources / name).write_text("title: mine\n")
    jobs.train()
    job = finished(jobs)
    assert job["state"] == "failed"
    assert "label_project.yaml is no earlier export of" in job["text"]
    assert {path.read_text() for path in sources.iterdir()} == {"title: mine\n"}


def test_the_written_command_overwrites_no_card_of_somebody_else(jobs, tmp_path):
    label(jobs)
    jobs.export()
    assert finished(jobs)["state"] == "done"
    dvc = tmp_path / "bin" / "dvc"
    dvc.parent.mkdir()
    dvc.write_text('#!/bin/sh\necho "$1 $2"\n')
    dvc.chmod(0o755)
    card = jobs.folder / "sources" / "label_project.yaml"

    def run():
        return subprocess.run(
            ["sh", str(jobs.session.export_folder / "run.sh")],
            cwd=jobs.folder,
            env={"PATH": f"{dvc.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    for _ in range(2):
        done = run()
        assert (done.returncode, done.stdout) == (0, "exp run\n")
    assert card.read_text() == (jobs.session.export_folder / "card.yaml").read_text()
    card.write_text("title: mine\n")
    refused = run()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is no earlier export of this project" in refused.stderr
    assert card.read_text() == "title: mine\n"


def test_a_training_that_fails_is_said(jobs, monkeypatch):
    label(jobs)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    jobs.train()
    assert finished(jobs)["text"] == "The training ended with code 1; its log says why."


def test_too_few_images_are_not_trained_on(jobs):
    label(jobs, 2)
    jobs.train()
    job = finished(jobs)
    assert job["state"] == "failed"
    assert "training needs 3" in job["text"]


def test_a_model_without_maps_is_said(jobs):
    """The stand-in for DVC makes no model."""
    label(jobs)
    jobs.train()
    job = finished(jobs)
    assert job["state"] == "failed"
    assert "The model is trained, but its maps are not made" in job["text"]
    assert "Running stage 'train'" in job["log"]


def test_maps_are_made_where_the_mlflow_server_does_not_answer(jobs, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    save_model(jobs.folder / "models")
    label(jobs)
    jobs.train()
    job = finished(jobs)
    assert job["state"] == "done", job
    shown = jobs.session.status()["trained"]
    assert (shown["images"], shown["has_run"]) == ([0, 1, 2], False)
    assert jobs.session.trained.model.classes == CLASSES.names
    assert "does not link the run of the trained model" in caplog.text
    assert "http://127.0.0.1:9" in caplog.text
