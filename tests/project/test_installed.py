"""A project of the installed wheel runs, and after an upgrade only the changed stages run."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pointcover.config.params_text import with_values
from tests.project.building import build_wheel, copy_tree

SMALL = {
    "synthetic.orthophotos": 8,
    "synthetic.size_px": 128,
    "tile.size_px": 64,
    "tile.downsample": 1,
    "points": 10,
    "train.encoder": "none",
    "train.weights": "none",
    "train.classifier.mean_of": ["random_forest", "extra_trees"],
}
STAGES = ["download", "tile", "annotate", "train", "evaluate"]


class Installation:
    """A virtual environment with the wheel, and the libraries of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        self.folder = folder
        (site,) = folder.glob("lib/python*/site-packages")
        libraries = next(path for path in sys.path if path.endswith("site-packages"))
        # Without the .pth files there: this repository's own installation is not seen.
        (site / "libraries.pth").write_text(libraries)
        self.scripts = f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}"

    def install(self, wheel: Path) -> None:
        options = ("--no-deps", "--no-index", "--force-reinstall", "--quiet")
        self.run("python", "-m", "pip", "install", *options, str(wheel), cwd=self.folder)

    def run(self, *command: str, cwd: Path, fails: bool = False) -> str:
        unset = ("PYTHONPATH", "DVC_ROOT", "MLFLOW_TRACKING_URI", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        done = subprocess.run(
            command,
            cwd=cwd,
            env=kept | {"PATH": f"{self.scripts}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


@pytest.mark.slow
def test_a_project_of_the_wheel_runs_and_an_upgrade_runs_only_changed_stages(tmp_path):
    tree, project = tmp_path / "tree", tmp_path / "project"
    copy_tree(tree)
    python = Installation(tmp_path / "environment")
    python.install(build_wheel(tree, tmp_path))
    where = "import pointcover; print(pointcover.__file__)"
    assert str(python.folder) in python.run("python", "-c", where, cwd=tmp_path)

    python.run("pointcover", "init", str(project), cwd=tmp_path)
    params = (project / "params.yaml").read_text()
    params, missing = with_values(params, SMALL)
    assert not missing
    (project / "params.yaml").write_text(params)
    assert ran(python.run("dvc", "repro", cwd=project)) == STAGES
    assert ran(python.run("dvc", "repro", cwd=project)) == []

    changed = tree / "src" / "pointcover" / "training" / "fit.py"
    changed.write_text(changed.read_text() + "\nADDED = 1\n")
    pyproject = tree / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('version = "0.2.0"', 'version = "0.2.1"'))
    python.install(build_wheel(tree, tmp_path))
    # Nothing has changed for DVC, until a setting does: then the stage itself refuses.
    (project / "params.yaml").write_text(params.replace("seed: 1 ", "seed: 2 "))
    output = python.run("dvc", "repro", "train", cwd=project, fails=True)
    assert "the installed pointcover 0.2.1 has other code for the stage 'train'" in output
    assert "run `pointcover upgrade`" in output
    (project / "params.yaml").write_text(params)

    said = python.run("pointcover", "upgrade", cwd=project)
    assert "pointcover 0.2.0 → 0.2.1" in said
    assert "runs again: train\n" in said
    output = python.run("dvc", "repro", cwd=project)
    # The same model comes out, so that evaluate has nothing to do.
    assert ran(output) == ["train"]
