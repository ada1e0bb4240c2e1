"""What runs `train` again: code that decides its result, and nothing that records or draws."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.imagery import ROOT

STAGES = ("download", "tile", "annotate", "train", "evaluate")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Copy the project into a repository of its own, and record every stage as up to date."""
    folder = tmp_path_factory.mktemp("pipeline")
    listed = subprocess.run(
        ["git", "ls-files", "dvc.yaml", "params.yaml", ".dvcignore", "src", "stages", "sources"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    Repo.init(str(folder), no_scm=True).close()
    for name in ("data/tiles/images/train", "data/tiles/images/val"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.tif").write_text("x")
    (folder / "data/tiles/tiles.json").write_text("{}")
    with contextlib.chdir(folder), Repo(str(folder)) as repo:
        for output in [output for stage in repo.index.stages for output in stage.outs]:
            path = Path(output.fs_path)
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("{}")
            else:
                path.mkdir(parents=True, exist_ok=True)
                (path / "a.txt").write_text("x")
        repo.commit(force=True)
    return folder


def changed_stages(folder):
    """Return the stages that `dvc status` finds changed."""
    with contextlib.chdir(folder), Repo(str(folder)) as repo:
        found = repo.status()
    return {name for name in STAGES if name in found}


def edited(folder, name):
    """Return the stages that an added comment in a file changes, and take the comment back."""
    path = folder / name
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "# edited\n", encoding="utf-8")
    try:
        return changed_stages(folder)
    finally:
        path.write_text(before, encoding="utf-8")


def test_nothing_has_changed_before_an_edit(pipeline):
    assert changed_stages(pipeline) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "src/pointcover/datasets/card.py",
        "src/pointcover/figures.py",
        "src/pointcover/tracking/runs.py",
        "src/pointcover/tracking/store.py",
        "src/pointcover/evaluation/settings.py",
        "src/pointcover/annotation/settings.py",
        "src/pointcover/tiling/settings.py",
        "src/pointcover/validation.py",
        "src/pointcover/cli/predict.py",
        "src/pointcover/runtime/errors.py",
        "src/pointcover/text.py",
    ],
)
def test_messages_figures_tracking_and_other_settings_train_nothing_again(pipeline, name):
    assert "train" not in edited(pipeline, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("src/pointcover/training/step.py", "train"),
        ("src/pointcover/tileset/tiles.py", "train"),
        ("src/pointcover/annotation/samplers/drawing.py", "annotate"),
        ("src/pointcover/metrics/scores.py", "evaluate"),
        ("src/pointcover/datasets/card.py", "download"),
        ("stages/tile.py", "tile"),
    ],
)
def test_code_that_decides_a_result_runs_its_stage_again(pipeline, name, stage):
    assert stage in edited(pipeline, name)


def test_a_value_of_a_setting_runs_its_stage_again(pipeline):
    path = pipeline / "params.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("\npoints: 200", "\npoints: 100"), encoding="utf-8")
    try:
        assert changed_stages(pipeline) == {"annotate"}
    finally:
        path.write_text(before, encoding="utf-8")


def test_other_weights_in_the_same_file_train_again_and_another_card_does_not(pipeline):
    card = pipeline / "sources" / "mine.yaml"
    card.write_text("classes: [a, b]", encoding="utf-8")
    try:
        assert "train" not in changed_stages(pipeline)
    finally:
        card.unlink()
    path = pipeline / "params.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("file: sources/none", "file: encoder.pt"), encoding="utf-8")
    (pipeline / "encoder.pt").write_bytes(b"weights")
    try:
        with contextlib.chdir(pipeline), Repo(str(pipeline)) as repo:
            repo.commit("train", force=True)
        assert changed_stages(pipeline) == set()
        assert edited(pipeline, "encoder.pt") == {"train"}
    finally:
        path.write_text(before, encoding="utf-8")
        with contextlib.chdir(pipeline), Repo(str(pipeline)) as repo:
            repo.commit("train", force=True)


def run_dvc(folder, *arguments):
    """Run DVC in a folder, and return what it says."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_failed_download_keeps_the_dataset_before_it(pipeline, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pipeline, folder, ignore=shutil.ignore_patterns(".dvc"))
    Repo.init(str(folder), no_scm=True).close()
    params = folder / "params.yaml"
    text = params.read_text("utf-8")
    params.write_text(text.replace("\ndataset: synthetic", "\ndataset: landcoverai99"), "utf-8")
    assert "landcoverai99" in run_dvc(folder, "repro", "download")
    assert (folder / "data/dataset/a.txt").read_text() == "x"


@pytest.mark.slow
def test_a_misspelt_key_is_refused_by_dvc_and_with_a_plus_by_the_stage(pipeline, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pipeline, folder, ignore=shutil.ignore_patterns(".dvc"))  # not its cache
    for command in (
        ["git", "init", "-q", "."],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "x"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    assert "Key 'lrr' is not in struct" in run_dvc(folder, "exp", "run", "-S", "train.lrr=1")
    params = folder / "params.yaml"  # as `-S +train.lrr=1` leaves it
    params.write_text(params.read_text("utf-8").replace("  lr: ", "  lrr: 1\n  lr: "), "utf-8")
    said = run_dvc(folder, "repro", "-s", "train")
    assert "train.lrr: this key is unknown; did you mean 'lr'?" in said
