"""A run fits by the way that the architecture names, and describes what it fitted."""

from dataclasses import replace

import pytest
import torch

from pointcover.networks.architectures import MODELS
from pointcover.runtime.devices import make_fabric
from pointcover.training.data import SparseLabels, TrainingData
from pointcover.training.fitters import FITTERS
from pointcover.training.results import Callbacks, EpochResult, Fitted
from pointcover.training.run import TrainingRun
from pointcover.training.task import TrainingTask
from tests.machine import MACHINE
from tests.map_models import TILE_SET
from tests.tile_sets import CLASSES, write_easy_tiles
from tests.train_settings import train_settings


@pytest.fixture
def data(tmp_path):
    tiles = write_easy_tiles(tmp_path, 2)
    tiles = [replace(tile, pixels=tile.pixels[: len(CLASSES)]) for tile in tiles]
    labels = SparseLabels(tiles, tmp_path / "masks", has_propagated=False)
    tile_set = replace(TILE_SET, classes=CLASSES, size_px=64)
    return TrainingData(tile_set, tiles, tmp_path / "images", tmp_path, tmp_path / "pseudo", labels)


def run_of(data, **settings):
    settings = train_settings(crop_px=64, **settings)
    return TrainingRun(TrainingTask(make_fabric("cpu", "fp32"), settings, 0, data, MACHINE))


def fit_nothing(task, labels, callbacks, saved):
    """Fit as a classifier does that has a single epoch."""
    result = EpochResult(1, 0.1, 0.2, 0.5, {"dark": 0.5}, 0.0, 0, None, 1, 1, 0, 1, {}, True)
    callbacks.report(result)
    return Fitted(result, {"weight": torch.zeros(1)})


def test_every_architecture_names_a_way_of_fitting():
    assert {architecture.fitted_by for architecture in MODELS.values()} <= FITTERS.keys()


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_way_of_fitting_is_a_function_and_a_line(data, monkeypatch, rounds):
    monkeypatch.setitem(FITTERS, "nothing", fit_nothing)
    monkeypatch.setitem(MODELS, "fresh", replace(MODELS["unet"], fitted_by="nothing"))
    run = run_of(data, model="fresh", self_training={"rounds": rounds})
    monkeypatch.setattr(run, "pseudo_label", lambda _weights, _classifier: data.labels)
    results = []
    fitted, labels = run.fit(Callbacks(results.append))
    assert [result.epoch for result in results] == list(range(1, rounds + 2))
    assert (fitted.kept.epoch, labels) == (rounds + 1, data.labels)
    checkpoint = run.checkpoint(fitted, labels)
    assert (checkpoint.network.model, checkpoint.training["kept_epoch"]) == ("fresh", rounds + 1)
    assert sum(checkpoint.label_fractions) == pytest.approx(1)


def test_the_fingerprint_is_of_settings_data_and_code(data, tmp_path):
    tile_set, script = tmp_path / "tiles.json", tmp_path / "stage.py"
    tile_set.write_text("{}")
    script.write_text("import pointcover.training.run\n")

    def name(described=None, **settings):
        return run_of(data, **settings).fingerprint(described or {}, tile_set, script)

    first = name()
    assert name() == first
    others = [name(lr=0.5), name({"points": 3})]
    tile_set.write_text("{ }")
    others.append(name())
    script.write_text("import pointcover.training.fit\n")
    others.append(name())
    assert len({first, *others}) == 5
