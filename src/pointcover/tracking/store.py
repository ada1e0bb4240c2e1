"""Find, open and lock the project's MLflow store, and explain its errors.

There is one store for a project. It is found from the project's root, not from the working
directory, so that stages which DVC runs in copies of the tree (``--temp``, ``--queue``) write to
it, too. It is a SQLite file beside ``dvc.yaml``, unless MLFLOW_TRACKING_URI is set; artifacts lie
in ``mlruns``.
"""

import contextlib
import errno
import glob
import logging
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import filelock

from pointcover.runtime.errors import describe_disk
from pointcover.runtime.signals import time_limit, uninterrupted

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    from mlflow import MlflowClient

EXPERIMENT: Final = "pointcover"
"""Name of the MLflow experiment, unless MLFLOW_EXPERIMENT_NAME is set."""

KIND_TAG: Final = "mlflow.experimentKind"
KIND: Final = "custom_model_development"
"""Without this tag MLflow opens an experiment on its page for language models."""

_LOCK_TIMEOUT_S: Final = 120
CONNECT_S: Final = 30
"""Most seconds for the first answer of a server, which may come a byte at a time."""
REQUEST_S: Final = 10
"""Most seconds between two bytes of the first answer; it is asked for twice."""
RETRIES: Final = "1"
"""How often MLflow repeats a request; by itself it does so for minutes."""
_MLFLOW_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Files go through the server, so that only its address must be reached, and not that of S3.
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}

LOCKED: Final = ("database is locked", "database table is locked")
"""SQLite's messages when another process has locked the store."""


class StoreLockedError(OSError):
    """The store cannot be written now, since another process has locked it."""


class StoreUnreachableError(ConnectionError):
    """The server, its database or its files do not answer now; they may be back later."""


_DATABASES: Final = ("postgresql", "mysql", "mssql")


def project_root() -> Path:
    """Return the project's folder: that of the original, if this is a copy made by DVC."""
    if dvc_root := os.environ.get("DVC_ROOT"):
        return Path(dvc_root).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / name).exists() for name in ("dvc.yaml", ".dvc", ".git")):
            return folder
    return here


def tracking_uri(root: Path) -> str:
    """Return the URI of the MLflow store.

    Args:
        root: the project's root; relative SQLite paths are relative to it.

    Returns:
        MLFLOW_TRACKING_URI if it is set, otherwise ``sqlite:///<root>/mlflow.db``.

    Raises:
        ValueError: MLFLOW_TRACKING_URI is a folder (MLflow no longer supports file stores), an
            in-memory database, or of a kind that MLflow does not know.
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
        f"MLFLOW_TRACKING_URI is {without_password(uri)!r}, wanted an MLflow server or a database: "
        f"set it to http://host:5000 or sqlite:///mlflow.db, or unset it to use {default}"
    )


def experiment_name() -> str:
    """Return the name of the MLflow experiment in which runs are recorded."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


@contextlib.contextmanager
def locked_file(uri: str) -> Iterator[None]:
    """Lock a store that is a SQLite file, and make it if it does not exist."""
    if not uri.startswith("sqlite"):
        yield
        return
    path = sqlite_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S):
            if not is_stored(path):
                _make_sqlite_store(path)
            yield
    except filelock.Timeout:
        raise TimeoutError(
            f"{path}.lock has been locked for {_LOCK_TIMEOUT_S} s: another process that opens the "
            f"MLflow store hangs. End it, then run this again"
        ) from None


def sqlite_path(uri: str) -> Path:
    """Return the file of a ``sqlite:///`` URI."""
    return Path(uri.partition(":///")[2].partition("?")[0])


def is_stored(path: Path) -> bool:
    """Return whether a store is in a file; an empty one is not made a store by reading it."""
    return path.is_file() and path.stat().st_size > 0


def _make_sqlite_store(path: Path) -> None:
    """Make an empty store under a temporary name, then rename it.

    MLflow migrates a new database through dozens of versions. If two processes did so at once, or
    one was killed, they would leave a damaged file.
    """
    from mlflow import MlflowClient

    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial*"):
        left.unlink()
    # A new name each time, since mlflow caches connections by URI in a process.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
    partial.replace(path)


def connect(uri: str) -> "MlflowClient":
    """Open a store, or fail within seconds; mlflow by itself would retry for minutes."""
    import sqlalchemy
    from mlflow import MlflowClient

    if is_server(uri):
        client = MlflowClient(uri)
        limit = time_limit(CONNECT_S, f"it has not answered within {CONNECT_S} s")
        times = {"MAX_RETRIES": "1", "TIMEOUT": str(REQUEST_S)}
        with limit, environment(**{f"MLFLOW_HTTP_REQUEST_{key}": times[key] for key in times}):
            client.search_experiments(max_results=1)
        return client
    engine = sqlalchemy.create_engine(uri)
    sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()
    return MlflowClient(uri)


def experiment_id_of(client: "MlflowClient", name: str, files: str | None) -> str:
    """Return the id of an experiment; make it if it does not exist.

    Args:
        client: of the store.
        name: of the experiment.
        files: URI of its artifacts, used only if it is made; None leaves this to the server.

    Raises:
        ValueError: the experiment was deleted.
        FileNotFoundError: its artifacts' folder is gone.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=files, tags={KIND_TAG: KIND})
        except MlflowException as error:  # another client of the server may have made it
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error from None
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"MLflow experiment {name!r} was deleted: restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`"
        )
    place = urlsplit(found.artifact_location)
    if place.scheme == "file" and not (folder := Path(url2pathname(place.path)).parent).is_dir():
        raise FileNotFoundError(
            f"MLflow experiment {name!r} has its artifacts in {folder}, which does not exist: if "
            f"the project was moved, make a link there, or rename mlflow.db to start a new store"
        )
    return found.experiment_id


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables that are not set yet, within the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def is_server(uri: str) -> bool:
    """Return whether a store is a server, which stores artifacts itself, and not a database."""
    return uri.startswith("http")


def is_own_store(uri: str) -> bool:
    """Return whether a store is a file, which processes of this machine alone use."""
    return uri.startswith("sqlite")


def quieten_mlflow() -> None:
    """Disable MLflow's telemetry and info messages; call this before MLflow is imported."""
    for variable, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(variable, value)
    # It prints SQL with a traceback of errors that `whole_call` turns into one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # It tells of each repeated request.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@contextlib.contextmanager
def whole_call(uri: str) -> Iterator[None]:
    """Turn errors of MLflow and SQLAlchemy into a line that says what to do.

    Signals are delayed until a call to a database ends. An interrupted call could leave a lock,
    which would prevent recording the end of the run. A server has no such lock, and may be slow.

    Raises:
        ValueError: MLflow rejected a value.
        StoreUnreachableError: the server, or the database or store of files, does not answer.
        StoreLockedError: another process has locked the store.
        PermissionError: the server wants a login, or does not allow this.
        OSError: the store cannot be used.
    """
    from mlflow.exceptions import HTTP_STATUS_TO_ERROR_CODE, MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    settings = environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES=RETRIES)
    try:
        with settings if is_server(uri) else uninterrupted():
            yield
    except (FileNotFoundError, PermissionError) as error:
        if not is_server(uri) or error.filename is None:
            raise
        raise OSError(
            f"a file of the run cannot be written to {error.filename} ({error.strerror}), where "
            f"the MLflow server at {without_password(uri)} says that it belongs: that folder is on "
            f"the server's machine. Start the server with `--serve-artifacts` and an "
            f"`--artifacts-destination`, or give it a store that this machine can write, such as "
            f"s3://"
        ) from None
    except (MlflowException, SQLAlchemyError) as error:
        code = getattr(error, "error_code", None)
        if code == "INVALID_PARAMETER_VALUE":
            where, reason = without_password(uri), _line_of(str(error))
            raise ValueError(f"MLflow at {where} rejected this: {reason}") from None
        if is_server(uri):
            raise _server_error(uri, str(code), str(error)) from None
        raise _database_error(uri, error, str(error)) from None
    except Exception as error:
        # Of the libraries that send files, which are not installed everywhere.
        library = type(error).__module__.partition(".")[0]
        if library == "requests":
            response = getattr(error, "response", None)
            status = 500 if response is None else response.status_code
            code = HTTP_STATUS_TO_ERROR_CODE.get(status, "") if status < 500 else "INTERNAL_ERROR"
            raise _server_error(uri, code, str(error)) from None
        if library in ("botocore", "boto3", "s3transfer"):
            raise _s3_error(uri, error) from None
        raise


_LOGIN_CODES: Final = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_AWAY_CODES: Final = (
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
)
_SHORT_REASONS: Final = {
    "Connection refused": "connection refused",
    "Failed to resolve": "its name is not known here",
    "Name or service not known": "its name is not known here",
    "Network is unreachable": "no network",
    "No route to host": "no route to it",
    "timed out": "no answer in time",
    "Remote end closed": "it closed the connection: it was ended, or its S3 is away",
    "Connection reset": "it closed the connection: it was ended, or its S3 is away",
    "You are not authenticated": "it wants a login",
    "Permission denied": "permission denied",
    "too many 500": "error 500: its log names the cause, such as a database or S3 that is away",
    "too many 502": "error 502 of the proxy before it",
    "too many 503": "error 503: it starts, is overloaded, or its database is away",
    "too many 504": "error 504 of the proxy before it",
    "too many 429": "error 429: too many requests",
}
"""What MLflow's messages of many lines mean, by a part of their text."""


def _server_error(uri: str, code: str, reason: str) -> OSError:
    """Return the error of a server: it does not answer, wants a login, or refuses."""
    where = without_password(uri)
    if "Invalid Host header" in reason:
        return PermissionError(
            f"the MLflow server at {where} does not accept that name of its host: start it with "
            f"`--allowed-hosts` and that name, or set MLFLOW_TRACKING_URI to a name it accepts"
        )
    if code in _LOGIN_CODES:
        return PermissionError(
            f"the MLflow server at {where} does not allow this ({_short(reason)}): set "
            f"MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and ask the server's "
            f"administrator for the permission EDIT on the experiment and the registered model"
        )
    if code in _AWAY_CODES:
        return _unreachable(uri, reason)
    return OSError(f"the MLflow server at {where} refused this ({_short(reason)}): see its log")


def _unreachable(uri: str, reason: str) -> StoreUnreachableError:
    return StoreUnreachableError(
        f"no MLflow server answers at {without_password(uri)} ({_short(reason)}): start it, "
        f"correct MLFLOW_TRACKING_URI, or unset that to record in the project's own mlflow.db"
    )


def _s3_error(uri: str, error: Exception) -> OSError:
    """Return the error of files that this machine writes to S3 itself."""
    text = (
        f"the files of a run cannot be stored in S3 ({_short(str(error))}), where the MLflow "
        f"server at {without_password(uri)} says that they belong: set MLFLOW_S3_ENDPOINT_URL, "
        f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here, or start the server with "
        f"`--artifacts-destination s3://…` alone, which stores files itself"
    )
    is_away = "Connection" in type(error).__name__ or "connect to the endpoint" in str(error)
    return StoreUnreachableError(text) if is_away else OSError(text)


def _short(reason: str) -> str:
    """Return what a message of MLflow or its libraries means, in a few words if they are known."""
    known = (short for part, short in _SHORT_REASONS.items() if part in reason)
    return next(known, _line_of(reason))


def _line_of(text: str) -> str:
    return without_password(text.partition("\n")[0])[:300]


def _database_error(uri: str, error: BaseException, reason: str) -> OSError:
    """Return the error of a database, with the disk or process that is the cause where known."""
    from sqlalchemy.exc import OperationalError

    where, found = without_password(uri), _find_sqlite_error(error)
    if found is not None:
        reason = str(found)
        path = sqlite_path(uri)
        if "is full" in reason:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if "disk I/O" in reason:
            reason += describe_disk(path)
        if reason in LOCKED:
            return StoreLockedError(
                f"the MLflow store {path} is locked by another process that writes to it: wait "
                f"until it ends, or end it (`fuser {path}` names it), and try again"
            )
        if not path.exists():
            return OSError(
                f"the MLflow store {path} was removed or renamed while a run was recorded there: "
                f"put it back, or run this again, which makes a new one"
            )
    elif isinstance(_original(error), OperationalError):
        return StoreUnreachableError(
            f"no database answers at {where} ({_short(reason)}): start it, or correct "
            f"MLFLOW_TRACKING_URI"
        )
    return OSError(
        f"the MLflow store {where} cannot be used ({_line_of(reason)}): correct "
        f"MLFLOW_TRACKING_URI or unset it; if the file is damaged, rename it, and a new one is made"
    )


def _original(error: BaseException) -> BaseException:
    """Return the error of SQLAlchemy from which MLflow made its own."""
    return error.__cause__ or error


def _find_sqlite_error(error: BaseException | None) -> sqlite3.Error | None:
    """Return the error of SQLite from which MLflow and SQLAlchemy made theirs."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            return error
        original = getattr(error, "orig", None)
        error = original if isinstance(original, sqlite3.Error) else error.__cause__
    return None


def without_password(text: str) -> str:
    """Return a text with user and password of URIs hidden."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)
