"""Work in the background of the page: export, maps of whole images, training.

What writes vector files and maps is imported when it is needed, so that the page opens sooner.
"""

import os
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

from pointcover.labelling.session import Session
from pointcover.runtime.signals import end_with_parent

LINES: Final = 40
"""Lines of the log of a training that the page shows."""

Result = dict[str, Any]


@dataclass
class Jobs:
    """Runs one job at a time."""

    session: Session
    folder: Path = field(default_factory=Path.cwd)
    """Of the pipeline, for training."""
    _lock: Lock = field(default_factory=Lock)

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
        images = [Path(entry.path) for entry in session.project.description.images]
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
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        log: deque[str] = deque(maxlen=LINES)
        with subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"PATH": path},
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line.rstrip())
                self._say({"state": "running", "text": "training …", "log": "\n".join(log)})
        if process.returncode:
            text = f"The training ended with code {process.returncode}."
            return {"state": "failed", "text": text, "log": "\n".join(log)}
        return {
            "text": "The model is in models/, its run in MLflow (`pointcover ui`). Map with it: "
            "pointcover predict models IMAGES --out maps",
            "log": "\n".join(log),
        }


def _count(images: int) -> str:
    return "1 image is" if images == 1 else f"{images} images are"
