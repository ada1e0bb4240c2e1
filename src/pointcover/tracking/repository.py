"""Set up git and DVC in the folder of a project."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def start_repository(folder: Path) -> bool:
    """Set up git and DVC where they are not.

    Args:
        folder: of the project; it may be a folder of a repository.

    Returns:
        whether the repository is new.

    Raises:
        ValueError: git is missing, or git or DVC failed.
    """
    is_new = not _succeeds(folder, "git", "rev-parse", "--is-inside-work-tree")
    if is_new:
        _run(folder, "git", "init", "--quiet")
    if not (folder / ".dvc").is_dir():
        top = _run(folder, "git", "rev-parse", "--show-toplevel").strip()
        below = [] if Path(top).resolve() == folder.resolve() else ["--subdir"]
        _run(folder, sys.executable, "-m", "dvc", "init", "--quiet", *below)
        for name, value in (("core.analytics", "false"), ("cache.type", "reflink,hardlink,copy")):
            _run(folder, sys.executable, "-m", "dvc", "config", name, value)
    return is_new


def commit_files(folder: Path, files: Sequence[str], message: str) -> bool:
    """Commit files, and what DVC's setup made; return whether git has an identity to do so."""
    if not _succeeds(folder, "git", "config", "user.email"):
        return False
    _run(folder, "git", "add", "--", *files, ".dvc/.gitignore", ".dvc/config")
    _run(folder, "git", "commit", "--quiet", "--message", message)
    return True


def _succeeds(folder: Path, *command: str) -> bool:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"{command[0]} is not installed, and DVC needs it: install it and try again"
        ) from None
    return done.returncode == 0


def _run(folder: Path, *command: str) -> str:
    """Run a command and return its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        name = " ".join(command[2:] if command[0] == sys.executable else command)
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise ValueError(f"`{name}` failed in {folder}: {said}")
    return done.stdout
