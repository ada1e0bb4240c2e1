"""Record experiments in MLflow: one run for each trained model.

A run is a context manager. It ends as FINISHED, as FAILED after an exception, or as KILLED after an
interrupt or SIGTERM (which a stage turns into SystemExit). After SIGKILL it stays RUNNING. So a run
is tagged with its process, and the next run that is started ends those whose process is gone.

Only modules of this package, `models.fetch` and `serving` import MLflow.
Its global state (``mlflow.start_run``, autolog) is not used.
"""

import contextlib
import getpass
import json
import logging
import math
import os
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pointcover.tracking import owners
from pointcover.tracking.calls import Call, Target, perform
from pointcover.tracking.dvc_experiments import head_commit
from pointcover.tracking.logged_models import ScoredOn
from pointcover.tracking.postponed import Postponed, taken, waiting_runs
from pointcover.tracking.store import (
    StoreUnreachableError,
    connect,
    experiment_id_of,
    experiment_name,
    is_own_store,
    is_server,
    is_stored,
    locked_file,
    quieten_mlflow,
    sqlite_path,
    tracking_uri,
    whole_call,
    without_password,
)

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    import numpy as np
    import numpy.typing as npt
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

logger = logging.getLogger(__name__)

MODEL_TAG: Final = "mlflow.pointcover.model_sha256"
"""Tag of the run that trained a model, by which its evaluation finds it: SHA-256 of model.pt."""

EVALUATED_TAG: Final = "mlflow.pointcover.evaluated"
TRAINING_TAG: Final = "pointcover.training"
ENSEMBLE_TAG: Final = "ensemble"
POSTPONED_TAG: Final = "mlflow.pointcover.postponed"
"""Tag of a run that is opened for a postponed evaluation, until its folder says so."""
STUDY_TAG: Final = "study"
METHOD_TAG: Final = "method"
STUDY_VARIABLE: Final = "POINTCOVER_STUDY"
"""Environment variables by which a study passes its name and the method to the stages."""
METHOD_VARIABLE: Final = "POINTCOVER_METHOD"
PARENT_TAG: Final = "mlflow.parentRunId"
PARENT_VARIABLE: Final = "POINTCOVER_PARENT_RUN"
"""By this a search passes the id of its run, whose children those of its trials are."""
EXPERIMENT_TAG: Final = "dvc.exp_name"
BASELINE_TAG: Final = "dvc.baseline_rev"

_CANNOT: Final = "what waits in %s cannot be logged (%s): remove the cause, or that folder"
_NOT_YET: Final = "what waits in %s goes on waiting: %s"
_MOST_RUNS: Final = 50_000  # maximum number of results of a search in MLflow
_Params = Mapping[str, str | int | float | bool | None]
_Tags = Mapping[str, str] | None


class ModelNotes(NamedTuple):
    """What is said of a registered version of a model."""

    text: str
    """Markdown."""
    tags: Mapping[str, str]


class Run:
    """One MLflow run, RUNNING until the ``with`` block ends; made by `start_run`.

    Where the server stops answering, what is to be logged is written to the project's folder, and
    logged once the server answers: by this run, by the next run that is started, or by `sync`.

    Every method raises ValueError for values that MLflow rejects (such as a name with brackets, or
    a parameter that was logged with another value) and OSError if the store cannot be written.
    """

    id: str
    """MLflow's id; where no server answered when the run was opened, a placeholder for it."""

    def __init__(
        self,
        root: Path,
        target: Target,
        tags_at_end: _Tags,
        postponed: Postponed | None = None,
    ) -> None:
        """Wrap a run that is already RUNNING in the store.

        Args:
            root: the project's root.
            target: the run in the store.
            tags_at_end: set only when the run ends as FINISHED.
            postponed: calls of a run that is not in the store yet.
        """
        self.id = target.run_id
        self.target = target
        self._root = root
        self._tags_at_end = tags_at_end
        self._postponed = postponed
        self._is_in_store = postponed is None

    def _log(self, name: str, source: Path | None = None, **values: Any) -> str | None:
        return self._perform(Call(name, values, source))

    def _perform(self, call: Call) -> str | None:
        """Log something, or postpone it where the server does not answer."""
        if self._postponed is not None and not self._catch_up(self._postponed):
            self._postponed.add(call)
            return None
        try:
            with whole_call(self.target.uri):
                return perform(self.target, call)
        except StoreUnreachableError as error:
            self._postponed = self._postpone()
            self._postponed.add(call)
            self._postponed.wait()
            logger.warning(
                "%s. This goes on, and what is to be logged waits in %s",
                error,
                self._postponed.folder,
            )
            return None

    def _postpone(self) -> Postponed:
        target = self.target
        about = {
            "uri": without_password(target.uri),
            "run_id": target.run_id,
            "model_run_id": target.model_run_id,
        }
        return Postponed.start(self._root, target.run_id, about)

    def _catch_up(self, postponed: Postponed) -> bool:
        """Log what waits; return False if it has to wait on."""
        if not self._is_in_store or not postponed.is_due():
            return False
        try:
            with whole_call(self.target.uri):
                connect(self.target.uri)  # fails sooner than a call
                count = postponed.perform_all(self.target)
        except (OSError, ValueError) as error:
            if not isinstance(error, StoreUnreachableError):
                logger.warning(_CANNOT, postponed.folder, error)
            postponed.wait()
            return False
        self._postponed = None
        logger.info("the MLflow server answers again: %d waiting records are logged", count)
        return True

    def log_params(self, params: _Params) -> None:
        """Record settings. A recorded value cannot be changed.

        None is recorded as null, as in params.yaml.
        """
        self._log("params", params=_texts_of(params))

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Record metrics in one transaction.

        Args:
            metrics: values by name, for example ``val/iou/building``; None is left out.
            step: the epoch, if there is one.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        self._log("metrics", metrics=_known(metrics), step=step or 0, at_ms=_now_ms())

    def announce_metric(self, name: str) -> None:
        """Record NaN for a metric that gets its value later.

        MLflow's compare view plots the first metric that the runs have in common. Without this, a
        test score would never be the first.
        """
        self._log("metrics", metrics={name: None}, step=0, at_ms=_now_ms())

    def logged_steps(self, name: str) -> frozenset[int]:
        """Return the steps for which a metric is recorded, which a resumed run does not repeat."""
        with whole_call(self.target.uri):
            history = self.target.client.get_metric_history(self.id, name)
        return frozenset(metric.step for metric in history)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Copy a file to ``folder`` in the run's artifacts."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file: write it before it is logged")
        self._log("file", path, folder=folder)

    def log_text(self, text: str, name: str) -> None:
        """Write text to the artifact ``name``, for example ``figures/report.html``."""
        self._perform(Call("text", {"text": text, "name": name}))

    def log_dict(self, values: Mapping[str, object], name: str) -> None:
        """Write JSON to the artifact ``name``; raise ValueError for NaN, which JSON lacks."""
        self.log_text(json.dumps(values, indent=2, allow_nan=False) + "\n", name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        self._log("tags", tags=dict(tags))

    def log_images(self, images: "Mapping[str, npt.NDArray[np.uint8]]", step: int) -> None:
        """Record images of an epoch, (H, W, 3) uint8, which the UI shows by step."""
        for name, image in images.items():
            values = {"name": name, "step": step, "at_ms": _now_ms()}
            self._perform(Call("image", values, image=image))

    def log_dataset(self, name: str, digest: str, source: str, role: str) -> None:
        """Record the dataset of the run.

        Args:
            name: of the dataset card.
            digest: of the data, in hexadecimal digits; MLflow shows the first eight.
            source: folder or URL of the files.
            role: `training` or `evaluation`.
        """
        self._perform(
            Call("dataset", {"name": name, "digest": digest, "source": source, "role": role})
        )

    def log_model(self, folder: Path, epoch: int) -> None:
        """Store a model as output of the run that trained it; see `store_model`.

        Args:
            folder: with model.pt and model.json.
            epoch: of the weights.
        """
        self._log("model", folder, epoch=epoch)

    def log_scores(self, scores: Mapping[str, float | None], data: ScoredOn | None = None) -> None:
        """Record scores of the run and of its model, at the epoch of the model.

        Args:
            scores: values by name; None is left out.
            data: that they are on, where it is known.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        self._log("scores", metrics=_known(scores), data=data and list(data), at_ms=_now_ms())

    def register_champion(
        self, name: str, score: float, split: str, about: "ModelNotes | None" = None
    ) -> str | None:
        """Register the run's model with the alias `champion`, if its score is the best.

        Args:
            name: of the registered model; that of the dataset. Digits are added where it holds
                models of another test split or MLflow experiment.
            score: test mIoU.
            split: digest of the test split.
            about: description and tags of the version.

        Returns:
            the name of the registered model if this run's model is now its champion, else None.
        """
        about = about or ModelNotes("", {})
        values = {"name": name, "score": score, "split": split, "tags": dict(about.tags)}
        return self._perform(Call("champion", values | {"text": about.text}))

    def describe(self, text: str) -> None:
        """Set the description of the run, which MLflow shows as Markdown."""
        self.set_tags({"mlflow.note.content": text})

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
        if self._postponed is not None:
            self._postponed.try_now()
        try:
            if status == "FINISHED" and self._tags_at_end:
                self.set_tags(self._tags_at_end)
            self._log("end", status=status, at_ms=_now_ms())
        except (OSError, ValueError) as end_error:
            if error is None:
                raise
            # The error that ends the run is the one to raise; it may have caused this one.
            logger.error("run %s could not be ended as %s: %s", self.id, status, end_error)
        finally:
            if self._postponed is not None:
                logger.warning(
                    "%d records of this run wait in %s: `pointcover sync`, or the next run, logs "
                    "them when the MLflow server answers",
                    self._postponed.count,
                    self._postponed.folder,
                )
                self._postponed.close()


def _now_ms() -> int:
    return int(time.time() * 1000)


def start_run(
    root: Path,
    name: str,
    experiment: str | None = None,
    tags: _Tags = None,
    resume_id: str | None = None,
) -> Run:
    """Open a run, after ending as KILLED the runs on this host whose process is gone.

    Args:
        root: the project's root.
        name: of the run, if DVC_EXP_NAME is not set.
        experiment: the MLflow experiment, made if it does not exist; by default that of
            MLFLOW_EXPERIMENT_NAME, else `pointcover`.
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
            if found and (
                found[0].info.status != "RUNNING" or owners.was_rebooted(found[0].data.tags)
            ):
                return store.reopen(found[0], tags)
            state = "open in another process" if found else "not in the store"
            logger.warning("run %s is %s: a new run is started", resume_id, state)
        return store.create(os.environ.get("DVC_EXP_NAME") or name, tags)


def resume_training_run(
    root: Path,
    model_sha256: str,
    name: str,
    experiment: str | None = None,
    *,
    models: int = 1,
) -> Run:
    """Open the run that trained a model, to record its evaluation there.

    Where the server does not answer, the evaluation is postponed, and the run is found later.

    The newest run with this MODEL_TAG is reopened; a run of this DVC experiment is preferred. If it
    has been evaluated before, or is RUNNING, a child run is started instead, named after the DVC
    experiment or the run. If there is no such run (the model came from the cache of another clone,
    or the store was deleted), a new run is started and tagged
    ``pointcover.training = "from cache"``.

    Args:
        root: the project's root.
        model_sha256: of the checkpoint file.
        name: of a new run, as in `start_run`.
        experiment: the MLflow experiment, as in `start_run`.
        models: number of models in an ensemble. If it is more than 1, the scores are recorded in a
            child run, tagged with the number, and the model does not count as evaluated.

    Raises:
        ValueError: the name is empty, or the tracking URI or the experiment cannot be used.
        ConnectionError: the tracking server does not answer.
        OSError: the store cannot be read or written.
    """
    evaluation = _Evaluation(model_sha256, name, models)
    try:
        with _opened_store(root, experiment) as store:
            return evaluation.open(store)
    except StoreUnreachableError as error:
        if not is_server(tracking_uri(root)):
            raise
        return _postponed_evaluation(root, evaluation, experiment or experiment_name(), error)


class _Evaluation(NamedTuple):
    """An evaluation to be recorded: the SHA-256 of the model, a name, and the number of models."""

    model_sha256: str
    name: str
    models: int

    def open(self, store: "_Store") -> Run:
        """Open the run of the model, or another one."""
        evaluated = {EVALUATED_TAG: "true"}
        exp_name = store.membership.get(EXPERIMENT_TAG)
        tags = {ENSEMBLE_TAG: f"{self.models} models"} if self.models > 1 else {}
        found = store.search(f"tags.`{MODEL_TAG}` = '{self.model_sha256}'")
        if not found:
            logger.warning(
                "no run trained this model (%s…): a new run is started", self.model_sha256[:8]
            )
            origin = {TRAINING_TAG: "from cache", MODEL_TAG: self.model_sha256}
            return store.create(exp_name or self.name, {**origin, **tags}, evaluated)
        own = [run for run in found if run.data.tags.get(EXPERIMENT_TAG) == exp_name]
        trained = (own or found)[0]
        is_single = self.models == 1 and EVALUATED_TAG not in trained.data.tags
        if is_single and trained.info.status != "RUNNING":
            return store.reopen(trained, tags, evaluated)
        parent = {PARENT_TAG: trained.info.run_id}
        child = exp_name or f"{trained.info.run_name}-evaluate"
        keeper = trained.info.run_id
        return store.create(child, {**parent, **tags}, model_run_id=keeper)

    def open_again(self, store: "_Store", run: "MlflowRun") -> Run:
        """Open a run that `open` opened before."""
        tags = run.data.tags
        opened = store.reopen(run, {PARENT_TAG: tags[PARENT_TAG]} if PARENT_TAG in tags else None)
        if tags.get(MODEL_TAG) != self.model_sha256:  # a child of the run that trained the model
            opened.target = opened.target._replace(model_run_id=tags[PARENT_TAG])
        return opened


def _postponed_evaluation(
    root: Path, evaluation: _Evaluation, experiment: str, error: StoreUnreachableError
) -> Run:
    """Return a run that is opened when its calls are logged."""
    from mlflow import MlflowClient

    uri, placeholder = tracking_uri(root), f"evaluation-{uuid.uuid4().hex}"
    membership = _membership_tags()
    about = {
        "uri": without_password(uri),
        "experiment": experiment,
        "evaluation": list(evaluation),
        "membership": membership,
        "origin": _origin_tags(membership.get(BASELINE_TAG)),
    }
    postponed = Postponed.start(root, placeholder, about)
    logger.warning(
        "%s. The evaluation goes on, and what is to be logged waits in %s", error, postponed.folder
    )
    target = Target(MlflowClient(uri), uri, placeholder, placeholder)
    return Run(root, target, {EVALUATED_TAG: "true"}, postponed)


def reopen_model_run(root: Path, model_sha256: str, experiment: str | None = None) -> Run | None:
    """Open the run that trained a model again, to add to what it says; its tags stay.

    Args:
        root: the project's root.
        model_sha256: of the checkpoint file.
        experiment: the MLflow experiment, as in `start_run`.

    Returns:
        the newest run tagged MODEL_TAG; None where the store has none, or has it open in another
        process, or where there is no store.

    Raises:
        ValueError: as `start_run`.
        OSError: as `start_run`.
    """
    uri = tracking_uri(root)
    if uri.startswith("sqlite") and not is_stored(sqlite_path(uri)):
        return None
    with _opened_store(root, experiment) as store:
        found = store.search(f"tags.`{MODEL_TAG}` = '{model_sha256}'")
        if not found or found[0].info.status == "RUNNING":
            return None
        return store.reopen(found[0], None)


def address_of_model_run(
    root: Path, model_sha256: str, experiment: str | None = None
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


def is_tagged(root: Path, tag: str, value: str, experiment: str | None = None) -> bool:
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
    with _opened_store(root) as store:
        for run in store.search(f"tags.`{MODEL_TAG}` = '{model_sha256}'"):
            old = run.data.tags.get(EXPERIMENT_TAG)
            if old is None or old in others or not wanted.items() <= run.data.params.items():
                continue
            with whole_call(store.uri):
                store.client.set_tag(run.info.run_id, EXPERIMENT_TAG, name)
                store.client.update_run(run.info.run_id, name=name)
            return True
    return False


def _known(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return metrics without those that have no value.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = {name: value for name, value in metrics.items() if value is not None}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"metric {name} is {value}, not a number: pass None for no value")
    return values


def _texts_of(params: _Params) -> dict[str, str]:
    return {key: "null" if value is None else str(value) for key, value in params.items()}


def recorded_experiments(root: Path, experiment: str | None = None) -> frozenset[str]:
    """Return the names of the DVC experiments that have a run; raises as `start_run`."""
    with _opened_store(root, experiment) as store:
        runs = store.search(f"tags.`{EXPERIMENT_TAG}` != ''")
    return frozenset(run.data.tags[EXPERIMENT_TAG] for run in runs)


class _Store(NamedTuple):
    """An experiment in an open store, and the tags of the runs that this process records."""

    root: Path
    client: "MlflowClient"
    uri: str
    experiment_id: str
    membership: Mapping[str, str]
    """Of the DVC experiment, study and method."""
    origin: Mapping[str, str]
    """Of who runs what, from which commit."""

    def create(
        self, name: str, tags: _Tags, tags_at_end: _Tags = None, model_run_id: str | None = None
    ) -> Run:
        if not name:  # MLflow would draw a name, which repeats, since its generator is seeded
            raise ValueError("the name of a run is empty: set one, such as dataset-points-time")
        every_tag = {
            **self.origin,
            **self.membership,
            **(tags or {}),
            **owners.owner_tags(),
        }
        run = self.client.create_run(self.experiment_id, tags=every_tag, run_name=name)
        return Run(self.root, self._target(run.info.run_id, model_run_id), tags_at_end)

    def reopen(self, run: "MlflowRun", tags: _Tags, tags_at_end: _Tags = None) -> Run:
        opened = Run(self.root, self._target(run.info.run_id), tags_at_end)
        # Set the process first: a RUNNING run whose tagged process is gone counts as an orphan.
        every_tag = {**self.membership, **(tags or {}), **owners.owner_tags()}
        perform(self._target(run.info.run_id), Call("tags", {"tags": every_tag}))
        # An experiment that resumes the training of another one takes over its run and renames it.
        self.client.update_run(
            opened.id, status="RUNNING", name=self.membership.get(EXPERIMENT_TAG)
        )
        return opened

    def _target(self, run_id: str, model_run_id: str | None = None) -> Target:
        return Target(self.client, self.uri, run_id, model_run_id or run_id)

    def search(self, condition: str) -> "list[MlflowRun]":
        newest_first = ["attributes.start_time DESC"]
        return list(
            self.client.search_runs(
                [self.experiment_id], condition, max_results=_MOST_RUNS, order_by=newest_first
            )
        )


@contextlib.contextmanager
def _opened_store(root: Path, experiment: str | None = None) -> Iterator[_Store]:
    """Open the store and end orphaned runs; lock the store if it is a file."""
    uri = tracking_uri(root)
    # mlflow reads these variables when it is imported. Those that are set already are kept.
    quieten_mlflow()
    if any(root.glob("mlruns/*/meta.yaml")):
        logger.warning(
            "%s holds runs of an old MLflow file store, and MLflow would show only these: "
            "move its numbered folders to another place",
            root / "mlruns",
        )
    with whole_call(uri), locked_file(uri):
        client = connect(uri)
        # A server stores artifacts itself. A database is opened by this process, and then MLflow's
        # default folder of artifacts is in the working directory.
        files = None if is_server(uri) else (root.absolute() / "mlruns").as_uri()
        experiment_id = experiment_id_of(client, experiment or experiment_name(), files)
        membership = _membership_tags()
        origin = _origin_tags(membership.get(BASELINE_TAG))
        store = _Store(root, client, uri, experiment_id, membership, origin)
        _log_postponed(store)  # first: a run that ended while the server was away is no orphan
        _end_orphans(client, experiment_id, is_own_store=is_own_store(uri))
        yield store


def log_postponed(root: Path) -> tuple[int, dict[str, str]]:
    """Log what could not be logged before, since the server did not answer.

    Returns:
        the number of runs that are logged whole now; and the reason of each other one, by the name
        of its folder.

    Raises:
        ValueError: as `start_run`.
        OSError: as `start_run`.
    """
    waiting = waiting_runs(root)
    if not waiting:
        return 0, {}
    uri = without_password(tracking_uri(root))
    reasons = {
        run["folder"]: f"it waits for the MLflow server {run['uri']}: set MLFLOW_TRACKING_URI to it"
        for run in waiting
        if run["uri"] != uri
    }
    if len(reasons) < len(waiting):
        try:
            with _opened_store(root):  # logs them
                pass
        except StoreUnreachableError as error:
            raise StoreUnreachableError(
                f"{len(waiting)} runs wait to be logged, but {error}"
            ) from None
        left = {run["folder"] for run in waiting_runs(root)} - reasons.keys()
        for run in waiting:
            if run["folder"] in left:
                reasons[run["folder"]] = "its process is alive, or a message above says why"
    return len(waiting) - len(reasons), reasons


def _log_postponed(store: _Store) -> None:
    """Log what waits for this store, but for runs whose process is alive.

    A run that cannot be logged is a warning, so that it does not keep others from starting.

    Raises:
        OSError: the store itself does not answer.
    """
    for waiting in waiting_runs(store.root):
        if waiting["uri"] != without_password(store.uri):
            continue
        with taken(store.root, waiting["folder"]) as postponed:
            if postponed is None:
                continue
            try:
                with whole_call(store.uri):
                    target = _target_of(store, postponed)
                    is_known = waiting["folder"] == target.run_id
                    count = postponed.perform_all(target, "" if is_known else waiting["folder"])
            except StoreUnreachableError as error:
                connect(store.uri)  # fails where the server is away, and not one answer of it
                logger.warning(_NOT_YET, postponed.folder, error)
            except (OSError, ValueError) as error:
                logger.warning(_CANNOT, postponed.folder, error)
            else:
                logger.info("run %s: %d records that waited are logged", target.run_id, count)


def _target_of(store: _Store, postponed: Postponed) -> Target:
    """Return the run that calls are for; that of an evaluation is found or made first."""
    run = postponed.run
    if "run_id" in run:
        return Target(store.client, store.uri, run["run_id"], run["model_run_id"])
    of_then = store._replace(
        experiment_id=experiment_id_of(store.client, run["experiment"], None),
        membership=run["membership"] | {POSTPONED_TAG: postponed.folder.name},
        origin=run["origin"],
    )
    evaluation = _Evaluation(*run["evaluation"])
    found = of_then.search(f"tags.`{POSTPONED_TAG}` = '{postponed.folder.name}'")
    # One that is found was opened by an attempt before, which ended before it noted the run.
    opened = evaluation.open_again(of_then, found[0]) if found else evaluation.open(of_then)
    target = opened.target
    postponed.set_run(target.run_id, target.model_run_id)
    store.client.delete_tag(target.run_id, POSTPONED_TAG)
    return target


def _end_orphans(client: "MlflowClient", experiment_id: str, *, is_own_store: bool) -> None:
    """End as KILLED every RUNNING run of this experiment and machine whose process is gone."""
    running = f"attributes.status = 'RUNNING' and {owners.condition()}"
    for run in client.search_runs([experiment_id], running):
        if owners.is_gone(run.data.tags, is_own_store=is_own_store):
            client.set_terminated(run.info.run_id, "KILLED")
            logger.warning(
                "run %s (%s) was RUNNING but its process %s is gone: ended as KILLED",
                run.info.run_name,
                run.info.run_id,
                run.data.tags[owners.PID_TAG],
            )


def _origin_tags(baseline: str | None) -> dict[str, str]:
    """Return MLflow's own tags of who ran what, from which commit.

    Args:
        baseline: commit of a DVC experiment, whose own commit is made after its stages.
    """
    commit = baseline or head_commit(Path.cwd())
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        user = ""
    tags = {
        "mlflow.user": user,
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit or "",
    }
    return {tag: value for tag, value in tags.items() if value}


def _membership_tags() -> dict[str, str]:
    """Return tags of the DVC experiment, study and method that this process belongs to."""
    names = {
        EXPERIMENT_TAG: "DVC_EXP_NAME",
        BASELINE_TAG: "DVC_EXP_BASELINE_REV",
        STUDY_TAG: STUDY_VARIABLE,
        METHOD_TAG: METHOD_VARIABLE,
        PARENT_TAG: PARENT_VARIABLE,
    }
    return {tag: os.environ[name] for tag, name in names.items() if os.environ.get(name)}


def _status_after(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"
