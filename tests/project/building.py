"""Build wheels from copies of this repository, without a network."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.imagery import ROOT

BUILT_FROM = {
    *(".dvc", "src", "stages", "sources", "setup.py", "pyproject.toml", "MANIFEST.in"),
    *("params.yaml", "params.schema.json", "dvc.yaml", "README.md", "LICENSE"),
}


def copy_tree(folder: Path) -> None:
    """Copy what a wheel is built from."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name.split("/")[0] in BUILT_FROM:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def build_wheel(tree: Path, out: Path) -> Path:
    """Build a wheel of a tree with the installed setuptools, without a network."""
    build = "import sys; from setuptools import build_meta as b; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(out)],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    )
    return out / done.stdout.splitlines()[-1]
