"""The processor of this machine, for what is computed without torch."""

import os
import platform
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

CPU_INFO: Final = Path("/proc/cpuinfo")
FLAGS: Final = ("flags", "Features")
"""Names of the list of instruction sets in CPU_INFO, on x86 and on ARM."""


def count_threads() -> int:
    """Return how many threads to compute with: OMP_NUM_THREADS, or the cores of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment_of_engines() -> dict[str, object]:
    """Return the properties of the machine that the bits of a map by an ONNX file depend on."""
    return {
        "machine": {
            "device": "cpu",
            "instructions": _instructions(CPU_INFO),
            "threads": count_threads(),
        },
        "versions": {"numpy": version("numpy")},
    }


def _instructions(info: Path) -> str:
    """Return a digest of the processor's instruction sets; its name where they are not known."""
    try:
        lines = info.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = next((line for line in lines if line.startswith(FLAGS)), None)
    if found is None:
        return platform.processor() or platform.machine()
    sets = sorted(found.partition(":")[2].split())
    return sha256(" ".join(sets).encode()).hexdigest()[:16]
