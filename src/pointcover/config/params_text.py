"""Change values in the text of params.yaml, and keep its comments and its order."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

KEY: Final = re.compile(
    r"""^( *)(\w+):(?: ((?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^'"#\n]|(?<! )[#'"])*?))?( +#.*)?$"""
)
"""A line of a YAML mapping: indentation, key, value, comment."""


def with_values(text: str, settings: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Set values in the text of params.yaml.

    Args:
        text: of the file.
        settings: values by dotted key.

    Returns:
        the text, and the keys for which it has no line.
    """
    missing = dict(settings)
    changed: list[str] = []
    items: list[str] | None = None  # of the list that a key got, after the comment of the key
    for line, key in _keyed(text.splitlines()):
        if items is not None:
            if line.lstrip().startswith("- "):
                continue
            if not line.lstrip().startswith("#"):
                changed += items
                items = None
        if key in missing:
            line, items = _with_value(line, missing.pop(key))
        changed.append(line)
    changed += items or []
    return "\n".join(changed) + "\n", list(missing)


def keys_of(text: str) -> list[str]:
    """Return the dotted keys that have a line of their own, sections among them."""
    return [key for _, key in _keyed(text.splitlines()) if key]


def _keyed(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each line with the dotted key that it sets, or an empty one."""
    path: list[tuple[int, str]] = []
    for line in lines:
        found = KEY.match(line)
        if found is None:
            yield line, ""
            continue
        indent = len(found[1])
        path = [step for step in path if step[0] < indent] + [(indent, found[2])]
        yield line, ".".join(name for _, name in path)


def _with_value(line: str, value: Any) -> tuple[str, list[str]]:
    """Return a line with another value, and the items of a list, as DVC writes both."""
    found = KEY.match(line)
    assert found is not None
    items = [f"{found[1]}- {_yaml(item)}" for item in value] if isinstance(value, list) else []
    shown = "" if items or value is None else f" {_yaml(value)}"
    comment = (found[4] or "").strip()
    return f"{found[1] + found[2] + ':' + shown:<27} {comment}".rstrip(), items


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    return yaml.safe_dump(
        [value], default_flow_style=True, width=math.inf, allow_unicode=True
    ).strip()[1:-1]
