"""What tests of studies share."""

import subprocess

import pytest
import yaml

from tests.imagery import ROOT


@pytest.fixture
def project(tmp_path):
    """A project without stages that run, which has code and data."""
    root = tmp_path / "project"
    for folder in ("src", "sources"):
        (root / folder).mkdir(parents=True)
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")
    (root / "src" / "code.py").write_text("a = 1\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"deps": ["src/code.py"]}}}))
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q"], cwd=root, check=True)
    subprocess.run([*git, "commit", "-qm", "a", "--allow-empty"], cwd=root, check=True)
    return root
