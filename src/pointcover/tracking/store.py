"""The store that MLflow keeps runs in: where it is, how it is opened, what its errors mean.

One store a project, found from the project's root, never from the working directory, so that stages
which DVC runs in copies of the tree (``--temp``, ``--queue``) write to the same one. It is SQLite
beside ``dvc.yaml`` unless MLFLOW_TRACKING_URI says otherwise; its files lie in ``mlruns``.
"""

import contextlib
import glob
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import filelock

from pointcover.runtime.signals import uninterrupted

if TYPE_CHECKING:  # mlflow takes a second to import: only those who open a run pay for it
    from mlflow import MlflowClient

_LOCK_TIMEOUT_S: Final = 120
_MLFLOW_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_DATABASES: Final = ("postgresql", "mysql", "mssql")


def project_root() -> Path:
    """Find the folder whose store and ``dvc.yaml`` count, also from inside a copy made by DVC."""
    if dvc_root := os.environ.get("DVC_ROOT"):
        return Path(dvc_root).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / name).exists() for name in ("dvc.yaml", ".dvc", ".git")):
            return folder
    return here


def tracking_uri(root: Path) -> str:
    """Return where runs are recorded.

    Args:
        root: the project's root; a relative SQLite path counts from here.

    Returns:
        MLFLOW_TRACKING_URI where that is set, else ``sqlite:///<root>/mlflow.db``.

    Raises:
        ValueError: MLFLOW_TRACKING_URI is a folder (MLflow gave up file stores), lives in memory
            only, or is of a kind that MLflow does not know.
    """
    default = f"sqlite:///{root.absolute() / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or default
    kind = uri.partition(":")[0].partition("+")[0] if ":" in uri else ""
    if kind in ("http", "https", *_DATABASES):
        return uri
    prefix, _, path = uri.partition(":///")
    if kind == "sqlite" and path and not path.startswith((":memory:", "?")):
        return f"{prefix}:///{root.absolute() / path}"  # an absolute path stays as it is
    raise ValueError(
        f"MLFLOW_TRACKING_URI is {without_password(uri)!r}, which is no MLflow server or database "
        f"file: set it to http://host:5000 or sqlite:///mlflow.db, or unset it to use {default}"
    )


@contextlib.contextmanager
def locked_file(uri: str) -> Iterator[None]:
    """Lock a store that is a SQLite file, and make it if there is none; else do nothing."""
    if not uri.startswith("sqlite"):
        yield
        return
    path = sqlite_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S):
            if not path.exists() or path.stat().st_size == 0:
                _make_sqlite_store(path)
            yield
    except filelock.Timeout:
        raise TimeoutError(
            f"{path}.lock has been locked for {_LOCK_TIMEOUT_S} s: a process that opens the MLflow "
            f"store hangs; end it, then run this again"
        ) from None


def sqlite_path(uri: str) -> Path:
    """Return the file of a ``sqlite:///`` URI."""
    return Path(uri.partition(":///")[2].partition("?")[0])


def _make_sqlite_store(path: Path) -> None:
    """Make an empty store aside, then rename it.

    MLflow migrates a new database through dozens of versions: two processes at once, or one that is
    killed half-way, would leave a file that nobody can open.
    """
    from mlflow import MlflowClient

    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial*"):
        left.unlink()
    # A fresh name each time, since mlflow keeps connections by URI as long as the process lives.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
    partial.replace(path)


def connect(uri: str) -> "MlflowClient":
    """Open a store, or fail within seconds where mlflow would try again for minutes."""
    import sqlalchemy
    from mlflow import MlflowClient

    if is_server(uri):
        client = MlflowClient(uri)
        with environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
            client.search_experiments(max_results=1)
        return client
    engine = sqlalchemy.create_engine(uri)
    sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()
    return MlflowClient(uri)


def experiment_id_of(client: "MlflowClient", name: str, files: str | None) -> str:
    """Find the experiment or make it; whoever makes it decides for good where its files go."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=files)
        except MlflowException as error:  # on a server somebody else may have been quicker
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error from None
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"MLflow experiment {name!r} was deleted: bring it back with "
            f"`mlflow experiments restore -x {found.experiment_id}`"
        )
    place = urlsplit(found.artifact_location)
    if place.scheme == "file" and not (folder := Path(url2pathname(place.path)).parent).is_dir():
        raise FileNotFoundError(
            f"MLflow experiment {name!r} keeps its files in {folder}, which is gone: if the "
            f"project was moved, put a link there, or move mlflow.db away to begin a new store"
        )
    return found.experiment_id


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables that are not set yet, for a while."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def is_server(uri: str) -> bool:
    """Return whether a store is a server's, which keeps its files itself, and not a database's."""
    return uri.startswith("http")


def quieten_mlflow() -> None:
    """Have MLflow report to nobody, before it is imported."""
    for variable, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(variable, value)


@contextlib.contextmanager
def whole_call(uri: str) -> Iterator[None]:
    """Turn MLflow's and SQLAlchemy's errors into a line that says what to do.

    A signal waits for the end of a call to a database: cut short, it would leave a lock behind for
    which the end of the run could not be written. A server has no such lock, and may be slow.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with contextlib.nullcontext() if is_server(uri) else uninterrupted():
            yield
    except (MlflowException, SQLAlchemyError) as error:
        reason = without_password(str(error).partition("\n")[0])[:300]
        where = without_password(uri)
        if getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
            raise ValueError(f"MLflow at {where} refused this: {reason}") from None
        if is_server(uri):
            raise ConnectionError(
                f"no MLflow server answers at {where} ({reason}): start it, correct "
                f"MLFLOW_TRACKING_URI, or unset that to record in the project's own mlflow.db"
            ) from None
        raise OSError(
            f"the MLflow store {where} cannot be used ({reason}): correct MLFLOW_TRACKING_URI or "
            f"unset it; a damaged file can be moved away, a new one is made then"
        ) from None


def without_password(text: str) -> str:
    """Hide the user and password of URIs in a text."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)
