"""Projects: run their pipeline, and read what it found."""

import subprocess
import sys
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pointcover.api.model import Model, open_model
from pointcover.config.params import Params, load_params
from pointcover.config.params_text import keys_of, with_values
from pointcover.project.create import create_project
from pointcover.runtime.atomic_files import publish_text, read_json
from pointcover.runtime.python_path import with_this_python
from pointcover.tracking.dvc_experiments import TEST
from pointcover.validation import validate


class Project:
    """A folder with dvc.yaml and params.yaml, from `pointcover init` or a clone of pointcover."""

    def __init__(self, folder: str | PathLike[str] = ".") -> None:
        """Open a project.

        Raises:
            FileNotFoundError: the folder has no dvc.yaml or no params.yaml.
        """
        self.folder = Path(folder)
        for name in ("dvc.yaml", "params.yaml"):
            if not (self.folder / name).is_file():
                raise FileNotFoundError(
                    f"{self.folder} has no {name}, so it is no project: make one with "
                    f"Project.create(folder)"
                )

    @classmethod
    def create(cls, folder: str | PathLike[str]) -> "Project":
        """Make a new project, as `pointcover init` does.

        Raises:
            ValueError: the folder has a project already, a file is in the way, or git is missing.
        """
        create_project(Path(folder))
        return cls(folder)

    @property
    def params(self) -> dict[str, Any]:
        """Return the settings of params.yaml, validated.

        Raises:
            ValueError: a setting is unknown, missing or has no such value.
        """
        return load_params(self.folder / "params.yaml").model_dump(mode="json")

    def set(self, **settings: Any) -> None:
        """Change settings in params.yaml; its comments stay.

        Args:
            **settings: by name, with two underscores for a dot: `points=500`,
                `annotate__sampler="spread"`.

        Raises:
            ValueError: a setting is unknown, or has no such value; then nothing is changed.
        """
        path = self.folder / "params.yaml"
        named = {name.replace("__", "."): _plain(value) for name, value in settings.items()}
        before = path.read_text(encoding="utf-8")
        known = keys_of(before)
        for name in named:
            if name not in known:
                raise ValueError(f"params.yaml has no setting {name}")
            if first := next((key for key in known if key.startswith(f"{name}.")), None):
                raise ValueError(f"{name} is a section of params.yaml: name a setting, as {first}")
        text, _ = with_values(before, named)
        validate(Params, yaml.safe_load(text), path)
        publish_text(path, text)

    def run(self, *stages: str) -> dict[str, Any]:
        """Run the pipeline, or stages with what they need: those that are out of date.

        Args:
            stages: names, such as `train`; all by default.

        Returns:
            the scores; see `scores`.

        Raises:
            RuntimeError: a stage failed, with the end of what it printed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", *stages],
            cwd=self.folder,
            env=with_this_python(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise RuntimeError("\n".join(["the pipeline failed:", *said[-20:]]))
        return self.scores

    @property
    def scores(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, empty before it."""
        path = self.folder / TEST
        return dict(read_json(path)) if path.is_file() else {}

    def open_model(self, device: str = "auto", precision: str = "auto") -> Model:
        """Load the model that was trained last.

        Raises:
            ValueError: there is none: run the pipeline first.
        """
        return open_model(
            self.folder / "models", device=device, precision=precision, root=self.folder
        )


def _plain(value: Any) -> Any:
    """Return a value as YAML has it: paths are texts, numbers of numpy are numbers."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value
