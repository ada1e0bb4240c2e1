"""Store a network as a logged model of MLflow, which is an output of the run that trained it.

Its files lie beside those of runs, once. MLflow's page of models lists its scores, with the dataset
and the epoch of each, and `mlflow.search_logged_models` sorts by them.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities import Run as MlflowRun

MODEL_NAME: Final = "model"
"""Name of the logged model, by which `runs:/ID/model` finds it."""

MODEL_FILES: Final = ("model.pt", "model.json")

EPOCH: Final = "epoch"
"""Parameter of a logged model: the epoch of its weights, the step of its scores."""

MOST_DIGITS: Final = 36
"""Maximum length of a dataset's digest in MLflow's database."""


class ScoredOn(NamedTuple):
    """The dataset of a model's scores."""

    name: str
    digest: str


def find_model(client: "MlflowClient", run: "MlflowRun") -> "LoggedModel | None":
    """Return the logged model that a run trained, or None."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return client.get_logged_model(outputs[0].model_id) if outputs else None


def store_model(client: "MlflowClient", run: "MlflowRun", folder: Path, epoch: int) -> str:
    """Store a model in a form that MLflow can load and serve; return its id.

    Files that are stored already are not copied again.

    Args:
        client: of the store.
        run: that trained the model.
        folder: with model.pt and model.json.
        epoch: of the weights.
    """
    # Imported here, since it imports mlflow.
    from pointcover.tracking.mlmodel import write_mlmodel

    found = find_model(client, run)
    model_id = found.model_id if found else _create(client, run, epoch)
    with tempfile.TemporaryDirectory() as aside:
        write_mlmodel(Path(aside), run.info.run_id, MODEL_NAME, model_id)
        listed = client.list_logged_model_artifacts(model_id)
        sizes = {Path(file.path).name: file.file_size for file in listed}
        for name in MODEL_FILES:
            if sizes.get(name) != (folder / name).stat().st_size:
                client.log_model_artifact(model_id, str(folder / name))
        client.log_model_artifacts(model_id, aside)
    if found is None or str(found.status) != "READY":
        client.finalize_logged_model(model_id, "READY")
    return model_id


def _create(client: "MlflowClient", run: "MlflowRun", epoch: int) -> str:
    """Make an output of a run, with the run's parameters; return its id."""
    from mlflow.entities import LoggedModelOutput

    made = client.create_logged_model(
        run.info.experiment_id,
        MODEL_NAME,
        run.info.run_id,
        params={**run.data.params, EPOCH: str(epoch)},
        tags={"dataset": Path(run.data.params.get("dataset", "")).stem or "unknown"},
        model_type="semantic segmentation",
    )
    client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, epoch)])
    return str(made.model_id)


def source_of(client: "MlflowClient", run: "MlflowRun") -> str:
    """Return the URI of the files of a run's model; older runs have them among their artifacts."""
    found = find_model(client, run)
    if found is not None and client.list_logged_model_artifacts(found.model_id):
        return str(found.artifact_location)
    return f"{run.info.artifact_uri}/{MODEL_NAME}"
