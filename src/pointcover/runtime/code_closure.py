"""Find the code that a stage's result depends on: its script and the modules that it imports.

It is used for dvc.yaml's dependencies (`make deps`) and for the fingerprint of a training.
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
    "pointcover.project",
    "pointcover.runtime.code_closure",
    "pointcover.runtime.code_lock",
    "pointcover.runtime.errors",
    "pointcover.runtime.progress",
    "pointcover.runtime.signals",
    "pointcover.text",
    "pointcover.tracking",
    "pointcover.validation",
    "pointcover.yaml_files",
)
"""Packages and modules that log, draw, format messages or validate settings. Their code does not
change the outputs of a stage, so editing them must not run a training again. Modules `settings` are
excluded too, since the values of settings are dependencies (`params` in dvc.yaml)."""


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
        ValueError: the file imports relatively, or is no valid Python.
    """
    found = set()
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: {error.msg}: correct this line, or restore the file"
        ) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path} imports relatively: write the whole name")
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def own_imports(path: Path) -> set[str]:
    """Return the modules of this package that a file imports directly."""
    return {name for name in imported_names(path) if name in modules()} - {"pointcover"}


def closure(path: Path) -> set[str]:
    """Return the modules that a file's result depends on: its imports, and theirs."""
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
    """Return whether a file has at most a docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) for node in body)


def code_files(path: Path) -> dict[str, Path]:
    """Return the files of a script and of its closure, by name."""
    return {"": path} | {name: modules()[name] for name in sorted(closure(path))}
