"""The notebooks run from top to bottom, and are stored without outputs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import pointcover
from tests.imagery import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
INTERNAL = {"from pointcover.datasets.synthetic.landscape import draw_orthophoto"}
"""The one import that is not public: it draws the images, which readers replace by their own."""


def cells_of(path: Path, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def code_of(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells_of(path, "code"))


def test_there_are_two_notebooks_and_the_docs_name_them():
    assert [path.name for path in NOTEBOOKS] == [
        "comparing-label-budgets.ipynb",
        "first-map-from-clicks.ipynb",
    ]
    guide = (ROOT / "docs" / "guides" / "python.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"`examples/{path.name}`" in guide


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_no_outputs(path):
    for cell in cells_of(path, "code"):
        assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {})
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_use_the_public_names(path):
    code = code_of(path)
    used = set(re.findall(r"\bpointcover\.(\w+)", code)) - {"datasets"}
    assert used
    assert used <= set(pointcover.__all__)
    imports = {line for line in code.splitlines() if line.startswith("from pointcover")}
    assert imports == INTERNAL


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_say_what_to_install(path):
    text = "".join("".join(cell["source"]) for cell in cells_of(path, "markdown"))
    assert re.findall(r"`pip install ([^`]*)`", text) == ["'pointcover[train]' notebook"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    """Each cell runs, figures are drawn, and nothing is printed as a warning."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    figures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(figures) >= 3
    warned = [out["text"] for out in outputs if out.get("name") == "stderr"]
    assert warned == []
    texts = "\n".join(out["text"] for out in outputs if out["output_type"] == "stream")
    if path.stem == "first-map-from-clicks":
        told = re.search(r"over all pixels.*: (0\.\d+)", texts)
        assert told
        assert 0.75 < float(told[1]) < 1, "a map from 100 clicks on synthetic images"
        assert (tmp_path / "first-map" / "model" / "model.pt").is_file()
