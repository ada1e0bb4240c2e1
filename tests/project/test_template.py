"""Files of a new project are those of this repository, but for its code."""

import ast
import re
import subprocess
import sys

import pytest
import yaml

from pointcover.project.template import STAGES, pipeline_of, project_files
from tests.imagery import ROOT
from tests.project.building import build_wheel, copy_tree


def stages_of(text: str) -> dict:
    return {name: stage.get("do", stage) for name, stage in yaml.safe_load(text)["stages"].items()}


def test_a_project_has_each_stage_with_its_digest_as_a_parameter_and_no_code():
    ours = stages_of((ROOT / "dvc.yaml").read_text("utf-8"))
    theirs = stages_of(project_files()["dvc.yaml"])
    assert tuple(theirs) == STAGES == tuple(ours)
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(STAGES)
    for name, stage in theirs.items():
        locked = {"pointcover.lock": [f"stages.{name}"]}
        assert stage["params"] == [*ours[name]["params"], locked]
        assert stage["deps"] == [dep for dep in ours[name]["deps"] if not dep.startswith("src/")]
        assert f"stages/{name}.py" in stage["deps"]
        assert re.match(rf"exec python stages/{name}\.py\b", stage["cmd"])
        assert stage["outs"] == ours[name]["outs"]
    assert "PYTHONPATH" not in project_files()["dvc.yaml"]
    assert "src/" not in project_files()["dvc.yaml"]


def test_a_stage_that_cannot_be_locked_is_an_error_of_the_build():
    text = (ROOT / "dvc.yaml").read_text("utf-8")
    with pytest.raises(ValueError, match="evaluate of dvc"):
        pipeline_of(text.replace("    params: [evaluate]\n", ""))
    with pytest.raises(ValueError, match="another command"):
        pipeline_of(text.replace("exec env PYTHONPATH=src python stages/tile.py", "true"))


@pytest.mark.slow
def test_a_wheel_and_a_source_archive_have_the_same_files(tmp_path):
    copy_tree(tmp_path / "tree")
    build = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=tmp_path / "tree",
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    subprocess.run(["tar", "xf", str(archive), "-C", str(tmp_path)], check=True)
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    wheel = build_wheel(unpacked, tmp_path)
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path / "site")], check=True
    )
    show = "from pointcover.project.template import project_files as p; print(ascii(p()))"
    shown = subprocess.run(
        [sys.executable, "-c", show],
        check=True,
        capture_output=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
    )
    assert ast.literal_eval(shown.stdout.decode()) == project_files()
