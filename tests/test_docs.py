"""The docs: tables come from stored results, links lead somewhere, commands name what exists."""

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.imagery import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
REPORT = "report.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = [README, *sorted(path for path in DOCS.rglob("*.md") if path.name != REPORT)]
"""All pages but the reports, which are written from results."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "tools" / "tables.py"))


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    """Return the pages that are written while the docs are built."""
    tool = runpy.run_path(str(ROOT / "tools" / "docs_pages.py"))
    return {DOCS / uri: write() for uri, write in tool["PAGES"].items()}


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


# Tables from stored results


def test_the_tables_of_the_docs_are_those_of_their_results(tables):
    assert tables["main"](check=True) == []


def test_every_stored_study_has_a_table_in_the_index_of_studies(tables):
    text = (DOCS / "studies" / "index.md").read_text(encoding="utf-8")
    shown = {folder for _, folder, _, _ in tables["BLOCK"].findall(text)}
    assert shown == {name_of(path.parent) for path in DOCS.glob("studies/*/results.csv")}


def test_a_table_that_differs_from_its_results_would_be_seen(tables):
    text = (DOCS / "guides" / "label-budgets.md").read_text(encoding="utf-8")
    assert tables["BLOCK"].findall(text), "the guide shows no study"
    for digit in "09":  # one of them at least is not what is there
        forged = re.sub(
            r"(<!-- table:.*?\| 0\.)\d", rf"\g<1>{digit}", text, count=1, flags=re.DOTALL
        )
        assert tables["write_tables"](forged) == text


def test_the_guide_names_every_study_file_there_is():
    text = (DOCS / "guides" / "label-budgets.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+\.yaml)` \|", text))
    assert named == {path.name for path in (ROOT / "studies").glob("*.yaml")}


def test_the_study_file_of_the_guide_can_be_read(tmp_path):
    from pointcover.study.plan import members_of, read_study

    text = (DOCS / "guides" / "label-budgets.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"`studies/mine\.yaml`:\n\n```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert yaml.safe_load(block)["title"]
    (tmp_path / "mine.yaml").write_text(block)
    members = members_of(read_study(tmp_path / "mine.yaml"))
    assert len(members) == 2 * (3 + 3 * 3 + 3)


# Form and links


def test_the_readme_is_short():
    assert 6_000 <= README.stat().st_size <= 9_000


def prose_of(text: str) -> str:
    """Return a page without its blocks and pieces of code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", each.lower())) for each in headings}


def dead_links(page: Path, text: str, generated: dict[Path, str]) -> list[str]:
    """Return the relative links of a page whose file or heading does not exist."""
    dead = []
    for link in LINK.findall(prose_of(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = Path(page.parent / name).resolve() if name else page
        there = generated.get(target) or (
            target.read_text(encoding="utf-8") if target.suffix == ".md" and target.exists() else ""
        )
        is_there = bool(there) or target.exists()
        if not is_there or (anchor and anchor not in anchors_of(there)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_link_leads_somewhere(page, generated):
    assert dead_links(page, page.read_text(encoding="utf-8"), generated) == []


@pytest.mark.parametrize(
    "link", ["nowhere.md", "images/none.png", "index.md#nothing", "reference/cli.md#nothing"]
)
def test_a_dead_link_would_be_seen(link, generated):
    text = f"[good](guides/training.md#loss), [good](reference/cli.md#predict), [bad]({link})"
    assert dead_links(DOCS / "index.md", text, generated) == [link]


def test_the_navigation_has_every_page(generated):
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/-]+\.md$", text.partition("\nnav:\n")[2], flags=re.MULTILINE))
    pages = {path.relative_to(DOCS).as_posix() for path in [*DOCS.rglob("*.md"), *generated]}
    assert named == pages


# Commands and settings


def commands_of(text: str) -> Iterator[list[str]]:
    """Return the words of each command line in the console and bash blocks of a page."""
    for language, block in FENCE.findall(text):
        if language not in ("console", "bash", "sh"):
            continue
        lines = block.replace("\\\n", " ").splitlines()
        for line in lines:
            if language == "console" and not line.startswith("$ "):
                continue
            try:
                words = shlex.split(line.removeprefix("$ "), comments=True)
            except ValueError:  # a quotation that goes on in the next line
                continue
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield words


def has_setting(params: dict[str, Any], key: str) -> bool:
    """Whether params.yaml has a setting, such as train.lr."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def check_settings(words: list[str], params: dict[str, Any]) -> None:
    """Check the keys of -S KEY=VALUE."""
    for flag, setting in pairwise(words):
        if flag in ("-S", "--set-param"):
            key = setting.partition("=")[0].lstrip("+")
            assert has_setting(params, key), f"params.yaml has no {key}"


def check_pointcover(words: list[str]) -> None:
    """Check a subcommand of pointcover and its options."""
    import typer.main

    from pointcover.cli import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert words[1] in commands, f"pointcover has no command {words[1]}"
    allowed = {name for each in commands[words[1]].params for name in each.opts} | {"--help"}
    options = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[A-Za-z]", word)}
    assert options <= allowed, f"pointcover {words[1]} has no {options - allowed}"


def check_dvc(words: list[str]) -> None:
    """Check a command of DVC by DVC's own parser."""
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args(words[1:])


def check_make(words: list[str]) -> None:
    """Check the targets of make."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for word in words[1:] if "=" not in word}
    for target in targets:
        assert re.search(rf"^{target}:", text, flags=re.MULTILINE), f"make has no {target}"


def check_python(words: list[str]) -> None:
    """Check that the script or module that Python runs exists."""
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2]), f"there is no module {words[2]}"
    elif words[1] != "-c":
        assert (ROOT / words[1]).is_file(), f"there is no {words[1]}"


CHECKS = {
    "pointcover": check_pointcover,
    "dvc": check_dvc,
    "make": check_make,
    "python": check_python,
}


def check_command(words: list[str], params: dict[str, Any]) -> None:
    """Check a command line of one of the programs that are known here."""
    if words[0] in CHECKS:
        CHECKS[words[0]](words)
        check_settings(words, params)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_names_what_exists(page, params):
    for words in commands_of(page.read_text(encoding="utf-8")):
        check_command(words, params)


@pytest.mark.parametrize(
    "line",
    [
        "pointcover predcit models a.tif",
        "pointcover predict models a.tif --out maps --nothing",
        "dvc exp runn",
        "dvc exp run --nothing",
        "dvc exp run -S train.nothing=1",
        "make nothing",
        "python tools/nothing.py",
    ],
)
def test_a_command_that_does_not_exist_would_be_seen(line, params):
    from dvc.cli import DvcParserError

    (words,) = commands_of(f"```console\n$ {line}\n```\n")
    with pytest.raises((AssertionError, DvcParserError)):
        check_command(words, params)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_setting_that_a_page_names_exists(page, params):
    text = page.read_text(encoding="utf-8")
    sections = "|".join(key for key, value in params.items() if isinstance(value, dict))
    named = re.findall(rf"`(?:-S )?\+?((?:{sections})(?:\.\w+)+)", text)
    named += re.findall(r"-S '?\+?([\w.]+)=", text)
    wrong = {name for name in named if not name.endswith(".json") and not has_setting(params, name)}
    assert wrong == set()


@pytest.mark.slow
def test_the_site_can_be_built(tmp_path):
    """Build the docs with --strict, in which a dead link, anchor or reference is an error."""
    pytest.importorskip("material")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    pages = list(tmp_path.rglob("*.html"))
    assert (tmp_path / "reference" / "settings" / "index.html") in pages
    for page in pages:  # nothing is loaded from the network
        loaded = re.findall(
            r'<(?:script|img|link)[^>]*(?:src|href)="https?://[^"]*', page.read_text()
        )
        assert loaded == [], page


@pytest.mark.slow
def test_the_commands_of_the_first_run_succeed(tmp_path):
    """Run the tutorial's commands in their order, with small settings and without the set-up."""
    from tests.clones import SMALL, Clone

    clone = Clone(tmp_path, SMALL)
    text = (DOCS / "tutorials" / "first-run.md").read_text(encoding="utf-8")
    ran = []
    for words in commands_of(text):
        if words == ["make", "run"]:
            words = ["dvc", "repro"]  # without another environment
        if words[0] in ("dvc", "python"):
            clone.run(*(re.sub(r"^train\.epochs=\d+$", "train.epochs=1", word) for word in words))
            ran.append(words[:2])
        if words == ["dvc", "repro"]:
            clone.commit()
    assert ["dvc", "repro"] in ran
    assert ["dvc", "exp"] in ran
