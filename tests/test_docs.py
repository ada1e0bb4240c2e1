"""What the README and the docs say was generated from stored results, and runs."""

import re
import runpy

import pytest
import yaml

from tests.imagery import ROOT


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "docs" / "tables.py"))


def test_the_tables_of_the_docs_are_those_of_their_results(tables):
    assert tables["main"](check=True) == []


def test_a_table_that_differs_from_its_results_would_be_seen(tables):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = tables["BLOCK"].findall(text)
    assert blocks, "the README shows no study"
    for digit in "09":  # one of them at least is not what is there
        forged = re.sub(
            r"(<!-- table:.*?\| 0\.)\d", rf"\g<1>{digit}", text, count=1, flags=re.DOTALL
        )
        assert tables["write_tables"](forged) == text


def test_the_readme_names_every_study_and_every_study_file_there_is(tables):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+\.yaml)` \|", text))
    assert named == {path.name for path in (ROOT / "studies").glob("*.yaml")}


def test_the_readmes_own_study_can_be(tmp_path):
    from pointcover.study.plan import members_of, read_study

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"`studies/mine\.yaml`:\n\n```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert yaml.safe_load(block)["title"]
    (tmp_path / "mine.yaml").write_text(block)
    members = members_of(read_study(tmp_path / "mine.yaml"))
    assert len(members) == 2 * (3 + 3 * 3 + 3)
