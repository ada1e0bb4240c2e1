"""PostgreSQL, S3 and an MLflow server on this machine, as a team has them."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

WANTED = "POINTCOVER_SERVER_TESTS"
"""Environment variable with which a missing PostgreSQL is a failure."""

KEYS = {
    "AWS_ACCESS_KEY_ID": "team",
    "AWS_SECRET_ACCESS_KEY": "team-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
PASSWORD = "database-secret"


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's programs, or skip the test; with WANTED, fail."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found or (path := shutil.which("initdb")) is None:
        initdb = found[-1] if found else None
    else:
        initdb = Path(path).resolve()
    if initdb is not None:
        return initdb.parent
    reason = "PostgreSQL is not installed (apt-get install postgresql)"
    if os.environ.get(WANTED):
        pytest.fail(f"{WANTED} is set, but {reason}")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def _user() -> str | None:
    """Return the user as whom PostgreSQL runs, which refuses to be root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def running(command: Sequence[str], log: Path, **options: object) -> Iterator[subprocess.Popen]:
    """Run a server in a process group of its own, until the block ends."""
    with log.open("ab") as out:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for_port(server: subprocess.Popen, port: int, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"no answer: {log.read_text(errors='replace')[-3000:]}")


@contextmanager
def postgres() -> Iterator[str]:
    """Run a new PostgreSQL; the URI of its database is given."""
    programs, user, port = find_postgres(), _user(), free_port()
    with tempfile.TemporaryDirectory(prefix="pointcover-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        (place / "password").write_text(PASSWORD)
        if user is not None:
            for path in (place, place / "password"):
                shutil.chown(path, user)
        data = place / "data"
        make = [str(programs / "initdb"), "-D", str(data), "-U", "mlflow", "-A", "scram-sha-256"]
        make += ["--no-sync", "-E", "UTF8", "--locale=C", f"--pwfile={place / 'password'}"]
        made = subprocess.run(
            make,
            check=False,
            capture_output=True,
            text=True,
            user=user,
            cwd=place,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        log = place / "log"
        with running(command, log, user=user, cwd=place) as server:
            wait_for_port(server, port, log)
            yield f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{port}/postgres"


@contextmanager
def s3_server(folder: Path, buckets: Sequence[str]) -> Iterator[str]:
    """Run an S3 server with buckets; its address is given."""
    import boto3

    port, log = free_port(), folder / "s3.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, log, env=os.environ | KEYS) as server:
        wait_for_port(server, port, log)
        address = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        client.close()
        yield address


@dataclass
class MLflowServer:
    """`mlflow server` on a database, with its files in S3; it can be killed and started again."""

    folder: Path
    database: str
    s3: str
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.database, "--artifacts-destination", "s3://mlflow"]
        environment = os.environ | KEYS | {"MLFLOW_S3_ENDPOINT_URL": self.s3}
        environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        environment.pop("MLFLOW_TRACKING_URI", None)
        log = self.folder / "mlflow.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + 300
        while True:
            said = log.read_text(errors="replace")[-3000:]
            assert self._process.poll() is None, said
            assert time.monotonic() < end, said
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
