"""Record a training in MLflow, epoch by epoch."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from pointcover.runtime.signals import entered_whole
from pointcover.tracking.logged_models import ScoredOn
from pointcover.tracking.metric_names import HEADLINE, kept_metrics_of
from pointcover.tracking.runs import MODEL_TAG, Run, start_run
from pointcover.tracking.store import StoreLockedError
from pointcover.tracking.system_metrics import system_metrics
from pointcover.training.data import TrainingData
from pointcover.training.outputs import TrainingOutputs
from pointcover.training.previews import Previews
from pointcover.training.results import Callbacks, EpochResult
from pointcover.training.resume import Resumption

logger = logging.getLogger(__name__)

TRY_AGAIN_S = 30
"""Seconds between attempts to record epochs in a locked store, each of which takes up to 20 s."""

WAIT_S = 300
"""Seconds for which the end of a training waits for a locked store."""

PREVIEWS = 4
"""Number of val tiles that MLflow shows after each epoch."""


def open_run(
    root: Path, name: str, dataset: str, resumption: Resumption
) -> AbstractContextManager[Run]:
    """Begin a run in MLflow, or resume the run of a killed attempt.

    Args:
        root: of the project.
        name: of the run, if DVC has none.
        dataset: recorded as a tag.
        resumption: stores the run id of a killed attempt.
    """
    return entered_whole(partial(_start, root, name, dataset, resumption))


def _start(root: Path, name: str, dataset: str, resumption: Resumption) -> Run:
    run = start_run(root, name, tags={"dataset": dataset}, resume_id=resumption.run_id)
    resumption.run_id = run.id
    return run


class TrainingRecord:
    """The record of a training in MLflow and in the learning curves."""

    def __init__(self, run: Run, data: TrainingData) -> None:
        """Store a run, which may have epochs of a killed attempt."""
        self.rows: list[dict[str, Any]] = []
        """Of the learning curves, one an epoch."""
        self._previews = Previews(data.val_set(), data.tile_set.classes, PREVIEWS)
        self._run, self._data, self._dataset = run, data, ""
        self._recorded = run.logged_steps("train/loss")
        self._waiting: deque[Callable[[], None]] = deque()
        self._try_again_s = -math.inf  # of the monotonic clock, after the store was locked

    def begin(self, settings: Mapping[str, Any], params: Path, dataset: str) -> None:
        """Record the settings and the data.

        Args:
            settings: a few, by name.
            params: params.yaml.
            dataset: name of the dataset.
        """
        self._dataset = dataset
        self._run.log_params(dict(settings))
        self._run.announce_metric(HEADLINE)
        self._run.log_file(params)
        self._run.log_dataset(dataset, self._data.digest, self._data.sparse.as_posix(), "training")

    def callbacks(self, resumption: Resumption) -> Callbacks:
        """Return what the fit calls: record each epoch and save the state after it."""
        return Callbacks(self.report, resumption.save, self._previews.watch, self._previews.places)

    def report(self, result: EpochResult) -> None:
        """Record an epoch, unless the killed attempt recorded it.

        Where another process has locked the store, training goes on, and the epoch is recorded
        later.
        """
        self.rows.append(result.row())
        if result.epoch not in self._recorded:
            step = result.epoch
            self._waiting += [
                partial(self._run.log_metrics, result.metrics() | system_metrics(), step=step),
                partial(self._run.log_images, self._previews.take(), step=step),
            ]
        if time.monotonic() >= self._try_again_s:
            self._log_waiting()

    def _log_waiting(self) -> None:
        """Record the epochs that wait, unless the store is still locked."""
        was_locked = self._try_again_s > -math.inf
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except StoreLockedError as error:
            if not was_locked:
                logger.warning("%s. Training goes on, and its epochs are recorded later", error)
            self._try_again_s = time.monotonic() + TRY_AGAIN_S
            return
        if was_locked:
            logger.info("the MLflow store is no longer locked: all epochs are recorded")
        self._try_again_s = -math.inf

    def _wait_for_store(self) -> None:
        """Record the epochs that wait, and wait up to WAIT_S where the store is locked.

        Raises:
            StoreLockedError: it is still locked then.
        """
        deadline_s = time.monotonic() + WAIT_S
        self._log_waiting()
        while self._waiting and time.monotonic() < deadline_s:
            time.sleep(1)
            self._log_waiting()
        for log in self._waiting:
            log()

    def end(self, outcome: Mapping[str, Any], outputs: TrainingOutputs, digest: str) -> None:
        """Record the model and its scores.

        Args:
            outcome: of the kept epoch.
            outputs: the files, which are written.
            digest: SHA-256 of the weights.

        Raises:
            StoreLockedError: another process has locked the store for WAIT_S.
        """
        self._wait_for_store()
        self._run.log_model(outputs.models, outcome["kept_epoch"])
        self._run.log_scores(
            kept_metrics_of(dict(outcome)), ScoredOn(self._dataset, self._data.digest)
        )
        self._run.log_file(outputs.figure, "figures")
        self._run.set_tags({MODEL_TAG: digest})
