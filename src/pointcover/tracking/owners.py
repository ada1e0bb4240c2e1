"""Tag a run with the process that records it, and tell whether that process is gone.

Processes are told apart on a server that many machines share. A host name is not enough: containers
and copied virtual machines have the same one. So a run also has the ids of the machine, of its boot
and of the PID namespace, without which a process id means nothing.
"""

import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

HOST_TAG: Final = "mlflow.pointcover.host"
MACHINE_TAG: Final = "mlflow.pointcover.machine"
BOOT_TAG: Final = "mlflow.pointcover.boot"
NAMESPACE_TAG: Final = "mlflow.pointcover.pid_namespace"
PID_TAG: Final = "mlflow.pointcover.pid"
STARTED_TAG: Final = "mlflow.pointcover.process_started"
"""Names that begin with `mlflow.` are hidden in MLflow's pages."""

_MACHINE_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_BOOT_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE_FILE: Final = Path("/proc/self/ns/pid")


def owner_tags() -> dict[str, str]:
    """Return the tags of a run that this process records."""
    process = psutil.Process()
    return {
        **_place_tags(),
        PID_TAG: str(process.pid),
        STARTED_TAG: f"{_started_s(process):.2f}",
    }


def condition() -> str:
    """Return the condition of a search for runs of this machine and this PID namespace."""
    here = _place_tags()
    tags = (HOST_TAG, MACHINE_TAG, NAMESPACE_TAG)
    return " and ".join(f"tags.`{tag}` = '{here[tag]}'" for tag in tags)


def is_gone(tags: Mapping[str, str], *, is_own_store: bool) -> bool:
    """Return whether the process that records a run, found by `condition`, has ended.

    Args:
        tags: of the run.
        is_own_store: whether the store is a file of this machine. On a server a run of another boot
            may be that of a copy of this machine, so it is left alone.
    """
    if was_rebooted(tags):
        return is_own_store
    return not _is_alive(int(tags[PID_TAG]), float(tags[STARTED_TAG]))


def was_rebooted(tags: Mapping[str, str]) -> bool:
    """Return whether a run was begun in another boot, of this machine or of a copy of it."""
    here = _place_tags()
    is_here = all(tags.get(tag) == here[tag] for tag in (HOST_TAG, MACHINE_TAG, NAMESPACE_TAG))
    return is_here and tags.get(BOOT_TAG) != here[BOOT_TAG]


def _place_tags() -> dict[str, str]:
    return {
        HOST_TAG: socket.gethostname().replace("'", ""),
        MACHINE_TAG: _machine_id(),
        BOOT_TAG: _text_of(_BOOT_FILE) or f"{psutil.boot_time():.0f}",
        NAMESPACE_TAG: _namespace(),
    }


def _machine_id() -> str:
    """Return an id of the machine: systemd's, otherwise that of a network card."""
    found = (_text_of(path) for path in _MACHINE_FILES)
    return next((text for text in found if text), f"{uuid.getnode():012x}")


def _namespace() -> str:
    """Return the id of the PID namespace, which every container has its own of; Linux only."""
    try:
        return str(_NAMESPACE_FILE.readlink())
    except OSError:
        return "none"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _started_s(process: psutil.Process) -> float:
    """Return the seconds from boot to the start of a process, independent of the clock."""
    return process.create_time() - psutil.boot_time()


def _is_alive(pid: int, started_s: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(_started_s(process) - started_s) < 1  # otherwise another process has the id
    except psutil.Error:  # the process is gone, or hidden since another user owns it
        return psutil.pid_exists(pid)
