"""MLflow's server is started once, says why it does not start, and ends."""

import socket
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import mlflow.cli as mlflow_cli
import pytest

from pointcover.tracking import mlflow_server
from pointcover.tracking.mlflow_server import MlflowServer

HEALTHY = """
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *text): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""
"""What MLflow's server answers, without its start of many seconds."""


@pytest.fixture(autouse=True)
def _own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_it_is_started_once_and_ended_and_started_again(tmp_path):
    started = []

    def command(port):
        started.append(port)
        return [sys.executable, "-c", HEALTHY, str(port)]

    server = MlflowServer(tmp_path, command=command)
    address = server.start()
    assert server.start() == address
    assert len(started) == 1
    server.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=2)
    again = server.start()
    assert len(started) == 2
    urllib.request.urlopen(again, timeout=2).close()
    server.close()


def test_the_uri_of_the_store_is_in_no_list_of_processes(tmp_path, monkeypatch):
    uri = "postgresql://mlflow:secret@localhost/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert not any("secret" in part for part in mlflow_server.mlflow_command(5000))
    saying = "import os; raise SystemExit('found ' + os.environ['MLFLOW_BACKEND_STORE_URI'])"
    server = MlflowServer(tmp_path, command=lambda port: [sys.executable, "-c", saying])
    with pytest.raises(OSError, match=f"found {uri}"):
        server.start()
    (option,) = (one for one in mlflow_cli.server.params if one.name == "backend_store_uri")
    assert option.envvar == mlflow_server.URI_VARIABLE


def test_one_that_ends_says_its_last_line(tmp_path):
    failing = [sys.executable, "-c", "raise SystemExit('no such store')"]
    server = MlflowServer(tmp_path, command=lambda port: failing)
    with pytest.raises(OSError, match=r"did not start \(no such store\): see .*mlflow_server.log"):
        server.start()


@pytest.mark.slow
def test_one_that_does_not_answer_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_server, "START_S", 1)
    silent = [sys.executable, "-c", "import time; time.sleep(60)"]
    server = MlflowServer(tmp_path, command=lambda port: silent)
    with pytest.raises(OSError, match=r"did not start \(it wrote nothing\)"):
        server.start()
    server.wait()


def test_one_that_does_not_answer_is_closed_at_once(tmp_path):
    silent = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    server = MlflowServer(tmp_path, command=lambda port: silent)
    log = tmp_path / ".pointcover" / "mlflow_server.log"
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(server.start)
        deadline = time.monotonic() + 20
        while not log.is_file() or "begun" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        begin = time.monotonic()
        server.close()
        assert time.monotonic() - begin < 3
        with pytest.raises(OSError, match=r"did not start \(begun\)"):
            started.result(5)


def test_a_port_that_is_in_use_is_passed_over_and_many_are_an_error(monkeypatch):
    assert mlflow_server.find_port(0) > 1023
    with socket.socket() as used:
        used.bind((mlflow_server.HOST, 0))
        used.listen()
        port = used.getsockname()[1]
        monkeypatch.setattr(mlflow_server, "PORTS", 1)
        with pytest.raises(OSError, match=f"ports {port} to {port} are in use"):
            mlflow_server.find_port(port)
