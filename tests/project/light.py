"""Environments with the wheel and, of this one's packages, only those that an extra declares."""

import email
import os
import subprocess
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ENGINES_ALONE = "from pointcover.models import onnx_model as m; m.ENGINES = ('onnxruntime',)"
"""Code that takes ONNX Runtime where OpenVINO is installed, too."""


def requirements_of(texts: list[str], extra: str) -> Iterator[Requirement]:
    """Yield what lines of metadata require here, with an extra."""
    for requirement in map(Requirement, texts):
        if not requirement.marker or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def closure_of(texts: list[str], extra: str) -> dict[str, Distribution]:
    """Return the installed distributions that a package needs with an extra, and theirs."""
    found: dict[str, Distribution] = {}
    todo = list(requirements_of(texts, extra))
    while todo:
        requirement = todo.pop()
        if requirement.name == "pointcover":  # an extra that names another one
            for other in requirement.extras:
                todo += requirements_of(texts, other)
            continue
        one = distribution(requirement.name)
        assert one.version in requirement.specifier, (requirement, one.version)
        if one.name not in found:
            found[one.name] = one
            for other in ("", *requirement.extras):
                todo += requirements_of(one.requires or [], other)
    return found


class Environment:
    """A virtual environment with a wheel and what one of its extras needs, without a network."""

    def __init__(self, folder: Path, wheel: Path, extra: str) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        (self.site,) = folder.glob("lib/python*/site-packages")
        self.python = folder / "bin" / "python"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.site)
            (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(archive.read(name))
        self.packages = closure_of(metadata.get_all("Requires-Dist"), extra)
        self.files = [path for path in self.site.rglob("*") if path.is_file()]
        for one in self.packages.values():
            for file in one.files or ():
                if file.parts[0] == ".." or "__pycache__" in file.parts:
                    continue
                place = Path(str(one.locate_file(file)))
                self.files.append(place)
                link = self.site / file.parts[0]
                if not link.exists():
                    link.symlink_to(str(one.locate_file(file.parts[0])))

    def size_mb(self) -> float:
        """Return the size of all files of the packages, without bytecode."""
        return sum(path.stat().st_size for path in self.files) / 1e6

    def run(self, *args: str, cwd: Path, fails: bool = False) -> str:
        """Run Python; return what it printed."""
        return self.measure(*args, cwd=cwd, fails=fails)[0]

    def measure(self, *args: str, cwd: Path, fails: bool = False) -> tuple[str, float]:
        """Run Python; return what it printed, and the processor time in seconds."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        before = os.times()
        done = subprocess.run(
            [str(self.python), *args],
            cwd=cwd,
            env=kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        after = os.times()
        seconds = after.children_user + after.children_system
        seconds -= before.children_user + before.children_system
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr, seconds
