"""`pointcover ui` opens the table of runs, with columns, on this machine alone."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.config.params import load_params
from pointcover.config.run_summary import describe
from pointcover.tracking import ui
from pointcover.tracking.metric_names import cost_of
from pointcover.tracking.runs import start_run
from pointcover.tracking.store import tracking_uri
from tests.imagery import ROOT

SRC = Path(ui.__file__).parents[2]


def tags_of(root):
    client = MlflowClient(tracking_uri(root))
    return client.get_experiment_by_name("pointcover").tags


def test_the_address_opens_a_view_that_is_stored_with_the_experiment(root):
    with start_run(root, "a"):
        pass
    kind = {"mlflow.experimentKind": "custom_model_development"}
    assert tags_of(root).items() >= kind.items(), "MLflow's own command opens the right page, too"
    address = ui.find_address(root, "http://127.0.0.1:5000")
    assert re.fullmatch(
        r"http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?workflowType=machine_learning"
        r"&viewStateShareKey=pointcover",
        address,
    )
    view = json.loads(tags_of(root)["mlflow.sharedViewState.pointcover"])
    assert view["selectedColumns"][0] == view["orderByKey"] == "metrics.`test/miou`"
    assert view["orderByAsc"] is False


def test_columns_are_metrics_and_params_that_runs_have():
    labels = cost_of(dict.fromkeys(("clicks", "propagated_pixels", "labelled_fraction", "error")))
    named = {f"metrics.`{name}`" for name in ("test/miou", "test/accuracy", *labels)}
    named |= {f"params.`{name}`" for name in describe(load_params(ROOT / "params.yaml"))} | {
        "tags.`study`"
    }
    assert set(ui.COLUMNS) <= named


def test_without_a_store_nothing_is_started_or_made(bare_root, monkeypatch):
    monkeypatch.chdir(bare_root)
    done = CliRunner().invoke(app, ["ui"])
    assert done.exit_code == 1
    assert "there is no MLflow store at" in done.stderr
    assert [path.name for path in bare_root.iterdir()] == ["dvc.yaml"]


def test_a_run_has_an_address_and_a_server_is_shown_without_its_password():
    server = ui.shown_address("https://anna:secret@mlflow.example:5000/")
    assert ui.run_address(("7", "abc"), server) == (
        "https://mlflow.example:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    )


def answers(server):
    try:
        with urllib.request.urlopen(f"{server}/health", timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_command_serves_the_runs_until_it_is_ended(root, number):
    with start_run(root, "seen"):
        pass
    done = subprocess.Popen(
        [sys.executable, "-m", "pointcover", "ui", "--port", "5400"],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    limit = threading.Timer(150, done.kill)
    limit.start()
    try:
        address = done.stdout.readline().strip()
        server = address.partition("/#")[0]
        with urllib.request.urlopen(f"{server}/health", timeout=20) as answer:
            assert answer.read() == b"OK"
        done.send_signal(number)
        done.wait(timeout=30)
        end = time.monotonic() + 30
        while answers(server) and time.monotonic() < end:
            time.sleep(0.1)
        assert not answers(server)
    finally:
        limit.cancel()
        done.kill()
        done.stdout.close()
