"""Experiments of DVC as pointcover runs and reads them."""

import os
import subprocess

import pytest

from pointcover.tracking.dvc_experiments import list_experiments, untracked_in


def test_a_repository_of_another_user_gets_gits_own_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(ValueError, match=r"another user, so git does not use it: run `git config"):
        list_experiments(tmp_path)


def test_untracked_files_are_listed_as_dvc_can_copy_them(tmp_path):
    for name in ("README.md", "mine.yaml", "valley/a.tif", "known/a.tif", "known/b.tif"):
        (tmp_path / "sources" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sources" / name).write_text("x")
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    subprocess.run(
        ["git", "add", "sources/README.md", "sources/known/a.tif"], cwd=tmp_path, check=True
    )
    wanted = ["sources/known/b.tif", "sources/mine.yaml", "sources/valley"]
    assert sorted(untracked_in(tmp_path, "sources")) == wanted
