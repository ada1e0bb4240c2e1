"""Write tables of stored results into the docs, or --check them.

    python tools/tables.py [--check]

A block `<!-- table: FOLDER NAME -->` … `<!-- end -->` gets the table NAME of the study with the
results in FOLDER. The reports in these folders are rewritten too.
"""

import re
import sys
from functools import cache
from pathlib import Path

from pointcover.study.conducting import command_of, read_results, rewrite_report
from pointcover.study.plan import Scale
from pointcover.study.report import MARKDOWN, markdown, markdown_table
from pointcover.study.summary import Summary

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def plan_of(folder: Path) -> tuple[Path, Scale]:
    """Return the study file and the scale of a folder of results: docs/studies/NAME[-small]."""
    name = folder.name.removesuffix("-small")
    return Path("studies") / f"{name}.yaml", "small" if folder.name.endswith("-small") else "full"


@cache
def results_of(folder: Path) -> tuple[Summary, list[str]]:
    """Return the summary of a folder of results and its warnings, computed once."""
    path, scale = plan_of(folder)
    return read_results(path, folder, scale)


def write_tables(text: str) -> str:
    """Return a Markdown text with its blocks filled with the tables that they name."""

    def fill(block: re.Match[str]) -> str:
        summary, _ = results_of(ROOT / block[2])
        (table,) = [table for table in summary.tables if table.name == block[3]]
        return f"{block[1]}{markdown_table(table)}\n{block[4]}"

    return BLOCK.sub(fill, text)


def pages() -> list[Path]:
    """Return the Markdown files that may hold tables: the README and the pages of the docs."""
    docs = (ROOT / "docs").rglob("*.md")
    return [ROOT / "README.md", *sorted(path for path in docs if path.name != MARKDOWN)]


def main(*, check: bool) -> list[str]:
    """Write the files that are out of date, or only return them.

    Returns:
        The files that differ from their results.
    """
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        written = write_tables(text)
        if written != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(written, encoding="utf-8")
    for results in sorted((ROOT / "docs" / "studies").glob("*/results.csv")):
        report = results.parent / MARKDOWN
        before = report.read_text(encoding="utf-8") if report.exists() else ""
        path, scale = plan_of(results.parent)
        summary, warnings = results_of(results.parent)
        if markdown(summary, command_of(path, scale), warnings) != before:
            stale.append(str(report.relative_to(ROOT)))
        if not check:
            rewrite_report(path, results.parent, scale)
    return stale


if __name__ == "__main__":
    found = main(check="--check" in sys.argv)
    if found and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(found)}; run `python tools/tables.py`")
