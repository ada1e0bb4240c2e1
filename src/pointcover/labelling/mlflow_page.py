"""MLflow's page, started on this machine when somebody wants to see a run."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Final

from pointcover.runtime.python_path import with_this_python
from pointcover.runtime.signals import end_with_parent
from pointcover.tracking.store import is_server, tracking_uri

LOOPBACK: Final = "127.0.0.1"
LONGEST_S: Final = 90.0
STEP_S: Final = 0.3


class MlflowPage:
    """Starts `mlflow ui` once, and says where it is."""

    def __init__(self, root: Path, start: Callable[[str, int], list[str]] | None = None) -> None:
        """Prepare.

        Args:
            root: of the pipeline, whose store is meant.
            start: makes the command from the store's URI and a port; by default of `mlflow ui`.
        """
        self._root, self._command = root, start or _mlflow_ui
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def address_of(self, run: tuple[str, str]) -> str:
        """Return the address of a run, once MLflow's page answers.

        Args:
            run: ids of its experiment and of the run.

        Raises:
            OSError: MLflow's page does not start.
            ValueError: the project's setting of the store is wrong.
        """
        uri = tracking_uri(self._root)
        base = uri.rstrip("/") if is_server(uri) else self._start(uri)
        return f"{base}/#/experiments/{run[0]}/runs/{run[1]}"

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)

    def _start(self, uri: str) -> str:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                with socket.socket() as free:
                    free.bind((LOOPBACK, 0))
                    self._port = free.getsockname()[1]
                # The process ends with the thread that starts it, which therefore waits.
                started = Thread(target=self._run, args=(uri,), name="mlflow ui", daemon=True)
                self._process = None
                started.start()
            base = f"http://{LOOPBACK}:{self._port}"
            end = time.monotonic() + LONGEST_S
            while time.monotonic() < end:
                if self._process is not None and self._process.poll() is not None:
                    raise OSError(f"mlflow ui ended with code {self._process.returncode}")
                try:
                    with urllib.request.urlopen(f"{base}/health", timeout=2):
                        return base
                except (urllib.error.URLError, OSError):
                    time.sleep(STEP_S)
            raise OSError(f"mlflow ui did not answer within {LONGEST_S:.0f} s: start it by hand")

    def _run(self, uri: str) -> None:
        with subprocess.Popen(
            self._command(uri, self._port),
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=with_this_python(),
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        ) as self._process:
            self._process.wait()


def _mlflow_ui(uri: str, port: int) -> list[str]:
    store = ["--backend-store-uri", uri, "--host", LOOPBACK, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", *store]
