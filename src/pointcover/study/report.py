"""Write a study's report as CSV, Markdown, and one self-contained HTML page."""

from collections.abc import Sequence
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Final

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from pointcover.runtime.atomic_files import publish_csv, publish_text
from pointcover.study.charts import draw_classes, draw_costs, draw_curves, draw_methods
from pointcover.study.plan import Study
from pointcover.study.summary import Summary, Table

MARKDOWN: Final = "report.md"
HTML: Final = "report.html"


def write_report(
    folder: Path, summary: Summary, command: str, warnings: Sequence[str] = ()
) -> None:
    """Write report.html, report.md, and a CSV file for each table.

    Args:
        folder: of the files.
        summary: of the study.
        command: that runs the study.
        warnings: printed before the results.
    """
    for table in summary.tables:
        publish_csv(folder / "tables" / f"{table.name}.csv", table.header, table.rows)
    publish_text(folder / MARKDOWN, markdown(summary, command, warnings))
    publish_text(folder / HTML, html(summary, command, warnings))


def markdown(summary: Summary, command: str, warnings: Sequence[str] = ()) -> str:
    """Return the report as Markdown, without figures."""
    study = summary.study
    parts = [f"# {study.title}", study.about.strip(), *(f"**{text}**" for text in warnings)]
    parts += [f"```sh\n{command}\n```"]
    for table in summary.tables:
        parts.append(f"## {table.title}\n\n{table.note}\n\n{markdown_table(table)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(table: Table) -> str:
    """Return a table as Markdown."""

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    return "\n".join([line(table.header), "|" + "---|" * len(table.header), *map(line, table.rows)])


def html(summary: Summary, command: str, warnings: Sequence[str] = ()) -> str:
    """Return the report as an HTML page with styles and figures, without scripts or links."""
    # Texts of the study file are escaped; figures are SVG of this package.
    page = page_of("report.html.j2")
    return page.render(
        study=summary.study,
        tables=summary.tables,
        command=command,
        warnings=warnings,
        curves=Markup(draw_curves(summary)),
        methods=Markup(draw_methods(summary)),
        costs=Markup(draw_costs(summary)),
        by_class=Markup(draw_classes(summary)),
        settings=settings_text(summary.study),
        version=metadata.version("pointcover"),
        source="results.csv",
    )


def page_of(name: str) -> Template:
    """Return a template of this package; texts are escaped, and an unknown name is an error."""
    folder = files("pointcover.study")
    loader = FunctionLoader(lambda one: folder.joinpath(one).read_text(encoding="utf-8"))
    return Environment(autoescape=True, undefined=StrictUndefined, loader=loader).get_template(name)


def settings_text(study: Study) -> str:
    """Return a study's settings as YAML."""
    values = study.model_dump(mode="json", exclude_defaults=True)
    keys = ("settings", "points", "seeds", "axes", "methods", "dense")
    shown = {key: values[key] for key in keys if values.get(key)}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, default_flow_style=None)
