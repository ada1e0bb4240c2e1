"""The examples of docs/guides/extend.md: one function and one line are all that a choice needs."""

import json
import re

import pytest

from pointcover.annotation.propagation import PROPAGATORS
from pointcover.annotation.samplers import SAMPLERS
from pointcover.networks.architectures import MODELS, Architecture
from pointcover.training.choice import Choice
from pointcover.training.losses import LOSSES
from tests.imagery import ROOT

REGISTRIES = {
    "SAMPLERS": SAMPLERS,
    "PROPAGATORS": PROPAGATORS,
    "LOSSES": LOSSES,
    "MODELS": MODELS,
}


@pytest.fixture
def examples(monkeypatch):
    """Add the entries that the page shows, and return their names by registry."""
    page = (ROOT / "docs" / "guides" / "extend.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    added = {}
    for function, line in zip(blocks[::2], blocks[1::2], strict=True):
        assert function.count("\n") <= 11
        scope = {"Choice": Choice, "Architecture": Architecture}
        exec(function, scope)  # the project's own page
        registry, entry = re.fullmatch(r"# in (\w+)\n(.*)\n", line).groups()
        ((name, value),) = eval(f"{{{entry}}}", scope).items()
        monkeypatch.setitem(REGISTRIES[registry], name, value)
        added[registry] = name
    return added


@pytest.mark.slow
def test_every_example_of_the_page_works_in_a_pipeline(project, blank_pictures, examples):
    assert examples.keys() == REGISTRIES.keys()
    project.set(
        {
            "points": 6,
            "annotate.sampler": examples["SAMPLERS"],
            "annotate.propagator": examples["PROPAGATORS"],
            "train.loss": examples["LOSSES"],
            "train.model": examples["MODELS"],
            "train.encoder": "none",
            "train.epochs": 1,
        }
    )
    project.run("download", "tile", "annotate", "train", "evaluate")
    annotated = json.loads((project.root / "metrics/annotate.json").read_text())
    assert annotated["train"]["propagated_pixels"] > 0
    model = json.loads((project.root / "models/model.json").read_text())
    assert model["model"] == examples["MODELS"]
    assert json.loads((project.root / "metrics/evaluate.json").read_text())["miou"] is not None


def test_a_schema_for_editors_lists_what_was_added(examples):
    from pointcover.config.params import Params

    sections = Params.model_json_schema()["$defs"]
    annotate, train = sections["AnnotateSettings"], sections["TrainSettings"]
    assert examples["SAMPLERS"] in annotate["properties"]["sampler"]["enum"]
    assert examples["MODELS"] in train["properties"]["model"]["enum"]
