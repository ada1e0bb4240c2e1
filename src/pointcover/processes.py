"""Processes and their parents: none goes on working once nobody waits for it."""

import ctypes
import os
import sys


def end_with_parent(number: int, parent: int | None = None) -> None:
    """Ask Linux to send this process a signal when its parent dies; other systems cannot.

    What counts is the end of the thread that started this process, not only of its process.

    Args:
        number: of the signal.
        parent: process id of the parent, for one that may have died before it could be asked.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), number)
