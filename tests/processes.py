"""Python run apart from the tests: where a process must die, or its disk be full."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from pointcover.datasets import archives, downloads
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        {call}
    except OSError as error:
        sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


def run_python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def wait_for(check: Callable[[], Any], seconds: float = 60, pause_s: float = 0.01) -> Any:
    """Wait until a check is true, and return its value."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "waited for too long"
        time.sleep(pause_s)
    return found


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def say_who_works(item: int) -> int:
    """Leave a file with the process id; be at it for a second, with the last item for LAST_S."""
    Path(f"{os.getpid()}.pid").touch()
    if item < 2:
        time.sleep(1)
    else:
        Path("busy").touch()
        time.sleep(float(os.environ["LAST_S"]))
    return item
