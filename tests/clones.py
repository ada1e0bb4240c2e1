"""Clones of the repository, and commands run in them as users run them."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import yaml
from mlflow import MlflowClient

from tests.processes import wait_for

ROOT = Path(__file__).parents[1]
SMALL = {
    "points": 10,
    "annotate": {"unit": "per_class", "propagator": "link"},
    "synthetic": {"orthophotos": 5, "size_px": 160, "seed": 3},
    "tile": {"size_px": 64, "downsample": 1},
    "train": {
        "model": "unet",
        "encoder": "tu-regnetx_002",
        "weights": "none",
        "class_weighting": "none",
        "epochs": 2,
        "crop_px": 64,
        "batch_size": 4,
    },
    "evaluate": {"panels": 2},
}


class Clone:
    """A clone of the repository with small settings, and commands run in it."""

    def __init__(self, folder: Path, settings: dict = SMALL) -> None:
        self.folder = folder
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for name in tracked:
            if (ROOT / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.set(settings)
        self.run("git", "init", "-q")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@localhost")
        self.commit()

    @property
    def environment(self) -> dict[str, str]:
        own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        unset = {
            "DVC_ROOT",
            "DVC_EXP_NAME",
            "MLFLOW_TRACKING_URI",
            "POINTCOVER_DEBUG",
            "PYTHONDONTWRITEBYTECODE",  # users have bytecode beside the modules
        }
        return {k: v for k, v in os.environ.items() if k not in unset} | own

    def set(self, changes: dict) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            params[key] = params[key] | value if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(params))

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "a state", "--allow-empty")

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def start(self, *command: str, log: Path | None = None, **variables: str) -> subprocess.Popen:
        """Start a command in a session of its own; its output goes to a file or nowhere."""
        with (log or Path(os.devnull)).open("wb") as out:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | variables,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def runs(self) -> dict[str, object]:
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name("pointcover")
        found = client.search_runs([experiment.experiment_id])
        return {run.info.run_name: run for run in found}


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return re.findall(r"^Running stage '(\w+)'", output, flags=re.MULTILINE)


def group_members(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):  # they come and go
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and os.getpgid(process.pid) == group:
                found.append(process)
    return found


def start_study(clone: Clone, name: str) -> subprocess.Popen:
    """Start a study, and return once its second experiment has begun."""
    command = clone.start("pointcover", "study", f"studies/{name}.yaml")
    logs = clone.folder / "reports" / name / "logs"

    def has_second() -> bool:
        assert command.poll() is None, "the study ended early"
        return len(list(logs.glob("*"))) >= 2

    wait_for(has_second, 900, 0.1)
    return command
