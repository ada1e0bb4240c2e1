"""The report of an assessment: CSV, Markdown, JSON, and one HTML page that needs nothing else."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from pointcover.assessment.assess import Assessment
from pointcover.assessment.estimators import Estimate
from pointcover.assessment.pictures import draw_areas, draw_matrix
from pointcover.assessment.tables import M2_PER_HA, Table, sentence_of, tables_of
from pointcover.runtime.atomic_files import (
    probe_folder,
    publish_csv,
    publish_folder,
    publish_json,
    publish_text,
)

HTML: Final = "report.html"
MARKDOWN: Final = "report.md"
VALUES: Final = "report.json"
MATRIX: Final = "matrix.png"
AREAS: Final = "areas.png"


def write_report(folder: Path, found: Assessment) -> None:
    """Write the report into a folder, whole or not at all.

    Args:
        folder: replaced if it is there.
        found: what the sample says.

    Raises:
        OSError: the disk is full.
    """
    tables = tables_of(found)
    with publish_folder(folder) as aside:
        for table in tables:
            publish_csv(aside / f"{table.name}.csv", table.header, table.rows)
        draw_matrix(aside / MATRIX, found)
        draw_areas(aside / AREAS, found)
        publish_json(aside / VALUES, values_of(found))
        publish_text(aside / MARKDOWN, markdown(found, tables))
        publish_text(aside / HTML, html(found, tables, aside))


def check_folder(folder: Path, *, force: bool) -> None:
    """Check before any work that a report can be written into a folder.

    Raises:
        OSError: it cannot, or something is there that is no report, or may not be replaced.
    """
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / HTML).is_file()):
            raise FileExistsError(f"{folder} is there and is no report: choose another name")
        if any(folder.iterdir()) and not force:
            raise FileExistsError(
                f"{folder} holds a report: choose another name, or say --force to replace it"
            )
    try:
        probe_folder(folder.parent)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): choose another name, in a folder "
            f"where you may write"
        ) from None


def facts_of(found: Assessment) -> list[str]:
    """Return what was assessed, and how."""
    return [
        f"Maps: {', '.join(path.name for path in found.maps)}.",
        f"Sample: {found.labelled} labelled points of {len(found.design.points)}.",
        f"Estimator: {found.estimator}.",
        *(f"Of the design, {text}." for text in found.design.assumed),
    ]


def markdown(found: Assessment, tables: Sequence[Table]) -> str:
    """Return the report as Markdown."""

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    parts = ["# Accuracy and areas", "\n".join(f"- {text}" for text in _sentences(found))]
    parts += ["\n".join(f"- {text}" for text in facts_of(found))]
    parts += ["\n".join(f"- **Note:** {text}." for text in found.remarks)] if found.remarks else []
    for table in tables:
        rows = [line(table.header), "|" + "---|" * len(table.header), *map(line, table.rows)]
        parts.append(f"## {table.title}\n\n{table.note}\n\n" + "\n".join(rows))
    parts.append(f"![Error matrix]({MATRIX})\n\n![Areas]({AREAS})")
    return "\n\n".join(parts) + "\n"


def html(found: Assessment, tables: Sequence[Table], folder: Path) -> str:
    """Return the report as a page: styles and pictures in it, no script, no network."""
    template = files("pointcover.assessment").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
    return page.render(
        sentences=_sentences(found),
        facts=facts_of(found),
        remarks=found.remarks,
        tables=tables,
        pictures=[
            ("Error matrix in percent of the area, with points", _inline(folder / MATRIX)),
            ("Area of each class", _inline(folder / AREAS)),
        ],
    )


def values_of(found: Assessment) -> dict[str, Any]:
    """Return the numbers, for programs: areas in ha; null where a number is not known."""
    estimates, names = found.estimates, found.classes.names
    return {
        "maps": [path.name for path in found.maps],
        "estimator": found.estimator,
        "labelled": found.labelled,
        "remarks": found.remarks,
        "overall": _value(estimates.overall),
        "classes": {
            name: {
                "users": _value(estimates.users[k]),
                "producers": _value(estimates.producers[k]),
                "f1": _value(estimates.f1[k]),
                "area_ha": _value(estimates.areas[k].scaled(1 / M2_PER_HA)),
                "mapped_ha": float(found.mapped_m2[k]) / M2_PER_HA,
            }
            for k, name in enumerate(names)
        },
        "matrix": {
            "counts": estimates.counts.tolist(),
            "proportions": estimates.proportions.tolist(),
        },
    }


def _value(one: Estimate | None) -> dict[str, float | None] | None:
    return None if one is None else {**asdict(one), "half_width_95": one.half_width}


def _sentences(found: Assessment) -> list[str]:
    return [sentence_of(found, k) for k in range(len(found.classes))]


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
