"""The code that decides a stage's result: its script and the modules that it imports.

dvc.yaml's dependencies (`make deps`) and the fingerprint of a training both come from here.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1]

NO_RESULT: Final = (
    "pointcover.cli",
    "pointcover.config",
    "pointcover.evaluation.record",
    "pointcover.figures",
    "pointcover.runtime.code_closure",
    "pointcover.runtime.errors",
    "pointcover.runtime.signals",
    "pointcover.text",
    "pointcover.tracking",
    "pointcover.validation",
)
"""Packages and modules that record, draw, word messages or check settings. Their code cannot change
what a stage writes for DVC, so that editing them trains no model again. Values of settings are
dependencies by themselves (`params` in dvc.yaml), so no module `settings` is needed either."""


@cache
def modules() -> dict[str, Path]:
    """Return the file of every module of the package by its dotted name."""
    return {_name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Return every name that a Python file imports, as `module` and `module.name`.

    Raises:
        ValueError: the file imports relatively.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path} imports relatively: write the whole name")
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def own_imports(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, without those they import."""
    return {name for name in imported_names(path) if name in modules()} - {"pointcover"}


def closure(path: Path) -> set[str]:
    """Return the modules that decide what a file computes: its imports, and theirs."""
    needed: set[str] = set()
    todo = own_imports(path)
    while todo:
        name = todo.pop()
        if name.endswith(".settings") or any(
            f"{name}.".startswith(f"{other}.") for other in NO_RESULT
        ):
            continue
        needed.add(name)
        parent = name.rpartition(".")[0]
        todo |= (own_imports(modules()[name]) | {parent}) - needed - {"pointcover"}
    return {name for name in needed if not _is_empty(modules()[name])}


@cache
def _is_empty(path: Path) -> bool:
    """Whether a file has a docstring at most."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) for node in body)


def code_files(path: Path) -> dict[str, Path]:
    """Return the file itself and those of its closure, by name."""
    return {"": path} | {name: modules()[name] for name in sorted(closure(path))}
