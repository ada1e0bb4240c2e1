"""Make a new project: its files, its lock, git and DVC."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from pointcover.project.template import STAGES, project_files, written_by_us
from pointcover.runtime.atomic_files import digest_values, publish_text
from pointcover.runtime.code_lock import LOCK, code_digests
from pointcover.tracking.repository import commit_files, start_repository

_KEPT = ("README.md", "sources/README.md")
"""Files that stay as they are where there are some."""

_JOINED = (".gitignore", ".dvcignore")
"""Files to which lines are added where there are some."""


def create_project(folder: Path) -> str:
    """Make a project in a folder, new or with other files.

    Returns:
        what is left to do, or an empty text.

    Raises:
        ValueError: the folder has a project, a file is in the way, or git or DVC failed.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder, new or empty")
    if (folder / LOCK).exists():
        raise ValueError(
            f"{folder} is a project of pointcover already: `pointcover upgrade` there renews it"
        )
    files = project_files()
    there = [name for name in files if (folder / name).exists()]
    if taken := [name for name in there if name not in (*_KEPT, *_JOINED)]:
        raise ValueError(
            f"{folder} has {', '.join(taken)}, which would be replaced: name another folder, or "
            "move them away"
        )
    folder.mkdir(parents=True, exist_ok=True)
    is_new = start_repository(folder)
    for name, text in files.items():
        path = folder / name
        if name in _JOINED and path.exists():  # DVC's setup makes .dvcignore, too
            publish_text(path, _joined(path.read_text(encoding="utf-8"), text))
        elif name not in there:
            publish_text(path, text)
    publish_text(folder / LOCK, lock_of(folder, files))
    if not is_new:
        return "commit its files, which `dvc exp run` needs: `git add .`, `git commit`"
    try:
        if commit_files(folder, [*files, LOCK], "Start a project of pointcover"):
            return ""
    except ValueError as error:  # a signature that is wanted, a hook, ignored files
        return f"commit its files yourself, which `dvc exp run` needs: {error}"
    return (
        "tell git who you are (`git config --global user.name NAME`, `git config --global "
        "user.email ADDRESS`) and commit, which `dvc exp run` needs: `git add .`, `git commit`"
    )


def lock_of(folder: Path, files: Mapping[str, str]) -> str:
    """Return the text of the lock for the stages in a folder.

    Args:
        folder: of the project.
        files: as written, by name: digests of them tell later which the user edited.
    """
    from pointcover import __version__

    values = {
        "version": __version__,
        "stages": code_digests(folder / f"stages/{stage}.py" for stage in STAGES),
        "files": {name: digest_text(text) for name, text in written_by_us(dict(files)).items()},
    }
    about = (
        "# Written by `pointcover init` and `pointcover upgrade`. `stages` has a digest of the\n"
        "# installed code of each stage, a parameter of it in dvc.yaml; `files` has digests of\n"
        "# the files that pointcover wrote.\n"
    )
    return about + yaml.safe_dump(values, sort_keys=False)


def digest_text(text: str) -> str:
    """Return 16 hexadecimal digits of a file's text."""
    return digest_values(text)[:16]


def _joined(there: str, ours: str) -> str:
    """Add the lines that are missing."""
    lines = there.splitlines()
    return "\n".join([*lines, *(line for line in ours.splitlines() if line not in lines)]) + "\n"
