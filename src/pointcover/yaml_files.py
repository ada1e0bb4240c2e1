"""Read YAML files of settings: without code, equal keys, or more values than fit in memory."""

from pathlib import Path
from typing import Any, Final

import yaml

SAFE_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's loader of plain values, in C where it was built so: ten times as fast."""


MAX_YAML_BYTES: Final = 4 << 20
"""Size of the largest YAML file that is read."""

MAX_YAML_NODES: Final = 200_000
"""Number of values in a YAML file, those of aliases counted each time."""

MAX_YAML_DEPTH: Final = 50


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ValueError: the text is not YAML, or not a mapping; a key is given twice; or it is too large
            for settings.
        FileNotFoundError: there is no such file.
    """
    try:
        if (size := path.stat().st_size) > MAX_YAML_BYTES:
            raise ValueError(
                f"{path} has {size} bytes, wanted settings of at most {MAX_YAML_BYTES}: give the "
                f"right file"
            )
        values = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist: correct the path, run the command from the project's root, or "
            f"restore the file with `git checkout {path}`"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {where}. Correct that line") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds {'nothing' if values is None else repr(values)[:40]}, wanted lines of "
            f"`key: value`"
        )
    return values


def load_yaml(text: str) -> Any:
    """Return the values of a YAML document.

    PyYAML itself takes the last one of equal keys, and aliases of aliases make documents of any
    size out of ten lines.

    Raises:
        yaml.YAMLError: it is not YAML, a key is given twice, or its values are too many or nested
            too deeply.
    """
    _check_depth(text)
    loader = SAFE_LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {}, 0)
        return loader.construct_document(node)
    except ValueError as error:  # of Python's own types, such as a date with month 13
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Check how deeply values are nested: of 100 000 levels the C parser ends the process."""
    depth = 0
    for event in yaml.parse(text, SAFE_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise _yaml_error(f"values are nested more than {MAX_YAML_DEPTH} deep", event)


def _count_nodes(node: yaml.Node, counts: dict[int, int], depth: int) -> int:
    """Return the number of values of a node, and check them; `counts` has those known already."""
    if id(node) in counts:
        return counts[id(node)]
    if depth > MAX_YAML_DEPTH:
        raise _yaml_error("a value holds an alias of itself", node)
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1
    for child in children:
        total += _count_nodes(child, counts, depth + 1)
        if total > MAX_YAML_NODES:
            raise _yaml_error(f"there are more than {MAX_YAML_NODES} values, with aliases", child)
    counts[id(node)] = total
    return total


def _check_keys(node: yaml.MappingNode) -> None:
    """Check that no key is given twice, of which YAML would take the later."""
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        if (first := lines.get((key.tag, key.value))) is not None:
            raise _yaml_error(
                f"the key {key.value!r} is given twice, in line {first + 1} too: remove one", key
            )
        lines[key.tag, key.value] = key.start_mark.line


_MERGE: Final = "tag:yaml.org,2002:merge"


def _yaml_error(text: str, part: yaml.Node | yaml.Event) -> yaml.YAMLError:
    line = part.start_mark.line + 1 if part.start_mark else 1
    return yaml.YAMLError(f"{text} (line {line})")
