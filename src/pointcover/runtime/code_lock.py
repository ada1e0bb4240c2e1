"""Lock the code of stages in a project outside this repository: pointcover.lock.

There the code is an installed package, which DVC cannot track. So the lock has a digest of the code
of each stage, and DVC tracks it as a parameter of the stage.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from pointcover.runtime.atomic_files import digest_values, sha256
from pointcover.runtime.code_closure import PACKAGE, closure, modules

LOCK: Final = "pointcover.lock"

_DATA: Final = {"download": PACKAGE / "datasets"}
"""Folders of the package of which a stage also reads files that are no code: cards."""


def code_digest(script: Path) -> str:
    """Return 16 hexadecimal digits that change with the installed code of a stage.

    Args:
        script: of the stage; it is not part of the digest, as DVC tracks it itself.
    """
    files = {modules()[name] for name in closure(script)}
    if folder := _DATA.get(script.stem):
        files |= {path for path in folder.rglob("*.yaml") if path.is_file()}
    named = [[path.relative_to(PACKAGE).as_posix(), sha256(path)] for path in sorted(files)]
    return digest_values(named)[:16]


def code_digests(scripts: Iterable[Path]) -> dict[str, str]:
    """Return the digest of each stage by its name."""
    return {script.stem: code_digest(script) for script in scripts}


def read_lock(path: Path) -> dict[str, Any]:
    """Read a lock: `version`, `stages` and `files`.

    Raises:
        ValueError: it is not a lock.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        sections = [values["stages"], values["files"]]
        if not isinstance(values["version"], str) or not all(
            isinstance(section, dict) for section in sections
        ):
            raise TypeError
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise ValueError(
            f"{path} is not a lock of pointcover: write it again with `pointcover upgrade`"
        ) from None
    return dict(values)


def check_lock(script: Path) -> None:
    """Check that the installed code of a stage is the locked one, where there is a lock.

    Args:
        script: of the stage, run in the project's folder.

    Raises:
        ValueError: the code is another one.
    """
    path = Path(LOCK)
    if not path.is_file():
        return
    lock, found = read_lock(path), code_digest(script)
    if lock["stages"].get(script.stem) == found:
        return
    from pointcover import __version__

    raise ValueError(
        f"the installed pointcover {__version__} has other code for the stage {script.stem!r} than "
        f"{path} names (of {lock['version']}), so DVC would keep results of that code: run "
        f"`pointcover upgrade` and then `dvc repro`, or install pointcover {lock['version']}"
    )
