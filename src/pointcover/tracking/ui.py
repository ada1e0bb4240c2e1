"""Find the addresses of the table of runs, and of a run, on MLflow's pages.

MLflow opens an experiment on its page for language models, and its table without metrics. So the
experiment is tagged with its kind, and with a shared view: columns and order of the table, as
MLflow's button "Share" stores them. The address names that view.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pointcover.tracking.metric_names import HEADLINE
from pointcover.tracking.store import (
    KIND,
    KIND_TAG,
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
    from mlflow import MlflowClient

VIEW: Final = "pointcover"
"""Key of the shared view."""

VIEW_TAG: Final = f"mlflow.sharedViewState.{VIEW}"

COLUMNS: Final = (
    f"metrics.`{HEADLINE}`",
    "metrics.`test/accuracy`",
    "metrics.`labels/clicks`",
    "params.`points`",
    "params.`seed`",
    "params.`model`",
    "params.`encoder`",
    "params.`sampler`",
    "tags.`study`",
)
"""Columns of the table of runs, by MLflow's names."""


def view_state() -> dict[str, Any]:
    """Return columns and order of the table of runs, as MLflow stores a shared view."""
    return {
        "searchFilter": "",
        "orderByKey": f"metrics.`{HEADLINE}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
    }


def runs_address(client: "MlflowClient", experiment_id: str, server: str) -> str:
    """Return the address of the table of runs, whose view is stored in the experiment's tags."""
    tags = client.get_experiment(experiment_id).tags
    for tag, value in ((KIND_TAG, KIND), (VIEW_TAG, json.dumps(view_state()))):
        if tags.get(tag) != value:
            client.set_experiment_tag(experiment_id, tag, value)
    return (
        f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&viewStateShareKey={VIEW}"
    )


def find_address(root: Path, server: str) -> str:
    """Return the address of the table of runs of a project.

    Args:
        root: the project's root.
        server: address of the server that shows the project's store, where that is a database.

    Raises:
        FileNotFoundError: the project has no store.
        ConnectionError: the tracking server does not answer.
        OSError: the store cannot be used.
    """
    uri = tracking_uri(root)
    if is_own_store(uri) and not is_stored(sqlite_path(uri)):
        raise FileNotFoundError(
            f"there is no MLflow store at {uri}: `dvc exp run` makes it and records its run there; "
            f"run this in the project's folder, or set MLFLOW_TRACKING_URI"
        )
    quieten_mlflow()
    with whole_call(uri), locked_file(uri):
        client = connect(uri)
        files = None if is_server(uri) else (root.absolute() / "mlruns").as_uri()
        experiment_id = experiment_id_of(client, experiment_name(), files)
        shown = shown_address(uri) if is_server(uri) else server
        return runs_address(client, experiment_id, shown.rstrip("/"))


def shown_address(uri: str) -> str:
    """Return the address of a tracking server as people open it, without user and password."""
    return without_password(uri).replace("//***@", "//").rstrip("/")


def run_address(run: tuple[str, str], server: str) -> str:
    """Return the address of a run, beside the pages for training and not those for language models.

    Args:
        run: ids of its experiment and of the run.
        server: address of the server.
    """
    return f"{server}/#/experiments/{run[0]}/runs/{run[1]}?workflowType=machine_learning"
