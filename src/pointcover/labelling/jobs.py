"""Work in the background of the page: export, maps of whole images, training.

What writes vector files and maps is imported when it is needed, so that the page opens sooner.
"""

import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final

from pointcover.labelling.session import NotFound, Session
from pointcover.labelling.trained_maps import TrainedModel
from pointcover.runtime.python_path import with_this_python
from pointcover.runtime.signals import end_with_parent
from pointcover.tracking.mlflow_server import MlflowServer
from pointcover.tracking.store import is_server, tracking_uri
from pointcover.tracking.ui import run_address, shown_address

logger = logging.getLogger(__name__)

LINES: Final = 40
"""Lines of the log of a training that the page shows."""

RAN: Final = re.compile(r"Ran experiment\(s\): (\S+)")

Result = dict[str, Any]


@dataclass
class Jobs:
    """Runs one job at a time."""

    session: Session
    folder: Path = field(default_factory=Path.cwd)
    """Of the pipeline, for training."""
    _lock: Lock = field(default_factory=Lock)
    _mlflow: MlflowServer = field(init=False)

    def __post_init__(self) -> None:
        """Prepare MLflow's server."""
        self._mlflow = MlflowServer(self.folder)
        self.session.at_end.append(self._mlflow.close)

    def export(self) -> None:
        """Export the points.

        Raises:
            ValueError: another job runs.
        """
        self._start("exporting points", self._export)

    def map_images(self) -> None:
        """Map all images with the classifier of the page.

        Raises:
            ValueError: another job runs.
        """
        self._start("fitting on all points", self._map)

    def train(self) -> None:
        """Run the pipeline on the points.

        Raises:
            ValueError: another job runs, or this is not the folder of the pipeline.
        """
        if not (self.folder / "dvc.yaml").is_file() or not (self.folder / "params.yaml").is_file():
            raise ValueError(
                f"{self.folder} has no pipeline: start `pointcover label` in the folder of "
                f"pointcover's dvc.yaml to train here, or export the points and run the command "
                f"there"
            )
        self._start("exporting points", self._train)

    def address_of_run(self) -> str:
        """Return the address of the trained model's run in MLflow, which is started if need be.

        Raises:
            NotFound: there is no trained model, or MLflow has no run of it.
            OSError: MLflow's server does not start.
            ValueError: the pipeline's setting of the store is wrong.
        """
        model = self.session.trained.model
        if model is None or model.run is None:
            raise NotFound("MLflow has no run of a model that was trained here")
        uri = tracking_uri(self.folder)
        server = shown_address(uri) if is_server(uri) else self._mlflow.start()
        return run_address(model.run, server)

    def _start(self, text: str, work: Callable[[], Result]) -> None:
        with self._lock:
            if self.session.job["state"] == "running":
                raise ValueError("another job runs: wait until it is done")
            self._say({"state": "running", "text": f"{text} …"})
        Thread(target=self._run, args=(work,), name="job", daemon=True).start()

    def _run(self, work: Callable[[], Result]) -> None:
        try:
            self._say({"state": "done"} | work())
        except (ValueError, OSError) as error:
            self._say({"state": "failed", "text": str(error)})
        except Exception as error:
            self._say({"state": "failed", "text": f"unexpected {type(error).__name__}: {error}"})

    def _say(self, job: Result) -> None:
        self.session.job = job
        self.session.touch()

    def _note(self, fraction: float, text: str) -> None:
        self._say({"state": "running", "text": f"{text} …", "fraction": round(fraction, 3)})

    def _export(self) -> Result:
        from pointcover.labelling.export_points import export_points

        session = self.session
        infos = [reader.info for reader in session.readers]
        found = export_points(session.project, infos, session.export_folder)
        text = " ".join(["Points are exported.", *found.remarks])
        result: Result = {"text": text, "files": [str(path) for path in found.files]}
        return result | ({"command": found.command} if found.command else {})

    def _map(self) -> Result:
        from pointcover.labelling.export_maps import MAPS, MODEL, map_images, save_model

        session = self.session
        folder = session.export_folder
        model = save_model(session.project, session.readers, session.class_table(), folder / MODEL)
        images = list(session.project.paths.values())
        maps = map_images(model, images, folder / MAPS, self._note)
        return {
            "text": f"{_count(len(maps))} mapped. The model is in {model}.",
            "files": [str(path) for path in maps],
        }

    def _train(self) -> Result:
        from pointcover.labelling.export_points import CARD, copy_card, export_points

        session = self.session
        infos = [reader.info for reader in session.readers]
        found = export_points(session.project, infos, session.export_folder)
        if not found.options:
            raise ValueError(" ".join(found.remarks))
        copy_card(session.project, session.export_folder / CARD, self.folder / "sources")
        command = [sys.executable, "-m", "dvc", "exp", "run", *found.options]
        log: deque[str] = deque(maxlen=LINES)
        experiment = ""
        with subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=with_this_python(),
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line.rstrip())
                if said := RAN.search(line):
                    experiment = said[1]
                self._say({"state": "running", "text": "training …", "log": "\n".join(log)})
        if process.returncode:
            text = f"The training ended with code {process.returncode}; its log says why."
            return {"state": "failed", "text": text, "log": "\n".join(log)}
        self._say({"state": "running", "text": "mapping …", "log": "\n".join(log)})
        try:
            model = self._map_trained(experiment)
        except (ValueError, OSError) as error:
            text = f"The model is trained, but its maps are not made: {error}"
            return {"state": "failed", "text": text, "log": "\n".join(log)}
        miou = model.test_miou
        score = "" if miou is None else f" Its mIoU on the labels of the test images: {miou:.2f}."
        return {
            "text": f"The model is in {self.folder / 'models'}, its maps in "
            f"{self.session.trained.folder}.{score}",
            "log": "\n".join(log),
        }

    def _map_trained(self, experiment: str) -> TrainedModel:
        """Map all images with the model that was trained, and show the maps."""
        from pointcover.labelling.export_maps import map_images
        from pointcover.models.load import load_model

        session = self.session
        before = session.trained.model
        number = 1 if before is None else before.number + 1
        named = load_model(str(self.folder / "models"), self.folder)
        images = session.project.paths
        folder = session.trained.folder / str(number)
        maps = map_images(self.folder / "models", list(images.values()), folder, self._note)
        found = TrainedModel(
            number=number,
            experiment=experiment,
            classes=named.tile_set.classes.names,
            maps={name: str(path) for name, path in zip(images, maps, strict=True)},
            run=_find_run(self.folder, named.sha256),
            test_miou=_read_miou(self.folder / "metrics" / "evaluate.json"),
        )
        session.trained.take(found)
        if before is not None:
            shutil.rmtree(session.trained.folder / str(before.number), ignore_errors=True)
        return found


def _find_run(folder: Path, model_sha256: str) -> tuple[str, str] | None:
    """Return the ids of the experiment and the run of a model; None where no store answers."""
    from pointcover.tracking.runs import address_of_model_run

    try:
        return address_of_model_run(folder, model_sha256)
    except OSError as error:
        logger.warning("the page does not link the run of the trained model: %s", error)
        return None


def _read_miou(path: Path) -> float | None:
    """Return the mIoU of the test split; None where it is not known."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["miou"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(found) if isinstance(found, int | float) else None


def _count(images: int) -> str:
    return "1 image is" if images == 1 else f"{images} images are"
