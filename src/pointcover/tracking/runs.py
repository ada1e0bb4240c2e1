"""Record experiments in MLflow: one run for each trained model.

A run is a context manager. It ends as FINISHED, as FAILED after an exception, or as KILLED after an
interrupt or SIGTERM (which a stage turns into SystemExit). After SIGKILL it stays RUNNING. So a run
is tagged with its process, and the next run that is started ends those whose process is gone.

Only this module, `tracking.store`, `tracking.mlmodel`, `models.fetch` and `serving` import MLflow.
Its global state (``mlflow.start_run``, autolog) is not used.
"""

import contextlib
import json
import logging
import math
import os
import socket
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import psutil

from pointcover.tracking.store import (
    connect,
    experiment_id_of,
    is_server,
    locked_file,
    quieten_mlflow,
    sqlite_path,
    tracking_uri,
    whole_call,
)

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    import numpy as np
    import numpy.typing as npt
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)

EXPERIMENT: Final = "pointcover"
"""Default name of the MLflow experiment."""

MODEL_TAG: Final = "pointcover.model_sha256"
"""Tag of the run that trained a model, by which its evaluation finds it: SHA-256 of model.pt."""

MODEL_FOLDER: Final = "model"
"""Folder of model.pt, model.json and MLmodel among a run's artifacts."""

OUTPUT_NAME: Final = "checkpoint"
"""Name of the model among a run's outputs. No artifact folder may have this name: MLflow looks for
such files both in the run's and the output's artifacts, and the output has none."""

MODEL_FILES: Final = ("model.pt", "model.json")

EVALUATED_TAG: Final = "pointcover.evaluated"
TRAINING_TAG: Final = "pointcover.training"
CHAMPION: Final = "champion"
"""Alias of the registered model with the best test mIoU on its split."""
SCORE_TAG: Final = "pointcover.test_miou"
SPLIT_TAG: Final = "pointcover.split"
ENSEMBLE_TAG: Final = "ensemble"
STUDY_TAG: Final = "study"
METHOD_TAG: Final = "method"
STUDY_VARIABLE: Final = "POINTCOVER_STUDY"
"""Environment variables by which a study passes its name and the method to the stages."""
METHOD_VARIABLE: Final = "POINTCOVER_METHOD"
EXPERIMENT_TAG: Final = "dvc.exp_name"
BASELINE_TAG: Final = "dvc.baseline_rev"
_HOST_TAG: Final = "pointcover.host"
_PID_TAG: Final = "pointcover.pid"
_STARTED_TAG: Final = "pointcover.process_started"

_DIGEST_DIGITS: Final = 36  # maximum length in MLflow's database
_MOST_RUNS: Final = 50_000  # maximum number of results of a search in MLflow
_Params = Mapping[str, str | int | float | bool | None]
_Tags = Mapping[str, str] | None


class Run:
    """One MLflow run, RUNNING until the ``with`` block ends; made by `start_run`.

    Every method raises ValueError for values that MLflow rejects (such as a name with brackets, or
    a parameter that was logged with another value) and OSError if the store cannot be written.
    """

    id: str

    def __init__(
        self,
        client: "MlflowClient",
        uri: str,
        run_id: str,
        tags_at_end: _Tags,
        model_run_id: str | None = None,
    ) -> None:
        """Wrap a run that is already RUNNING in the store.

        Args:
            client: of the store.
            uri: of the store, for messages.
            run_id: MLflow's id.
            tags_at_end: set only when the run ends as FINISHED.
            model_run_id: id of the run with the model; by default this run.
        """
        self.id = run_id
        self._model_run_id = model_run_id or run_id
        self._client = client
        self._uri = uri
        self._tags_at_end = tags_at_end

    def log_params(self, params: _Params) -> None:
        """Record settings. A recorded value cannot be changed.

        None is recorded as null, as in params.yaml.
        """
        from mlflow.entities import Param

        with whole_call(self._uri):
            written = [Param(*one) for one in _texts_of(params).items()]
            self._client.log_batch(self.id, params=written)

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Record metrics in one transaction.

        Args:
            metrics: values by name, for example ``val/iou/building``; None is left out.
            step: the epoch, if there is one.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        values = {name: value for name, value in metrics.items() if value is not None}
        for name, value in values.items():
            if not math.isfinite(value):
                raise ValueError(f"metric {name} is {value}, not a number: pass None for no value")
        self._log_values(values, step or 0)

    def announce_metric(self, name: str) -> None:
        """Record NaN for a metric that gets its value later.

        MLflow's compare view plots the first metric that the runs have in common. Without this, a
        test score would never be the first.
        """
        self._log_values({name: math.nan}, step=0)

    def _log_values(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        batch = [Metric(name, float(value), now_ms, step) for name, value in values.items()]
        with whole_call(self._uri):
            self._client.log_batch(self.id, metrics=batch)

    def logged_steps(self, name: str) -> frozenset[int]:
        """Return the steps for which a metric is recorded, which a resumed run does not repeat."""
        with whole_call(self._uri):
            history = self._client.get_metric_history(self.id, name)
        return frozenset(metric.step for metric in history)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Copy a file to ``folder`` in the run's artifacts."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file: write it before it is logged")
        with whole_call(self._uri):
            self._client.log_artifact(self.id, str(path), folder or None)

    def log_text(self, text: str, name: str) -> None:
        """Write text to the artifact ``name``, for example ``figures/report.html``."""
        with whole_call(self._uri):
            self._client.log_text(self.id, text, name)

    def log_dict(self, values: Mapping[str, object], name: str) -> None:
        """Write JSON to the artifact ``name``; raise ValueError for NaN, which JSON lacks."""
        self.log_text(json.dumps(values, indent=2, allow_nan=False) + "\n", name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        from mlflow.entities import RunTag

        with whole_call(self._uri):
            self._client.log_batch(
                self.id, tags=[RunTag(key, value) for key, value in tags.items()]
            )

    def log_images(self, images: "Mapping[str, npt.NDArray[np.uint8]]", step: int) -> None:
        """Record images of an epoch, (H, W, 3) uint8, which the UI shows by step."""
        for name, image in images.items():
            with whole_call(self._uri):
                self._client.log_image(self.id, image, key=name, step=step)

    def log_dataset(self, name: str, digest: str, source: str, role: str) -> None:
        """Record the dataset of the run.

        Args:
            name: of the dataset card.
            digest: of the data, in hexadecimal digits; MLflow shows the first eight.
            source: folder or URL of the files.
            role: `training` or `evaluation`.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest[:_DIGEST_DIGITS], "local", json.dumps({"uri": source}))
        with whole_call(self._uri):
            self._client.log_inputs(
                self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", role)])]
            )

    def log_model(self, folder: Path, epoch: int) -> None:
        """Store a model in a form that MLflow can load and serve, in the run that trained it.

        Files that are stored already are not copied again. The model becomes an output of the run,
        at the step of its epoch.

        Args:
            folder: with model.pt and model.json.
            epoch: of the weights.
        """
        # Imported here, since the modules that training imports are part of its fingerprint.
        from pointcover.tracking.mlmodel import write_mlmodel

        with whole_call(self._uri), tempfile.TemporaryDirectory() as aside:
            write_mlmodel(Path(aside), self._model_run_id, MODEL_FOLDER)
            listed = self._client.list_artifacts(self._model_run_id, MODEL_FOLDER)
            sizes = {Path(file.path).name: file.file_size for file in listed}
            for name in MODEL_FILES:
                if sizes.get(name) != (folder / name).stat().st_size:
                    path = str(folder / name)
                    self._client.log_artifact(self._model_run_id, path, MODEL_FOLDER)
            self._client.log_artifacts(self._model_run_id, aside, MODEL_FOLDER)
            self._link_model(epoch)

    def _link_model(self, epoch: int) -> None:
        """Add the model to the run's outputs, if it is not there yet."""
        from mlflow.entities import LoggedModelOutput

        run = self._client.get_run(self._model_run_id)
        if run.outputs and run.outputs.model_outputs:
            return
        uri = f"{run.info.artifact_uri}/{MODEL_FOLDER}"
        made = self._client.create_logged_model(
            run.info.experiment_id,
            OUTPUT_NAME,
            self._model_run_id,
            params={"epoch": str(epoch), "files": uri},
        )
        self._client.finalize_logged_model(made.model_id, "READY")
        self._client.log_outputs(self._model_run_id, [LoggedModelOutput(made.model_id, epoch)])

    def register_champion(self, name: str, score: float, split: str) -> bool:
        """Register the run's model with the alias `champion`, if its score is the best.

        A champion that was scored on another split keeps the alias, since scores on different
        splits cannot be compared.

        Args:
            name: of the registered model; that of the dataset.
            score: test mIoU.
            split: digest of the test split.

        Returns:
            whether this run's model is now the champion.
        """
        with whole_call(self._uri):
            last = _champion(self._client, name)
            if last is not None and last.tags[SPLIT_TAG] != split:
                logger.warning(
                    "the champion of %r was scored on another split, so it is kept: to replace it, "
                    "remove the alias %r of version %s in MLflow",
                    name,
                    CHAMPION,
                    last.version,
                )
                return False
            if last is not None and float(last.tags[SCORE_TAG]) >= score:
                return False
            trained = self._client.get_run(self._model_run_id)
            source = f"{trained.info.artifact_uri}/{MODEL_FOLDER}"
            tags = {SCORE_TAG: repr(score), SPLIT_TAG: split}
            made = self._client.create_model_version(name, source, self._model_run_id, tags=tags)
            self._client.set_registered_model_alias(name, CHAMPION, made.version)
        return True

    def __enter__(self) -> Self:
        """Return the run, which is RUNNING already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        status = _status_after(error)
        try:
            if status == "FINISHED" and self._tags_at_end:
                self.set_tags(self._tags_at_end)
            with whole_call(self._uri):
                self._client.set_terminated(self.id, status)
        except (OSError, ValueError) as end_error:
            if error is None:
                raise
            # The error that ends the run is the one to raise; it may have caused this one.
            logger.error("run %s could not be ended as %s: %s", self.id, status, end_error)


def start_run(
    root: Path,
    name: str,
    experiment: str = EXPERIMENT,
    tags: _Tags = None,
    resume_id: str | None = None,
) -> Run:
    """Open a run, after ending as KILLED the runs on this host whose process is gone.

    Args:
        root: the project's root.
        name: of the run, if DVC_EXP_NAME is not set.
        experiment: the MLflow experiment; made if it does not exist.
        tags: in addition to those of the DVC experiment and of the process.
        resume_id: id of a run to resume, for training that resumes from a checkpoint. If the store
            does not have it, or another process has it open, a new run is started.

    Raises:
        ValueError: the name is empty, or the tracking URI or the experiment cannot be used.
        ConnectionError: the tracking server does not answer.
        OSError: the store cannot be read or written.
    """
    with _opened_store(root, experiment) as store:
        if resume_id is not None:
            found = store.search(f"attributes.run_id = '{resume_id}'")
            if found and found[0].info.status != "RUNNING":
                return store.reopen(found[0], tags)
            state = "open in another process" if found else "not in the store"
            logger.warning("run %s is %s: a new run is started", resume_id, state)
        return store.create(os.environ.get("DVC_EXP_NAME") or name, tags)


def resume_training_run(
    root: Path,
    model_sha256: str,
    name: str,
    experiment: str = EXPERIMENT,
    *,
    models: int = 1,
) -> Run:
    """Open the run that trained a model, to record its evaluation there.

    The newest run with this MODEL_TAG is reopened; a run of this DVC experiment is preferred. If it
    has been evaluated before, or is RUNNING, a child run is started instead, named after the DVC
    experiment or the run. If there is no such run (the model came from the cache of another clone,
    or the store was deleted), a new run is started and tagged
    ``pointcover.training = "from cache"``.

    Args:
        root: the project's root.
        model_sha256: of the checkpoint file.
        name: of a new run, as in `start_run`.
        experiment: the MLflow experiment.
        models: number of models in an ensemble. If it is more than 1, the scores are recorded in a
            child run, tagged with the number, and the model does not count as evaluated.

    Raises:
        ValueError: the name is empty, or the tracking URI or the experiment cannot be used.
        ConnectionError: the tracking server does not answer.
        OSError: the store cannot be read or written.
    """
    evaluated = {EVALUATED_TAG: "true"}
    exp_name = os.environ.get("DVC_EXP_NAME")
    tags = {ENSEMBLE_TAG: f"{models} models"} if models > 1 else {}
    with _opened_store(root, experiment) as store:
        found = store.search(f"tags.`{MODEL_TAG}` = '{model_sha256}'")
        if not found:
            logger.warning(
                "no run trained this model (%s…): a new run is started", model_sha256[:8]
            )
            origin = {TRAINING_TAG: "from cache", MODEL_TAG: model_sha256}
            return store.create(exp_name or name, {**origin, **tags}, evaluated)
        own = [run for run in found if run.data.tags.get(EXPERIMENT_TAG) == exp_name]
        trained = (own or found)[0]
        if models > 1 or EVALUATED_TAG in trained.data.tags or trained.info.status == "RUNNING":
            parent = {"mlflow.parentRunId": trained.info.run_id}
            child = exp_name or f"{trained.info.run_name}-evaluate"
            keeper = trained.info.run_id
            return store.create(child, {**parent, **tags}, model_run_id=keeper)
        return store.reopen(trained, tags, evaluated)


def reopen_model_run(root: Path, model_sha256: str, experiment: str = EXPERIMENT) -> Run | None:
    """Open the run that trained a model again, to add to what it says; its tags stay.

    Args:
        root: the project's root.
        model_sha256: of the checkpoint file.
        experiment: the MLflow experiment.

    Returns:
        the newest run tagged MODEL_TAG; None where the store has none, or has it open in another
        process, or where there is no store.

    Raises:
        ValueError: as `start_run`.
        OSError: as `start_run`.
    """
    uri = tracking_uri(root)
    if uri.startswith("sqlite") and not sqlite_path(uri).is_file():
        return None
    with _opened_store(root, experiment) as store:
        found = store.search(f"tags.`{MODEL_TAG}` = '{model_sha256}'")
        if not found or found[0].info.status == "RUNNING":
            return None
        return store.reopen(found[0], None)


def address_of_model_run(
    root: Path, model_sha256: str, experiment: str = EXPERIMENT
) -> tuple[str, str] | None:
    """Return the ids of the experiment and of the newest run that trained a model, or None.

    Raises:
        ValueError: as `start_run`.
        OSError: as `start_run`.
    """
    uri = tracking_uri(root)
    if uri.startswith("sqlite") and not sqlite_path(uri).is_file():
        return None
    with _opened_store(root, experiment) as store:
        found = store.search(f"tags.`{MODEL_TAG}` = '{model_sha256}'")
        return (store.experiment_id, found[0].info.run_id) if found else None


def is_tagged(root: Path, tag: str, value: str, experiment: str = EXPERIMENT) -> bool:
    """Return whether the store has a run with this tag; raises as `start_run`."""
    with _opened_store(root, experiment) as store:
        return bool(store.search(f"tags.`{tag}` = '{value}'"))


def rename_run(
    root: Path, name: str, model_sha256: str, params: _Params, others: Collection[str]
) -> bool:
    """Give the run of a DVC experiment that was renamed its new name.

    Args:
        root: the project's root.
        name: of the experiment now.
        model_sha256: of its model.
        params: that its run would have.
        others: names of all experiments: a run of one of these is not renamed.

    Returns:
        whether there was such a run: of this model and these params, of an experiment that is gone.
    """
    wanted = _texts_of(params)
    with _opened_store(root, EXPERIMENT) as store:
        for run in store.search(f"tags.`{MODEL_TAG}` = '{model_sha256}'"):
            old = run.data.tags.get(EXPERIMENT_TAG)
            if old is None or old in others or not wanted.items() <= run.data.params.items():
                continue
            with whole_call(store.uri):
                store.client.set_tag(run.info.run_id, EXPERIMENT_TAG, name)
                store.client.update_run(run.info.run_id, name=name)
            return True
    return False


def _texts_of(params: _Params) -> dict[str, str]:
    return {key: "null" if value is None else str(value) for key, value in params.items()}


def recorded_experiments(root: Path, experiment: str = EXPERIMENT) -> frozenset[str]:
    """Return the names of the DVC experiments that have a run; raises as `start_run`."""
    with _opened_store(root, experiment) as store:
        runs = store.search(f"tags.`{EXPERIMENT_TAG}` != ''")
    return frozenset(run.data.tags[EXPERIMENT_TAG] for run in runs)


class _Store(NamedTuple):
    """An experiment in an open store."""

    client: "MlflowClient"
    uri: str
    experiment_id: str

    def create(
        self, name: str, tags: _Tags, tags_at_end: _Tags = None, model_run_id: str | None = None
    ) -> Run:
        if not name:  # MLflow would draw a name, which repeats, since its generator is seeded
            raise ValueError("the name of a run is empty: set one, such as dataset-points-time")
        every_tag = {**_membership_tags(), **(tags or {}), **_owner_tags()}
        run = self.client.create_run(self.experiment_id, tags=every_tag, run_name=name)
        return Run(self.client, self.uri, run.info.run_id, tags_at_end, model_run_id)

    def reopen(self, run: "MlflowRun", tags: _Tags, tags_at_end: _Tags = None) -> Run:
        opened = Run(self.client, self.uri, run.info.run_id, tags_at_end)
        # Set the process first: a RUNNING run whose tagged process is gone counts as an orphan.
        opened.set_tags({**_membership_tags(), **(tags or {}), **_owner_tags()})
        # An experiment that resumes the training of another one takes over its run and renames it.
        self.client.update_run(opened.id, status="RUNNING", name=os.environ.get("DVC_EXP_NAME"))
        return opened

    def search(self, condition: str) -> "list[MlflowRun]":
        newest_first = ["attributes.start_time DESC"]
        return list(
            self.client.search_runs(
                [self.experiment_id], condition, max_results=_MOST_RUNS, order_by=newest_first
            )
        )


@contextlib.contextmanager
def _opened_store(root: Path, experiment: str) -> Iterator[_Store]:
    """Open the store and end orphaned runs; lock the store if it is a file."""
    uri = tracking_uri(root)
    # mlflow reads these variables when it is imported. Those that are set already are kept.
    quieten_mlflow()
    if any(root.glob("mlruns/*/meta.yaml")):
        logger.warning(
            "%s holds runs of an old MLflow file store, and `mlflow ui` would show only these: "
            "move its numbered folders to another place",
            root / "mlruns",
        )
    with whole_call(uri), locked_file(uri):
        client = connect(uri)
        _end_orphans(client)
        # A server stores artifacts itself. A database is opened by this process, and then MLflow's
        # default folder of artifacts is in the working directory.
        files = None if is_server(uri) else (root.absolute() / "mlruns").as_uri()
        yield _Store(client, uri, experiment_id_of(client, experiment, files))


def _champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """Return a registered model's champion or None; register the model if it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _end_orphans(client: "MlflowClient") -> None:
    """End as KILLED every RUNNING run of this host whose process is gone."""
    experiment_ids = [experiment.experiment_id for experiment in client.search_experiments()]
    running = f"attributes.status = 'RUNNING' and tags.`{_HOST_TAG}` = '{socket.gethostname()}'"
    for run in client.search_runs(experiment_ids, running):
        if not _is_alive(int(run.data.tags[_PID_TAG]), float(run.data.tags[_STARTED_TAG])):
            client.set_terminated(run.info.run_id, "KILLED")
            logger.warning(
                "run %s (%s) was RUNNING but its process %s is gone: ended as KILLED",
                run.info.run_name,
                run.info.run_id,
                run.data.tags[_PID_TAG],
            )


def _owner_tags() -> dict[str, str]:
    process = psutil.Process()
    return {
        _HOST_TAG: socket.gethostname(),
        _PID_TAG: str(process.pid),
        _STARTED_TAG: f"{_started_s(process):.2f}",
    }


def _started_s(process: psutil.Process) -> float:
    """Return the seconds from boot to the start of a process, independent of the clock."""
    return process.create_time() - psutil.boot_time()


def _is_alive(pid: int, started_s: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(_started_s(process) - started_s) < 1  # otherwise another process has the id
    except psutil.Error:  # the process is gone, or hidden since another user owns it
        return psutil.pid_exists(pid)


def _membership_tags() -> dict[str, str]:
    """Return tags of the DVC experiment, study and method that this process belongs to."""
    names = {
        EXPERIMENT_TAG: "DVC_EXP_NAME",
        BASELINE_TAG: "DVC_EXP_BASELINE_REV",
        STUDY_TAG: STUDY_VARIABLE,
        METHOD_TAG: METHOD_VARIABLE,
    }
    return {tag: os.environ[name] for tag, name in names.items() if os.environ.get(name)}


def _status_after(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"
