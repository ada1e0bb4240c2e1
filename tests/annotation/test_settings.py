"""A registry is the only list of its choices, and checking params.yaml loads no large library."""

import subprocess
import sys

import numpy as np
import pytest

from pointcover.annotation.click import click
from pointcover.annotation.propagation import PROPAGATORS, propagate
from pointcover.annotation.propagation.base import ClickedTile, Proposal
from pointcover.annotation.samplers import SAMPLERS, UNITS
from pointcover.annotation.samplers.annotator import Clicks
from pointcover.labels import ClassTable

CLASSES = ClassTable(("land", "water"), ((0, 0, 0), (0, 0, 1)))


def first_pixels(mask, candidates, budget, annotator, generator):
    return Clicks.single(candidates[:budget])


def everywhere(tile, settings):
    ids = np.full(tile.clicks.shape, tile.clicks.min(), np.uint8)
    return Proposal(ids, np.ones(ids.shape, np.float32))


def test_one_line_in_a_registry_adds_a_choice(make_params, monkeypatch):
    monkeypatch.setitem(SAMPLERS, "first", first_pixels)
    monkeypatch.setitem(UNITS, "one", lambda points, labelled: dict.fromkeys(labelled, 1))
    monkeypatch.setitem(PROPAGATORS, "everywhere", everywhere)
    chosen = {"sampler": "first", "unit": "one", "propagator": "everywhere"}
    settings = make_params({f"annotate.{key}": value for key, value in chosen.items()}).annotate
    mask = np.ones((2, 3), np.uint8)
    clicks = click(mask, 2, settings, CLASSES, np.random.default_rng(0))
    assert clicks.tolist() == [[1, 1, 255], [255, 255, 255]]
    image, valid = np.zeros((3, 2, 3), np.uint8), np.ones((2, 3), bool)
    tile = ClickedTile(clicks, image, valid, CLASSES)
    labels = propagate(tile, settings.propagator, settings.of_propagator)
    assert (labels.mask == 1).all()


@pytest.mark.parametrize("key", ["sampler", "unit", "propagator"])
def test_a_choice_that_no_registry_has_is_refused(make_params, key):
    with pytest.raises(ValueError, match=f"annotate.{key}"):
        make_params({f"annotate.{key}": "other"})


@pytest.mark.parametrize(
    "module",
    [
        "pointcover.annotation.settings",
        "pointcover.datasets.synthetic.settings",
        "pointcover.tiling.settings",
    ],
)
def test_settings_are_imported_without_large_libraries(module):
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    large = {"torch", "scipy", "skimage", "sklearn", "rasterio", "matplotlib", "mlflow", "joblib"}
    assert not large & set(done.stdout.split())
