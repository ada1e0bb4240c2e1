"""Write the tables of README.md that come from stored results, or --check whether they do.

    python docs/tables.py [--check]

A block `<!-- table: FOLDER NAME -->` … `<!-- end -->` gets the table NAME of the study whose
results lie in FOLDER; the reports in these folders are written anew too.
"""

import re
import sys
import tempfile
from pathlib import Path

from pointcover.study.conducting import rewrite_report
from pointcover.study.plan import Scale
from pointcover.study.report import MARKDOWN, markdown_table

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def plan_of(folder: Path) -> tuple[Path, Scale]:
    """Say which study file and scale a folder of results is of: docs/studies/NAME[-small]."""
    name = folder.name.removesuffix("-small")
    return Path("studies") / f"{name}.yaml", "small" if folder.name.endswith("-small") else "full"


def write_tables(text: str) -> str:
    """Give a Markdown text with its blocks filled from the results that they name."""

    def fill(block: re.Match[str]) -> str:
        folder = ROOT / block[2]
        path, scale = plan_of(folder)
        with tempfile.TemporaryDirectory() as out:
            results = Path(out) / "results.csv"
            results.write_bytes((folder / "results.csv").read_bytes())
            summary = rewrite_report(path, Path(out), scale)
        (table,) = [table for table in summary.tables if table.name == block[3]]
        return f"{block[1]}{markdown_table(table)}\n{block[4]}"

    return BLOCK.sub(fill, text)


def main(*, check: bool) -> list[str]:
    """Write what is out of date, or only say what that is.

    Returns:
        The files that differ from what their results say.
    """
    stale = []
    readme = ROOT / "README.md"
    written = write_tables(readme.read_text(encoding="utf-8"))
    if written != readme.read_text(encoding="utf-8"):
        stale.append("README.md")
        if not check:
            readme.write_text(written, encoding="utf-8")
    for results in sorted((ROOT / "docs" / "studies").glob("*/results.csv")):
        report = results.parent / MARKDOWN
        before = report.read_text(encoding="utf-8") if report.exists() else ""
        path, scale = plan_of(results.parent)
        with tempfile.TemporaryDirectory() as out:
            (Path(out) / "results.csv").write_bytes(results.read_bytes())
            rewrite_report(path, Path(out), scale)
            if (Path(out) / MARKDOWN).read_text(encoding="utf-8") != before:
                stale.append(str(report.relative_to(ROOT)))
        if not check:
            rewrite_report(path, results.parent, scale)
    return stale


if __name__ == "__main__":
    found = main(check="--check" in sys.argv)
    if found and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(found)}; run `python docs/tables.py`")
