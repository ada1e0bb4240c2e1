"""Take the screenshot of MLflow's compare view for the docs.

    python tools/screenshot.py STUDY [PNG]

Run a study first (`pointcover study …`). STUDY is its name in MLflow, such as c_linking-small. The
script needs Chromium, on PATH or at the path in the variable CHROMIUM.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from chromium import QUIET, find_browser
from mlflow import MlflowClient

from pointcover.tracking.runs import STUDY_TAG
from pointcover.tracking.store import experiment_name, tracking_uri

OPTIONS = (
    *QUIET,
    "--hide-scrollbars",
    "--window-size=1500,1250",
    "--virtual-time-budget=20000",
)

TIMEOUT_S = 180


def compare_page(study: str) -> str:
    """Return the path of the page that compares a study's runs."""
    client = MlflowClient(tracking_uri(Path.cwd()))
    experiment = client.get_experiment_by_name(experiment_name())
    if experiment is None:
        sys.exit(f"no experiment {experiment_name()!r} in MLflow here: run a study first")
    found = client.search_runs(
        [experiment.experiment_id], f"tags.{STUDY_TAG} = '{study}' and metrics.`test/miou` > 0"
    )
    if not found:
        sys.exit(f"MLflow has no runs of a study {study!r}: run `pointcover study` first")
    runs = json.dumps([run.info.run_id for run in found])
    query = urllib.parse.urlencode({"runs": runs, "experiments": f'["{experiment.experiment_id}"]'})
    return f"/#/compare-runs?{query}"


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5)
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    sys.exit(f"{url} does not answer")


def main() -> None:
    """Serve the store, open the page and save a screenshot."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images/mlflow.png")
    browser = find_browser()
    if browser is None:
        sys.exit("no Chromium on PATH: install it, or set CHROMIUM to its path")
    page = compare_page(sys.argv[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "ui",
            "--backend-store-uri",
            tracking_uri(Path.cwd()),
            "--port",
            str(port),
            "--workers",
            "1",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}")
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(
                [
                    browser,
                    *OPTIONS,
                    f"--user-data-dir={profile}",
                    f"--screenshot={out}",
                    f"http://127.0.0.1:{port}{page}",
                ],
                check=True,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
            )
    except subprocess.TimeoutExpired:
        sys.exit(f"Chromium took no screenshot in {TIMEOUT_S} s: try again on an idle machine")
    finally:
        os.killpg(server.pid, 15)
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
