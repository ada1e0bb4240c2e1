"""Frozen encoders in stages and commands, with weights from a file of timm."""

import json

import pytest
import rasterio
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.config.params import Params
from pointcover.networks.checkpoint import load_checkpoint
from pointcover.yaml_files import read_yaml
from tests.classifiers import SMALL
from tests.imagery import NETWORK, ROOT, change

DPT = {
    "train.model": "dpt",
    "train.width": 0.25,
    "train.freeze_encoder": True,
    "train.epochs": 1,
    "train.drop_epochs": 1,
    "train.batch_size": 2,
    "train.crop_px": 64,
    "train.warmup": 0,
    "train.schedule": "constant",
}
CLASSIFIER = {
    "train.model": "logistic_regression",
    "train.classifier.blocks": [3, 6],
    **{f"train.classifier.{key}": value for key, value in SMALL.items()},
    "train.classifier.logistic_regression.inputs": ["encoder"],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", [DPT, CLASSIFIER], ids=["dpt", "logistic_regression"])
def test_a_frozen_vision_transformer_is_trained_upon_and_maps(way, project, blank_pictures):
    torch.manual_seed(5)
    whole = timm.create_model("test_vit").state_dict()
    save_file(whole, project.root / "vit.safetensors")
    project.set(
        {
            "points": 12,
            "annotate.propagator": "none",
            "train.encoder": "tu-test_vit",
            "train.weights_file": "vit.safetensors",
            **way,
        }
    )
    project.run("download", "tile", "annotate", "train")
    described = json.loads((project.root / "models/model.json").read_text(encoding="utf-8"))
    assert described["encoder"] == "tu-test_vit"
    segmenter, _, _ = load_checkpoint(project.root / "models")
    network = segmenter.network
    is_network = way is DPT
    encoder = network.encoder if is_network else network.features.encoder.encoder
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, whole[name]), name
    image = next((project.root / "data/tiles/images").rglob("*.tif"))
    done = CliRunner().invoke(app, ["predict", "models", str(image), "--out", "maps"])
    assert done.exit_code == 0, done.output
    with rasterio.open(image) as source, rasterio.open(f"maps/{image.stem}_classes.tif") as classes:
        assert classes.shape == source.shape
        assert (classes.read(1) < 255).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.freeze_encoder": True}, "freeze_encoder keeps the weights .* 'none'"),
        ({"train.model": "dpt", "train.encoder": "none"}, "needs an encoder, .*try tu-vit_small"),
        ({"train.classifier.blocks": []}, "blocks"),
    ],
)
def test_settings_of_encoders_without_effect_are_refused(changes, said):
    values = change(read_yaml(ROOT / "params.yaml"), NETWORK | changes)
    with pytest.raises(ValueError, match=said):
        Params.model_validate(values)
