"""Log to a run by calls that can be repeated later with the same outcome.

A call holds the values to log, and the time at which they were known. So a call that was repeated,
since the answer of the server was lost, adds nothing.
"""

import json
import math
import tempfile
import uuid
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
    """Log an image and its small copy under the names that the UI of MLflow looks for.

    `MlflowClient.log_image` puts a random id into both names, so that a repeated call would add
    two more files. The names have the form of MLflow 3.
    """
    import numpy as np
    from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

    values, pixels = call.values, call.image
    if pixels is None:
        assert call.source is not None
        pixels = np.load(call.source, allow_pickle=False)
    image = convert_to_pil_image(pixels)
    step, at_ms = values["step"], values["at_ms"]
    name = f"{values['name'].replace('/', '~')}+step+{step}+timestamp+{at_ms}"
    name = f"{name}+{uuid.uuid5(uuid.UUID(target.run_id), name)}"
    with tempfile.TemporaryDirectory() as folder:
        image.save(Path(folder, f"{name}.png"))
        compress_image_size(image).save(Path(folder, f"{name}+compressed.webp"))
        target.client.log_artifacts(target.run_id, folder, IMAGES)
    target.client.set_tag(target.run_id, MLFLOW_LOGGED_IMAGES, "True")


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
