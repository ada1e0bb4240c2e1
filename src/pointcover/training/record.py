"""Record a training in MLflow, epoch by epoch."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from pointcover.runtime.signals import entered_whole
from pointcover.tracking.metric_names import HEADLINE, kept_metrics_of
from pointcover.tracking.runs import MODEL_TAG, Run, start_run
from pointcover.training.data import TrainingData
from pointcover.training.outputs import TrainingOutputs
from pointcover.training.previews import Previews
from pointcover.training.results import Callbacks, EpochResult
from pointcover.training.resume import Resumption

PREVIEWS = 4
"""Number of val tiles that MLflow shows after each epoch."""


def open_run(
    root: Path, name: str, dataset: str, resumption: Resumption
) -> AbstractContextManager[Run]:
    """Begin a run in MLflow, or resume the one that the killed attempt began.

    Args:
        root: of the project.
        name: of the run where DVC has none.
        dataset: recorded as a tag.
        resumption: knows the killed attempt's run.
    """
    return entered_whole(partial(_start, root, name, dataset, resumption))


def _start(root: Path, name: str, dataset: str, resumption: Resumption) -> Run:
    run = start_run(root, name, tags={"dataset": dataset}, resume_id=resumption.run_id)
    resumption.run_id = run.id
    return run


class TrainingRecord:
    """What MLflow and the learning curves keep of a training."""

    def __init__(self, run: Run, data: TrainingData) -> None:
        """Take a run, which may have epochs of a killed attempt."""
        self.rows: list[dict[str, Any]] = []
        """Of the learning curves, one an epoch."""
        self._previews = Previews(data.val_set(), data.tile_set.classes, PREVIEWS)
        self._run, self._data = run, data
        self._recorded = run.logged_steps("train/loss")

    def begin(self, settings: Mapping[str, Any], params: Path, dataset: str) -> None:
        """Record the settings and the data.

        Args:
            settings: a few, by name.
            params: params.yaml.
            dataset: name of the dataset.
        """
        self._run.log_params(dict(settings))
        self._run.announce_metric(HEADLINE)
        self._run.log_file(params)
        self._run.log_dataset(dataset, self._data.digest, self._data.sparse.as_posix(), "training")

    def callbacks(self, resumption: Resumption) -> Callbacks:
        """Return what the fit calls: record each epoch and save the state after it."""
        return Callbacks(self.report, resumption.save, self._previews.watch)

    def report(self, result: EpochResult) -> None:
        """Record an epoch, unless the killed attempt did."""
        self.rows.append(result.row())
        if result.epoch not in self._recorded:
            self._run.log_metrics(result.metrics(), step=result.epoch)
            self._run.log_images(self._previews.take(), step=result.epoch)

    def end(self, outcome: Mapping[str, Any], outputs: TrainingOutputs, digest: str) -> None:
        """Record the model and its scores.

        Args:
            outcome: of the kept epoch.
            outputs: the files, which are written.
            digest: SHA-256 of the weights.
        """
        self._run.log_metrics(kept_metrics_of(dict(outcome)))
        for file in ("model.pt", "model.json"):
            self._run.log_file(outputs.models / file, "model")
        self._run.log_file(outputs.figure, "figures")
        self._run.set_tags({MODEL_TAG: digest})
