"""Write the pages of the docs that come from the code, while MkDocs builds (a hook of mkdocs.yml).

`reference/settings.md` comes from params.yaml, `reference/cli.md` from the typer app, and
`reference/api.md` from the packages below src/pointcover. They are written into no folder.
"""

import re
from itertools import pairwise
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
    """Return the page of all settings: params.yaml, a heading and a block for each section."""
    lead, sections = split_sections((ROOT / "params.yaml").read_text(encoding="utf-8"))
    parts = [
        "# Settings\n\n"
        "All settings are in `params.yaml`. Change a value there, or for one experiment with\n"
        "`dvc exp run -S section.key=value`. A value that is not allowed is refused before any "
        "work starts.\n",
        f"## Top level\n\n```yaml\n{lead}```\n",
    ]
    parts += [f"## {name}\n\n```yaml\n{text}```\n" for name, text in sections.items()]
    return "\n".join(parts)


def split_sections(text: str) -> tuple[str, dict[str, str]]:
    """Return what precedes the first section of a YAML file, and each section with its comment."""
    starts = [
        match.start()
        for match in re.finditer(r"^(?:#.*\n)*\w+:[ ]*(?:#.*)?\n(?=[ #])", text, flags=re.MULTILINE)
    ]
    bounds = [*starts, len(text)]
    blocks = [text[start:end].strip("\n") + "\n" for start, end in pairwise(bounds)]
    names = [re.search(r"^(\w+):", block, flags=re.MULTILINE) for block in blocks]
    lead = text[: bounds[0]].strip("\n") + "\n"
    return lead, {name[1]: block for name, block in zip(names, blocks, strict=True) if name}


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
    """Return how a parameter is written on the command line."""
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
        "# Python API\n\nFrom the docstrings of the code. pointcover is used by its commands; the "
        "API may change between versions.\n"
    )
    return "\n".join([lead, *(f"::: pointcover.{name}\n" for name in names)])


PAGES = {
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
    "reference/api.md": api_page,
}
"""The generated pages by their path below docs, and what writes each."""
