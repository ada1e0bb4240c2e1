"""Record DVC experiments in MLflow that ran no stage, since all results were in the cache."""

import json
import logging
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from pointcover.config.params import Params, load_params
from pointcover.config.run_summary import describe
from pointcover.evaluation.run_description import describe_run
from pointcover.runtime.progress import show_progress
from pointcover.tracking import runs as tracking
from pointcover.tracking.dvc_experiments import (
    ANNOTATION,
    TEST,
    TRAINING,
    Experiment,
    fetch_folder,
    list_experiments,
    read_files,
)
from pointcover.tracking.metric_names import cost_of, kept_metrics_of, test_metrics_of

PARAMS = "params.yaml"
MODELS = "models"

logger = logging.getLogger(__name__)


def sync(
    root: Path, only: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Record every finished DVC experiment that has no run in MLflow, or rename its run.

    Args:
        root: the project's folder.
        only: names of the experiments to record, with the tags of each; by default all, without
            tags.

    Returns:
        the names of the recorded experiments; and the names of those that could not be recorded,
        with the reason.

    Raises:
        ValueError: the folder is not a git repository, or the tracking URI cannot be used.
        OSError: the store cannot be read or written.
    """
    known, listed = tracking.recorded_experiments(root), list_experiments(root)
    missing = {
        name: experiment
        for name, experiment in listed.items()
        if name not in known and (only is None or name in only)
    }
    recorded, unreadable = [], {}
    for name in show_progress(sorted(missing), "recording", "experiment"):
        try:
            if not _rename(root, name, missing[name], listed):
                _record(root, name, missing[name], (only or {}).get(name, {}))
        except (FileNotFoundError, ValueError, KeyError) as error:
            unreadable[name] = str(error)
        else:
            recorded.append(name)
    return recorded, unreadable


def sync_study(root: Path, tags: Mapping[str, Mapping[str, str]]) -> None:
    """Record experiments of a study whose results were in the cache, where the store can be used.

    Args:
        root: the project's folder.
        tags: of each experiment, by its name.
    """
    try:
        sync(root, tags)
    except OSError as error:
        logger.warning(
            "%s. Experiments whose results were in the cache may lack a run in MLflow: when it can "
            "be used, run the study again, or `pointcover sync`, which records them without their "
            "study",
            error,
        )


def _rename(root: Path, name: str, experiment: Experiment, listed: Collection[str]) -> bool:
    """Rename the run of an experiment that `dvc exp rename` gave another name; False if none is."""
    try:
        files = read_files(root, experiment.commit, (PARAMS, f"{MODELS}/model.json"))
    except FileNotFoundError:  # an experiment whose model is gone is recorded without it
        return False
    model_sha256 = json.loads(files[f"{MODELS}/model.json"])["weights_sha256"]
    params = describe(_read_params(files[PARAMS]))
    return tracking.rename_run(root, name, model_sha256, params, listed)


def _read_params(text: str) -> Params:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PARAMS
        path.write_text(text, encoding="utf-8")
        return load_params(path)


def _record(root: Path, name: str, experiment: Experiment, further: Mapping[str, str]) -> None:
    files = read_files(root, experiment.commit, (PARAMS, ANNOTATION, TRAINING, TEST))
    training, result = json.loads(files[TRAINING]), json.loads(files[TEST])
    labels = json.loads(files[ANNOTATION])["train"]
    scores = kept_metrics_of(training) | test_metrics_of(result)
    params = _read_params(files[PARAMS])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PARAMS
        path.write_text(files[PARAMS], encoding="utf-8")
        tags = {
            **further,
            "dataset": params.dataset,
            tracking.TRAINING_TAG: "from cache",
            tracking.EXPERIMENT_TAG: name,
            tracking.BASELINE_TAG: experiment.baseline,
        }
        with tracking.start_run(root, name, tags=tags) as run:
            run.log_params(describe(params))
            run.log_metrics(cost_of(labels))
            run.log_file(path)
            run.log_text(files[ANNOTATION], "annotate.json")
            run.log_dict(result, "test.json")
            try:
                fetch_folder(root, experiment.commit, MODELS, Path(folder) / MODELS)
            except FileNotFoundError as error:
                logger.warning("%s: recorded without its model: %s", name, error)
            else:
                run.log_model(Path(folder) / MODELS, training["kept_epoch"])
            run.log_scores(scores)
            run.describe(describe_run(result, labels, run.id, ()))
