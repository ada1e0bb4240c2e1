"""Fetch a trained model from MLflow: that of a run, or a registered model."""

from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.tracking.logged_models import source_of
from pointcover.tracking.store import (
    connect,
    environment,
    is_stored,
    locked_file,
    quieten_mlflow,
    sqlite_path,
    tracking_uri,
    whole_call,
    without_password,
)

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    from mlflow import MlflowClient


def fetch_model(root: Path, reference: str, folder: Path) -> Path:
    """Copy a model from the MLflow store.

    Args:
        root: the project's root.
        reference: a run (`runs:/ID`, or its 32 hexadecimal digits alone), or a registered model
            (`models:/NAME@alias`, `models:/NAME/version`).
        folder: an existing folder, to which the files are copied.

    Returns:
        the folder with the model's model.json.

    Raises:
        FileNotFoundError: there is no local store.
        ValueError: the store does not have the model, or it is not a model of pointcover.
        ConnectionError: the tracking server does not answer.
        OSError: the store cannot be read.
    """
    uri = check_store(root, reference)
    quieten_mlflow()
    with whole_call(uri), locked_file(uri):
        _download(_source_of(connect(uri), reference), reference, folder, uri)
    found = sorted(path.parent for path in folder.rglob("model.json"))
    if len(found) != 1:
        raise ValueError(
            f"{reference} holds {len(found)} models of pointcover, wanted one (a model.json beside "
            f"its model.pt): name a run with finished training, or a model registered from one"
        )
    return found[0]


def check_store(root: Path, reference: str) -> str:
    """Return the URI of the MLflow store, after a check that a local one exists.

    Raises:
        FileNotFoundError: there is no local store.
    """
    uri = tracking_uri(root)
    if uri.startswith("sqlite") and not is_stored(sqlite_path(uri)):
        raise FileNotFoundError(
            f"there is no MLflow store at {uri}, wanted one that holds {reference}: run this in "
            f"the project's folder, or set MLFLOW_TRACKING_URI"
        )
    return uri


def _download(source: str, reference: str, folder: Path, uri: str) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        with environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
            download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri)
    except (MlflowException, OSError) as error:
        raise ValueError(
            f"the model of {reference} cannot be copied from {without_password(source)} "
            f"({' '.join(str(error).split())[:200]}): name a run with finished training and "
            f"existing files"
        ) from None


def _source_of(client: "MlflowClient", reference: str) -> str:
    """Return the URI of the files of a run's model or a registered model."""
    from mlflow.exceptions import MlflowException

    kind, _, name = reference.rpartition(":/")
    try:
        if kind != "models":
            return source_of(client, client.get_run(name))
        if "@" in name:
            return str(client.get_model_version_by_alias(*name.rsplit("@", 1)).source)
        if "/" in name:
            return str(client.get_model_version(*name.rsplit("/", 1)).source)
    except MlflowException as error:
        raise ValueError(
            f"MLflow has no {reference} ({str(error).partition(chr(10))[0][:200]}): look it up in "
            f"`pointcover ui`"
        ) from None
    raise ValueError(
        f"{reference} has no version: write models:/NAME@ALIAS or models:/NAME/VERSION"
    )
