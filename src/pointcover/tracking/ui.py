"""Start MLflow's pages on this machine, and find the address of the table of runs.

MLflow opens an experiment on its page for language models, and its table without metrics. So the
experiment is tagged with its kind, and with a shared view: columns and order of the table, as
MLflow's button "Share" stores them. The address names that view.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pointcover.runtime.signals import end_with_parent
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

HOST: Final = "127.0.0.1"
PORTS: Final = 20
"""Number of ports that are tried, from the wanted one on."""

START_S: Final = 120
"""Most seconds until the server answers."""

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
        shown = without_password(uri).replace("//***@", "//") if is_server(uri) else server
        return runs_address(client, experiment_id, shown.rstrip("/"))


def find_port(wanted: int) -> int:
    """Return the first free port of this machine, from the wanted one on.

    Raises:
        OSError: none of them is free.
    """
    for port in range(wanted, wanted + PORTS):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HOST, port))
            return port
    raise OSError(
        f"ports {wanted} to {wanted + PORTS - 1} are in use: end a server, or choose another --port"
    )


@contextlib.contextmanager
def started_server(root: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start MLflow's server for the project's store; it ends with the block.

    Raises:
        OSError: it did not answer, with its last lines.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", tracking_uri(root)]
    log = root / ".pointcover" / "mlflow_server.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", _END_WITH_PARENT, str(os.getpid()), *command],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(server, port, log)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


_END_WITH_PARENT: Final = f"""
import os, signal, sys
from {end_with_parent.__module__} import end_with_parent
end_with_parent(signal.SIGTERM, int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


def _wait_for(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5),
        ):
            return
        time.sleep(0.2)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it wrote nothing"
    raise OSError(f"the MLflow server did not start ({reason}): see {log}")
