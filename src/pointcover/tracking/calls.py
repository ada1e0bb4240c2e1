"""Log to a run by calls that can be repeated later with the same outcome.

A call holds the values to log, and the time at which they were known. So a call that was repeated,
since the answer of the server was lost, adds nothing.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pointcover.tracking import registry
from pointcover.tracking.logged_models import (
    EPOCH,
    MOST_DIGITS,
    find_model,
    source_of,
    store_model,
)

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    import numpy as np
    import numpy.typing as npt
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

IMAGES: Final = "images"
"""Folder of a run's images in MLflow."""


class Target(NamedTuple):
    """A run in an open store."""

    client: "MlflowClient"
    uri: str
    run_id: str
    model_run_id: str
    """Of the run that trained the model; mostly this run."""


class Call(NamedTuple):
    """Something to log."""

    name: str
    """Key of CALLS."""
    values: Mapping[str, Any]
    """As JSON holds them."""
    source: Path | None = None
    """File or folder to log."""
    image: "npt.NDArray[np.uint8] | None" = None
    """Image to log, where it is in no file yet."""


def perform(target: Target, call: Call) -> str | None:
    """Log something; return the name of the registered model if the call made one."""
    return CALLS[call.name](target, call)


def _log_params(target: Target, call: Call) -> None:
    from mlflow.entities import Param

    written = [Param(*one) for one in call.values["params"].items()]
    target.client.log_batch(target.run_id, params=written)


def _log_metrics(target: Target, call: Call) -> None:
    _write_metrics(target, call, call.values["step"], (None, None, None))


def _log_scores(target: Target, call: Call) -> None:
    model = find_model(target.client, target.client.get_run(target.model_run_id))
    step = int(model.params.get(EPOCH, 0)) if model else 0
    data = call.values["data"]
    of_data = (data[0], data[1][:MOST_DIGITS]) if data else (None, None)
    _write_metrics(target, call, step, (model.model_id if model else None, *of_data))


def _write_metrics(
    target: Target, call: Call, step: int, of: tuple[str | None, str | None, str | None]
) -> None:
    from mlflow.entities import Metric

    at_ms = call.values["at_ms"]
    batch = [
        Metric(name, math.nan if value is None else float(value), at_ms, step, *of)
        for name, value in call.values["metrics"].items()
    ]
    target.client.log_batch(target.run_id, metrics=batch)


def _log_tags(target: Target, call: Call) -> None:
    from mlflow.entities import RunTag

    tags = [RunTag(key, value) for key, value in call.values["tags"].items()]
    target.client.log_batch(target.run_id, tags=tags)


def _log_file(target: Target, call: Call) -> None:
    target.client.log_artifact(target.run_id, str(call.source), call.values["folder"] or None)


def _log_text(target: Target, call: Call) -> None:
    target.client.log_text(target.run_id, call.values["text"], call.values["name"])


def _log_image(target: Target, call: Call) -> None:
    import numpy as np

    values, image = call.values, call.image
    if image is None:
        assert call.source is not None
        if _is_logged(target, values):
            return
        image = np.load(call.source, allow_pickle=False)
    target.client.log_image(
        target.run_id, image, key=values["name"], step=values["step"], timestamp=values["at_ms"]
    )


def _is_logged(target: Target, image: Mapping[str, Any]) -> bool:
    """Return whether an image is there; MLflow names its file by step, time and a random id."""
    name = image["name"].replace("/", "~")
    start = f"{IMAGES}/{name}+step+{image['step']}+timestamp+{image['at_ms']}+"
    files = target.client.list_artifacts(target.run_id, IMAGES)
    # The compressed copy is written last.
    return any(file.path.startswith(start) and "+compressed" in file.path for file in files)


def _log_dataset(target: Target, call: Call) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    values = call.values
    source = json.dumps({"uri": values["source"]})
    dataset = Dataset(values["name"], values["digest"][:MOST_DIGITS], "local", source)
    context = [InputTag("mlflow.data.context", values["role"])]
    target.client.log_inputs(target.run_id, [DatasetInput(dataset, context)])


def _log_model(target: Target, call: Call) -> None:
    assert call.source is not None
    trained = target.client.get_run(target.model_run_id)
    store_model(target.client, trained, call.source, call.values["epoch"])


def _register_champion(target: Target, call: Call) -> str | None:
    values, client = call.values, target.client
    trained = client.get_run(target.model_run_id)
    model = find_model(client, trained)
    candidate = registry.Candidate(
        name=values["name"],
        experiment=client.get_experiment(trained.info.experiment_id).name,
        split=values["split"],
        score=values["score"],
        source=source_of(client, trained),
        run_id=target.model_run_id,
        model_id=model.model_id if model else None,
        tags={**values["tags"], **_data_digests(trained)},
        description=values["text"],
    )
    return registry.register_champion(client, candidate)


def _data_digests(run: "MlflowRun") -> dict[str, str]:
    """Return the digest of each dataset of a run, by its role: training_data, evaluation_data."""
    return {
        f"{tag.value}_data": used.dataset.digest
        for used in (run.inputs.dataset_inputs if run.inputs else [])
        for tag in used.tags
        if tag.key == "mlflow.data.context"
    }


def _end(target: Target, call: Call) -> None:
    target.client.set_terminated(target.run_id, call.values["status"], call.values["at_ms"])


CALLS: Final[dict[str, Callable[[Target, Call], str | None]]] = {
    "params": _log_params,
    "metrics": _log_metrics,
    "scores": _log_scores,
    "tags": _log_tags,
    "file": _log_file,
    "text": _log_text,
    "image": _log_image,
    "dataset": _log_dataset,
    "model": _log_model,
    "champion": _register_champion,
    "end": _end,
}
"""What can be logged. Every call may be repeated."""
