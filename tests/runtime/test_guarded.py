"""A guarded program ends with the process that started it, and with its own guard."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pointcover.runtime import guarded
from pointcover.runtime.guarded import GuardedProcess
from tests.imagery import ROOT
from tests.processes import is_alive, wait_for

PROGRAM = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import time; time.sleep(100)"
child = subprocess.Popen([sys.executable, "-c", code])
print(os.getppid(), os.getpid(), child.pid, flush=True)
time.sleep(100)
"""
"""A program with a child, as a server with a worker; prints the ids of guard, program and child."""

STARTER = """
import os, sys, threading
from pathlib import Path
from pointcover.runtime.guarded import GuardedProcess
log = Path(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2]]
# In a thread that ends: the program does not end with it.
thread = threading.Thread(target=GuardedProcess, args=(command, log.parent, log))
thread.start()
thread.join()
if sys.argv[3] == "fork" and os.fork() == 0:
    threading.Event().wait(30)  # a copy of this process, which holds the pipe open
    os._exit(0)
print("started", flush=True)
threading.Event().wait(100)
"""


def pids_in(log):
    """Wait for the ids that the program prints."""
    return [int(word) for word in wait_for(lambda: log.is_file() and log.read_text().split(), 30)]


def start(tmp_path, *arguments):
    log = tmp_path / "log"
    process = GuardedProcess([sys.executable, "-c", PROGRAM, *arguments], tmp_path, log)
    return process, pids_in(log)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="reads the states of processes")
class TestProcesses:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["plain", "fork"])
    def test_all_end_when_the_one_that_started_them_is_killed(self, tmp_path, kind):
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path / "log"), PROGRAM, kind],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            start_new_session=True,
        )
        try:
            starter.stdout.readline()
            pids = pids_in(tmp_path / "log")
            time.sleep(3 * guarded.CHECK_S)
            assert all(map(is_alive, pids)), "they ended with the thread"
            starter.kill()
            wait_for(lambda: not any(map(is_alive, pids)), 30)
        finally:
            os.killpg(starter.pid, signal.SIGKILL)
            starter.wait()
            starter.stdout.close()

    def test_all_end_when_they_are_ended(self, tmp_path):
        process, pids = start(tmp_path)
        assert process.poll() is None
        process.end()
        assert process.poll() == -signal.SIGTERM % 256
        assert not any(map(is_alive, pids))
        process.end()

    @pytest.mark.slow
    def test_a_program_that_ignores_the_signal_is_killed(self, tmp_path):
        process, pids = start(tmp_path, "deaf")
        process.end()
        assert not any(map(is_alive, pids))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_the_program_ends_with_its_guard(self, tmp_path, number):
        process, (guard, program, child) = start(tmp_path)
        os.kill(guard, number)
        process.wait()
        try:
            wait_for(lambda: not is_alive(program), 30)
        finally:
            if is_alive(child):
                os.kill(child, signal.SIGKILL)
        process.end()


def test_a_program_that_ends_is_no_longer_waited_for(tmp_path):
    process = GuardedProcess(
        [sys.executable, "-c", "print('done'); raise SystemExit(7)"], tmp_path, tmp_path / "log"
    )
    assert process.wait() == 7
    process.end()
    assert (tmp_path / "log").read_text() == "done\n"
