"""`pointcover init` makes a project; `pointcover upgrade` renews it and keeps edits."""

import operator
import re
import subprocess
from functools import reduce

import pytest
import yaml
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.project import create, upgrade
from pointcover.project.template import project_files
from pointcover.runtime import code_closure
from pointcover.runtime.code_lock import LOCK, read_lock


@pytest.fixture(autouse=True)
def _an_identity(monkeypatch, tmp_path):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@localhost")
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\temail = test@localhost\n\tname = test\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))


def run(*args):
    return CliRunner().invoke(app, list(args))


def git(folder, *args):
    done = subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project, which is the working directory; git and DVC are not set up."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in project_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / LOCK).write_text(create.lock_of(folder, project_files()), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_a_new_project_is_committed_and_its_pipeline_is_valid(tmp_path):
    folder = tmp_path / "a new" / "project"
    done = run("init", str(folder))
    assert done.exit_code == 0, done.output
    assert f"{folder} is ready" in done.output
    assert git(folder, "status", "--short") == ""
    assert set(git(folder, "ls-files").split("\n")) >= {*project_files(), LOCK, ".dvc/config"}
    again = run("init", str(folder))
    assert again.exit_code == 1
    assert "is a project of pointcover already: `pointcover upgrade` there" in again.output
    listed = subprocess.run(
        ["dvc", "stage", "list", "--name-only"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    assert listed.stdout.split() == ["download", "tile", "annotate", "train", "evaluate"]


@pytest.mark.slow
def test_in_a_repository_nothing_is_committed_and_its_files_are_kept(tmp_path):
    git(tmp_path, "init", "--quiet")
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    (folder / ".gitignore").write_text("secret\n/data/\n")
    done = run("init", str(folder))
    assert done.exit_code == 0, done.output
    assert "commit its files" in done.output
    assert (folder / "README.md").read_text() == "mine"
    ignored = (folder / ".gitignore").read_text().splitlines()
    assert ignored[:2] == ["secret", "/data/"]
    assert ignored.count("/data/") == 1
    assert "/models/" in ignored
    assert not git(tmp_path, "for-each-ref")
    assert (folder / ".dvc" / "config").is_file()


def test_a_file_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "params.yaml").write_text("mine")
    done = run("init", str(tmp_path))
    assert done.exit_code == 1
    assert "has params.yaml, which would be replaced" in done.output
    assert [path.name for path in tmp_path.iterdir() if path.name != "gitconfig"] == ["params.yaml"]
    done = run("init", str(tmp_path / "params.yaml"))
    assert "is a file: name a folder" in done.output


def test_an_upgrade_without_a_project_is_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("upgrade")
    assert done.exit_code == 1
    assert f"has no {LOCK}, so it is no project that `pointcover init` made" in done.output


def test_an_upgrade_to_the_same_version_changes_nothing(project):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    done = run("upgrade")
    assert done.exit_code == 0, done.output
    assert "runs again: none" in done.output
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_an_upgrade_renews_files_but_not_those_that_were_edited(project, monkeypatch):
    newer = project_files()
    newer["dvc.yaml"] += "# newer\n"
    newer["stages/tile.py"] += "# newer\n"
    newer["stages/train.py"] += "# newer\n"
    monkeypatch.setattr(upgrade, "project_files", lambda: newer)
    mine = (project / "stages" / "train.py").read_text() + "# mine\n"
    (project / "stages" / "train.py").write_text(mine)
    unchanged = (project / "stages" / "evaluate.py").read_text() + "# mine\n"
    (project / "stages" / "evaluate.py").write_text(unchanged)
    (project / "stages" / "suggest.py").unlink()
    lock = yaml.safe_load((project / LOCK).read_text())
    lock["stages"]["annotate"] = "0123456789abcdef"
    lock["version"] = "0.1.9"
    (project / LOCK).write_text(yaml.safe_dump(lock))
    done = run("upgrade")
    assert done.exit_code == 0, done.output
    assert "pointcover 0.1.9 →" in done.output
    for name in ("dvc.yaml", "stages/tile.py", "stages/suggest.py"):
        assert f"renewed {name}" in done.output
        assert (project / name).read_text() == newer[name]
    assert "kept stages/train.py, which you edited" in done.output
    assert (project / "stages" / "train.py").read_text() == mine
    assert (project / "stages" / "train.py.new").read_text() == newer["stages/train.py"]
    assert (project / "stages" / "evaluate.py").read_text() == unchanged
    assert not (project / "stages" / "evaluate.py.new").exists()
    assert "runs again: annotate\n" in done.output
    assert read_lock(project / LOCK)["stages"]["annotate"] != "0123456789abcdef"


def test_settings_that_are_new_or_gone_are_said_and_values_stay(project, monkeypatch):
    params = (project / "params.yaml").read_text()
    assert "points: 200 " in params
    assert "  size_px: 256 " in params
    params = params.replace("points: 200 ", "points: 77 # mine\n#").replace(
        "\nseed: 1 ", "\nold: {a: 1}\n#"
    )
    (project / "params.yaml").write_text(params)
    done = run("upgrade")
    assert done.exit_code == 0, done.output
    assert "new setting seed: 1" in done.output
    assert "the setting old no longer exists; it was {'a': 1}" in done.output
    written = yaml.safe_load((project / "params.yaml").read_text())
    assert written == yaml.safe_load(project_files()["params.yaml"]) | {"points": 77}
    assert "runs again: none" in done.output


def test_new_settings_keep_results(project):
    """Where a new project has a value that changes results, an upgraded one has another."""
    template = (project / "params.yaml").read_text()
    old = re.sub(r"    smoothing_px: 3 (.*\n)+?(?=    max_pixels)", "", template)
    assert old != template
    (project / "params.yaml").write_text(old.replace("points: 200 ", "points: 77 # mine\n#"))
    done = run("upgrade")
    assert done.exit_code == 0, done.output
    assert "new setting train.classifier.smoothing_px: 0" in done.output
    wanted = yaml.safe_load(template) | {"points": 77}
    wanted["train"]["classifier"]["smoothing_px"] = 0
    assert yaml.safe_load((project / "params.yaml").read_text()) == wanted
    assert "runs again: none" in done.output


def test_values_that_keep_results_are_of_settings_that_differ(project):
    settings = yaml.safe_load((project / "params.yaml").read_text())
    for key, value in upgrade.KEEPS_RESULTS.items():
        ours = reduce(operator.getitem, key.split("."), settings)
        assert ours != value, key


def test_an_edited_setting_does_not_renew_params(project):
    text = (project / "params.yaml").read_text().replace("points: 200 ", "points: 77 # mine\n#")
    (project / "params.yaml").write_text(text)
    assert run("upgrade").exit_code == 0
    assert (project / "params.yaml").read_text() == text


def test_a_damaged_lock_is_written_again_and_all_edited_files_are_kept(project):
    (project / LOCK).write_text("<<<<<<< ours\n")
    mine = (project / "stages" / "train.py").read_text() + "# mine\n"
    (project / "stages" / "train.py").write_text(mine)
    done = run("upgrade")
    assert done.exit_code == 0, done.output
    assert "kept stages/train.py, which you edited" in done.output
    assert (project / "stages" / "train.py").read_text() == mine
    assert set(read_lock(project / LOCK)["stages"]) >= {"train", "evaluate"}


def test_a_stage_that_is_no_python_is_one_message(project):
    (project / "stages" / "train.py").write_text("def (:\n")
    code_closure.imported_names.cache_clear()
    done = run("upgrade")
    assert done.exit_code == 1
    assert "stages/train.py, line 1: " in done.output
    assert "correct this line" in done.output


def test_damaged_params_stop_an_upgrade_before_it_renews_anything(project, monkeypatch):
    newer = project_files()
    newer["dvc.yaml"] += "# newer\n"
    monkeypatch.setattr(upgrade, "project_files", lambda: newer)
    (project / "params.yaml").write_text("points: [\n")
    done = run("upgrade")
    assert done.exit_code == 1
    assert "params.yaml" in done.output
    assert "# newer" not in (project / "dvc.yaml").read_text()


@pytest.mark.slow
def test_a_commit_that_git_refuses_leaves_a_project_to_commit(tmp_path):
    (tmp_path / "gitconfig").write_text(
        (tmp_path / "gitconfig").read_text() + "[core]\n\thooksPath = hooks\n"
    )
    hook = tmp_path / "project" / "hooks" / "pre-commit"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\necho no commits today >&2; exit 1\n")
    hook.chmod(0o755)
    done = run("init", str(tmp_path / "project"))
    assert done.exit_code == 0, done.output
    assert "commit its files yourself" in done.output
    assert "no commits today" in done.output
