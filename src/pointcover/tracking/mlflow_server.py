"""MLflow's server on this machine: `pointcover ui` and the page for labelling start it."""

import contextlib
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

from pointcover.runtime.guarded import GuardedProcess
from pointcover.tracking.store import tracking_uri

HOST: Final = "127.0.0.1"
PORTS: Final = 20
"""Number of ports that are tried, from the wanted one on."""

START_S: Final = 120
"""Most seconds until the server answers."""

STEP_S: Final = 0.2

URI_VARIABLE: Final = "MLFLOW_BACKEND_STORE_URI"
"""The server reads the store's URI from it. It may have a password, so it is no argument."""

Command = Callable[[int], list[str]]
"""From a port: the program to run, with its arguments."""


def find_port(wanted: int) -> int:
    """Return the first free port of this machine, from the wanted one on; any one if that is 0.

    Raises:
        OSError: none of them is free.
    """
    for port in range(wanted, wanted + PORTS):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HOST, port))
            found: int = tried.getsockname()[1]
            return found
    raise OSError(
        f"ports {wanted} to {wanted + PORTS - 1} are in use: end a server, or choose another --port"
    )


def mlflow_command(port: int) -> list[str]:
    """Return the command of MLflow's server, which finds its store by URI_VARIABLE."""
    place = ["--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *place]


class MlflowServer:
    """Shows the store of a project; it is started when it is first needed.

    It ends when it is closed, and with this process, also if that is killed.
    """

    def __init__(self, root: Path, port: int = 0, command: Command = mlflow_command) -> None:
        """Prepare.

        Args:
            root: the project's root.
            port: a free one; 0 for any.
            command: of the server.
        """
        self._root, self._wanted, self._command = root, port, command
        self._lock = Lock()
        self._process: GuardedProcess | None = None
        self._address = ""

    def start(self) -> str:
        """Start it, unless it runs; return its address once it answers.

        Raises:
            OSError: it did not answer, with its last line.
            ValueError: the project's setting of the store is wrong.
        """
        log = self._root / ".pointcover" / "mlflow_server.log"
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                port = find_port(0) if self._wanted == 0 else self._wanted
                of_store = {URI_VARIABLE: tracking_uri(self._root)}
                log.parent.mkdir(exist_ok=True)
                self._address = f"http://{HOST}:{port}"
                self._process = GuardedProcess(self._command(port), self._root, log, of_store)
            process, address = self._process, self._address
        try:
            _wait_for(process, address, log)  # without the lock, so that `close` can end it
        except OSError:
            with self._lock:
                if self._process is process:
                    self._end()
            raise
        return address

    def wait(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        """End it, also while another thread waits for its answer in `start`, which then fails."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


def _wait_for(server: GuardedProcess, address: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{address}/health", timeout=5),
        ):
            return
        time.sleep(STEP_S)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it wrote nothing"
    raise OSError(f"the MLflow server did not start ({reason}): see {log}")
