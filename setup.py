"""Copy the files of a new project into the package when it is built; see project/template.py."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = (
    "dvc.yaml",
    "params.yaml",
    "params.schema.json",
    ".dvc/plots/pixel_fraction.json",
    "sources/README.md",
    "sources/none",
    *(f"stages/{path.name}" for path in sorted(Path("stages").glob("*.py"))),
)


class BuildWithTemplate(build_py):
    """Build the package with the files of a new project."""

    def run(self) -> None:
        """Build, then copy; an editable installation reads them from the checkout."""
        super().run()
        if self.editable_mode:
            return
        for name in FILES:
            target = Path(self.build_lib, "pointcover", "project", "template", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target)


setup(cmdclass={"build_py": BuildWithTemplate})
