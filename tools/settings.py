"""Write the comments of params.yaml and the file params.schema.json, or --check them.

    python tools/settings.py [--check]

Both come from the settings classes: a field's description is its comment. Values are not changed.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pointcover.config.params import Params
from pointcover.validation import OneOf, section_in

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "params.yaml"
SCHEMA = ROOT / "params.schema.json"
COLUMN = 28
WIDTH = 110
HEADER = f"""\
# yaml-language-server: $schema={SCHEMA.name}
# The settings of an experiment. Change a value here, or for one experiment:
#   dvc exp run -S points=500
# Comments and schema are written by `make settings` from the classes that check the values.
"""


def render_params(values: dict[str, Any]) -> str:
    """Return the text of params.yaml: these values, each with its description as a comment."""
    return HEADER + "\n".join(_lines_of(Params, values, 0)) + "\n"


def _lines_of(model: type[BaseModel], values: dict[str, Any], indent: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = section_in(field.annotation)
        if section is not None and isinstance(values[name], dict):
            if not indent:
                yield ""
            yield from _with_comment(f"{' ' * indent}{name}:", _description_of(field, section))
            yield from _lines_of(section, values[name], indent + 2)
        else:
            comment = " ".join(filter(None, [field.description, _choices_of(field)]))
            key, items = _written(f"{' ' * indent}{name}:", values[name])
            yield from _with_comment(key, comment)
            yield from items


def _written(key: str, value: object) -> tuple[str, list[str]]:
    """Return a key with its value, and the lines of a list's items.

    The text is the one that `dvc exp run -S` writes, so that it changes no other line: null is
    nothing, and each item of a list has its own line.
    """
    if value is None:
        return key, []
    if isinstance(value, list) and value:
        indent = " " * (len(key) - len(key.lstrip()))
        return key, [f"{indent}- {_scalar(item)}" for item in value]
    return f"{key} {_scalar(value)}", []


def _scalar(value: object) -> str:
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return shown.removesuffix("\n").removesuffix("\n...")


def _with_comment(key: str, comment: str) -> Iterator[str]:
    """Yield a line with its comment, which is wrapped at the same column."""
    if not comment:
        yield key
        return
    room = WIDTH - max(COLUMN, len(key) + 1) - 2
    if room < 40:  # a long value has a line of its own
        yield key
        rest = textwrap.wrap(comment, WIDTH - COLUMN - 4)
    else:
        first = textwrap.wrap(comment, room)[0]
        yield f"{key:<{COLUMN - 1}} # {first}"
        rest = textwrap.wrap(comment[len(first) :], WIDTH - COLUMN - 4)
    yield from (f"{'':<{COLUMN}}#   {line}" for line in rest)


def _choices_of(field: FieldInfo) -> str:
    """Return the names of the registry that a setting chooses from, or nothing."""
    return next(
        (f"One of {', '.join(one.names())}." for one in field.metadata if isinstance(one, OneOf)),
        "",
    )


def _description_of(field: FieldInfo, section: type[BaseModel]) -> str:
    """Return a section's description: the field's own, or the first sentence of its class."""
    return field.description or (section.__doc__ or "").partition("\n")[0].rstrip(".")


def render_schema() -> str:
    """Return the JSON schema of params.yaml, which editors use for hints and checks."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | Params.model_json_schema(), indent=1) + "\n"


def main(*, check: bool) -> None:
    """Write both files, or end with a message where one of them is out of date."""
    values = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    Params.model_validate(values)
    for path, text in ((PARAMS, render_params(values)), (SCHEMA, render_schema())):
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is out of date: run `make settings`")


if __name__ == "__main__":
    main(check="--check" in sys.argv)
