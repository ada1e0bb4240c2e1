"""Change values in the text of params.yaml, and keep its comments and its order."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

KEY: Final = re.compile(r"^( *)(\w+):(?: (.*?))?( *#.*)?$")
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
    changed = []
    for line, key in _keyed(text.splitlines()):
        if key in missing:
            line = _with_value(line, missing.pop(key))
        changed.append(line)
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


def _with_value(line: str, value: Any) -> str:
    found = KEY.match(line)
    assert found is not None
    start = f"{found[1]}{found[2]}: {_yaml(value)}"
    comment = (found[4] or "").strip()
    return f"{start:<27} {comment}".rstrip()


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]
