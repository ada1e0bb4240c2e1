"""Pixel classifiers in stages and commands, chosen by params.yaml alone: filters, no encoder."""

import json
import logging
import re
import shutil

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import rasterio
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER
from pointcover.networks.checkpoint import load_checkpoint
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.tracking.mlmodel import write_mlmodel
from tests.classifiers import SMALL

CLASSIFIERS = [name for name, one in MODELS.items() if one.fitted_by == PIXEL_CLASSIFIER]


LESS = ("classes", "features", "missing", "encoder")
"""Damages that are tried in the slow tests alone."""


@pytest.fixture
def prepared(project, blank_pictures):
    """A project with clicks, whose classifiers are small."""
    project.set(
        {
            "points": 12,
            "annotate.propagator": "none",
            "train.encoder": "none",
            "train.weights": "none",
            "train.model": "random_forest",
            "train.classifier.mean_of": ["logistic_regression", "extra_trees"],
        }
        | {f"train.classifier.{key}": value for key, value in SMALL.items()}
    )
    project.run("download", "tile", "annotate")
    return project


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def train(project, **changes):
    """Train with changes of the section `train`; return the weights' digest and model.json."""
    project.set({f"train.{key}": value for key, value in changes.items()})
    project.run("train")
    described = read(project.root / "models/model.json")
    return described["weights_sha256"], described


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=() if name == "random_forest" else pytest.mark.slow)
        for name in CLASSIFIERS
    ],
)
def test_every_classifier_is_trained_and_evaluated_by_params(prepared, model, caplog):
    caplog.set_level(logging.INFO)
    digest, described = train(prepared, model=model)
    assert re.search(r"\d+ labelled pixels of \d+ tiles, \d+ features, in \d+ s", caplog.text)
    heads = re.findall(r"(\w+): fitted in \d+ s", caplog.text)
    assert len(heads) > 1 if model == "classifier_mean" else heads == [model]
    assert described["model"] == model
    assert sum(described["label_fractions"].values()) == pytest.approx(1)
    prepared.run("evaluate")
    assert read(prepared.root / "metrics/evaluate.json")["miou"] is not None
    assert (train(prepared)[0], read(prepared.root / "metrics/train.json")["kept_epoch"]) == (
        digest,
        1,
    )


@pytest.mark.slow
def test_options_of_labels_act_on_classifiers(prepared):
    plain, described = train(prepared)
    balanced, in_balance = train(prepared, class_weighting="balanced")
    assert list(in_balance["label_fractions"].values()) == pytest.approx([1 / 3] * 3)
    weighted, in_weights = train(prepared, class_weighting="none", class_weights={"road": 9})
    assert in_weights["label_fractions"]["road"] > described["label_fractions"]["road"] + 0.1
    thinned, _ = train(prepared, class_weights={}, **{"classifier.max_pixels": 20})
    assert len({plain, balanced, weighted, thinned}) == 4
    prepared.set({"evaluate.priors": {"land": 0.9, "water": 0.05, "road": 0.05}})
    prepared.run("evaluate")


@pytest.mark.slow
def test_propagated_labels_have_a_fraction_of_the_loss(prepared):
    prepared.set({"annotate.propagator": "nearest"})
    prepared.run("annotate")
    digests = {train(prepared, propagated_loss_fraction=value)[0] for value in (None, 0.2)}
    assert len(digests) == 2


@pytest.mark.parametrize("model", ["classifier_mean"])
@pytest.mark.slow
def test_self_training_adds_pseudo_labels(prepared, model):
    plain, _ = train(prepared, model=model)
    changes = {"self_training.rounds": 1, "self_training.threshold": 0.4}
    taught, described = train(prepared, **changes)
    assert taught != plain
    assert described["training"]["kept_epoch"] == 2
    assert taught == train(prepared)[0]


@pytest.mark.slow
def test_an_ensemble_of_a_network_and_a_classifier(prepared):
    train(prepared)
    shutil.copytree(prepared.root / "models", prepared.root / "others/forest")
    train(prepared, model="unet", encoder="mobilenet_v2", width=0.25, epochs=1)
    prepared.set({"evaluate.ensemble": "others"})
    prepared.run("evaluate")
    assert read(prepared.root / "metrics/evaluate.json")["miou"] is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", ["a value", *(pytest.param(one, marks=pytest.mark.slow) for one in LESS)]
)
def test_a_damaged_description_of_a_classifier_is_refused(prepared, damage):
    train(prepared)
    path = prepared.root / "models/model.json"
    values = read(path)
    classifier = values["classifier"]
    if damage == "a value":
        classifier["head"]["trees"] = "many"
    elif damage == "classes":
        classifier["classes"] = 7
    elif damage == "features":
        classifier["features"]["filter_bank"] = None
    elif damage == "encoder":
        classifier["features"]["encoder"] = {"name": "none such"}
    else:
        del values["classifier"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"does not describe a model .*Restore both"):
        load_checkpoint(path.parent)


def test_a_classifier_maps_suggests_and_is_served(prepared):
    train(prepared)
    models, image = prepared.root / "models", prepared.data / "images/c.tif"
    segmenter, _, _ = load_checkpoint(models)
    assert isinstance(segmenter, PixelSegmenter)
    for command in (
        ["predict", str(models), str(image), "--out", "maps"],
        ["suggest", str(models), str(image), "--points", "5", "--out", "next.gpkg"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    assert (prepared.root / "next.gpkg").is_file()
    with rasterio.open(prepared.root / "maps/c_classes.tif") as file:
        classes = file.read(1)
    write_mlmodel(models, "0" * 32, "model")
    served = mlflow.pyfunc.load_model(str(models), model_config={"device": "cpu"})
    answers = served.predict(pd.DataFrame({"image": [image.read_bytes()]}))
    with rasterio.MemoryFile(answers[0]["classes"]) as memory, memory.open() as file:
        np.testing.assert_array_equal(file.read(1), classes)
