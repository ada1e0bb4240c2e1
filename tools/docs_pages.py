"""Generate pages of the docs from the code while MkDocs builds them (a hook of mkdocs.yml).

`reference/settings.md` comes from the settings classes, `reference/cli.md` from the typer app, and
`reference/api.md` from the packages below src/pointcover. They are not written into the source
folder.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "pointcover"
WRITTEN = "<!-- Written by tools/docs_pages.py when the docs are built. -->\n\n"


def on_files(files: "Files", *, config: "MkDocsConfig") -> "Files":
    """Add the generated pages to those of the folder docs."""
    from mkdocs.structure.files import File

    for uri, write in PAGES.items():
        files.append(File.generated(config, uri, content=WRITTEN + write()))
    return files


def settings_page() -> str:
    """Return the page of all settings, a table for each section, from the classes."""
    import yaml

    from pointcover.config.params import Params

    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    lead = (
        "# Settings\n\n"
        "All settings are in `params.yaml`. Change a value there, or for one experiment with\n"
        "`dvc exp run -S section.key=value`. A value that is not allowed is refused before any\n"
        "work starts. Editors that know JSON schemas read `params.schema.json` for hints.\n"
    )
    schema = Params.model_json_schema()
    tables = section_tables("", schema, values, schema["$defs"])
    return lead + "".join(tables) + "\n## Choices\n" + "".join(choice_lists("", Params))


def choice_lists(path: str, model: Any) -> list[str]:
    """Return a list of the entries of each registry that a setting names, with their docs."""
    from pointcover.validation import OneOf, section_in

    lists = []
    for name, field in model.model_fields.items():
        key = f"{path}.{name}" if path else name
        section = section_in(field.annotation)
        if section is not None:
            lists += choice_lists(key, section)
        for one in field.metadata:
            if isinstance(one, OneOf) and (described := described_entries(one.registry)):
                rows = "\n".join(f"- `{entry}`: {text}" for entry, text in described.items())
                lists.append(f"\n### {key} choices\n\n{rows}\n")
    return lists


def described_entries(registry: Any) -> dict[str, str]:
    """Return the first line of the docstring of each function of a registry, by its name."""
    functions = {
        name: getattr(entry, "build", getattr(entry, "function", entry))
        for name, entry in registry.items()
    }
    described = {
        name: cell((function.__doc__ or "").partition("\n")[0])
        for name, function in functions.items()
        if callable(function)
    }
    return {name: text for name, text in described.items() if text}


def section_tables(
    path: str, schema: dict[str, Any], values: dict[str, Any], definitions: dict[str, Any]
) -> list[str]:
    """Return the Markdown of a section of settings, followed by that of its subsections."""
    rows, below = [], []
    for name, field in schema["properties"].items():
        key = f"{path}.{name}" if path else name
        reference = field.get("$ref")
        if reference and isinstance(values[name], dict):
            section = definitions[reference.rpartition("/")[2]]
            below += section_tables(key, section, values[name], definitions)
            continue
        value = json.dumps(values[name])
        rows.append(
            f"| `{key}` | `{value}` | {allowed_of(field, definitions)} | "
            f"{cell(field.get('description'))} |"
        )
    head = f"\n## {path or 'Top level'}\n\n{cell(schema.get('description')) if path else ''}\n\n"
    table = "\n".join(
        ["| setting | in params.yaml | allowed | meaning |", "|---|---|---|---|", *rows]
    )
    return [head + (table + "\n" if rows else ""), *below]


def allowed_of(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the allowed values of a field of a JSON schema, for a table."""
    if "enum" in field:
        return ", ".join(f"`{json.dumps(each).strip(chr(34))}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(allowed_of(each, definitions) for each in field["anyOf"])
    if "$ref" in field:
        return allowed_of(definitions[field["$ref"].rpartition("/")[2]], definitions)
    words = [KINDS.get(field.get("type", ""), field.get("type", "any"))]
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        words = [f"list of {allowed_of(field['items'], definitions)}"]
    words += [f"{sign} {field[key]}" for key, sign in BOUNDS.items() if key in field]
    return " ".join(words[:1]) + ("".join(f", {word}" for word in words[1:]))


KINDS = {"null": "`null`", "boolean": "`true`, `false`", "object": "mapping", "string": "text"}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}


def cli_page() -> str:
    """Return the page of the command `pointcover`, from the help of its typer app."""
    import typer.main

    from pointcover.cli import app

    group: Any = typer.main.get_command(app)
    parts = ["# Command line\n\n`pointcover COMMAND --help` shows the same in a terminal.\n"]
    parts += [command_section(name, command) for name, command in group.commands.items()]
    return "\n".join(parts)


def command_section(name: str, command: Any) -> str:
    """Return the section of one command: usage, help, arguments and options."""
    shown = [param for param in command.params if not param.hidden and param.name != "help"]
    usage = [f"pointcover {name}"]
    for param in shown:
        if param.param_type_name == "argument":
            usage.append(param.name.upper() + ("..." if param.nargs == -1 else ""))
        elif param.required:
            usage.append(f"{param.opts[0]} VALUE")
    usage.append("[OPTIONS]")
    rows = ["| argument or option | meaning | default |", "|---|---|---|"]
    rows += [
        f"| {parameter_names(each)} | {cell(each.help)} | {default_of(each)} |" for each in shown
    ]
    text = re.sub(r"\s*\n\s*\n\s*", "\n\n", (command.help or "").strip())
    parts = [f"## {name}", f"```text\n{' '.join(usage)}\n```", text]
    return "\n\n".join(parts + (["\n".join(rows)] if shown else [])) + "\n"


def parameter_names(param: Any) -> str:
    """Return a parameter as written on the command line."""
    if param.param_type_name == "argument":
        return f"`{param.name.upper()}`"
    values = (param.metavar or "VALUE").replace("|", "\\|")
    value = "" if param.is_flag else f" {values}"
    return ", ".join(f"`{name}{value}`" for name in param.opts)


def default_of(param: Any) -> str:
    """Return the default of a parameter for a table."""
    if param.required:
        return "required"
    shown = getattr(param, "show_default", None)
    if isinstance(shown, str):
        return f"`{shown}`"
    if param.default in (None, False, ()) or callable(param.default):
        return ""
    return f"`{param.default}`"


def cell(text: str | None) -> str:
    """Return text for a cell of a Markdown table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def api_page() -> str:
    """Return the page of the API: a section for each package and module of pointcover."""
    names = [
        path.stem
        for path in sorted(PACKAGE.iterdir())
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem[0] != "_"
    ]
    lead = (
        "# Python API\n\nFrom the docstrings of the code. The names of `pointcover.api` are stable "
        "([From Python](../guides/python.md)); all others may change between versions.\n"
    )
    first = [f"::: pointcover.api.{name}\n" for name in ("model", "project", "accuracy")]
    rest = [f"::: pointcover.{name}\n" for name in names if name != "api"]
    return "\n".join([lead, *first, *rest])


PAGES = {
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
    "reference/api.md": api_page,
}
"""The generated pages: their path below docs, and the function that writes each."""
