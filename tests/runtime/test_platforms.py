"""Mapping, suggesting, sampling and labelling need nothing that Windows lacks."""

import subprocess
import sys

import pytest

from tests.imagery import ROOT

WINDOWS = """
import builtins, os, signal, sys

load = builtins.__import__

def load_some(name, globals=None, *rest, **named):
    ours = (globals or {}).get("__name__", "").startswith("pointcover")
    if ours and name in ("fcntl", "grp", "posix", "pwd", "resource", "termios"):
        raise ImportError(name)
    return load(name, globals, *rest, **named)

builtins.__import__ = load_some
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "setitimer", "alarm", "pthread_sigmask"):
    delattr(signal, name)
for name in ("pwrite", "pread", "killpg", "sched_getaffinity"):
    delattr(os, name)

import pytest

options = ["-q", "-p", "no:cacheprovider", "-m", "not slow and not alone"]
sys.exit(pytest.main([*options, *sys.argv[1:]]))
"""
"""Hides what Windows lacks, and runs tests."""

TESTS = (
    "tests/cli/test_assessment.py",
    "tests/labelling/test_point_log.py",
    "tests/labelling/test_project.py",
    "tests/labelling/test_routes.py",
    "tests/active/test_suggest.py",
    "tests/maps/test_mapper.py",
)


@pytest.mark.slow
def test_without_what_windows_lacks():
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, *TESTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
