"""Experiments of DVC as pointcover runs and reads them."""

import subprocess

from pointcover.tracking.dvc_experiments import untracked_in


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
