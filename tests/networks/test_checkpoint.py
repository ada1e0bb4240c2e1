"""A model comes back from disk bit for bit, and a damaged or foreign one does not come back."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pointcover.labels import ClassTable
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.checkpoint import (
    NO_MODELS,
    load_checkpoint,
    load_ensemble,
    save_checkpoint,
)
from pointcover.networks.description import Checkpoint
from pointcover.tileset.tiles import TileSet
from tests.tile_sets import CLASSES
from tests.train_settings import NETWORKS, network_settings, small_encoder, train_settings

TILE_SET = TileSet(
    classes=CLASSES,
    size_px=64,
    gsds_m=(0.25, 0.5),
    mean=(90.1, 100.2, 110.3, 0.1),
    std=(40.4, 30.5, 20.6, 0.3),
    value_range=(0.0, 65535.0),
    bands=(3, 2, 1, 4),
)
CHECKPOINT = Checkpoint(
    network_settings(),
    TILE_SET,
    {"best_epoch": 3, "val_miou": 0.1 + 0.2, "note": None},
    label_fractions=(0.1 + 0.2, 0.7),
)
STATISTICS = BandStatistics(TILE_SET.mean, TILE_SET.std)


def build(seed=1):
    return build_model(network_settings(), STATISTICS, 2, seed=seed)


@pytest.fixture(scope="module")
def segmenter():
    """A segmenter whose batch normalisation has seen something."""
    segmenter = build()
    for seed in range(3):
        segmenter(images(seed))
    return segmenter.eval()


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 4, 64, 64), generator=generator, dtype=torch.uint8)


@pytest.fixture
def folder(segmenter, tmp_path):
    save_checkpoint(tmp_path, CHECKPOINT, segmenter.state_dict())
    return tmp_path


def seal(folder):
    """Write into model.json the SHA-256 that model.pt has."""
    values = json.loads((folder / "model.json").read_text())
    values["weights_sha256"] = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(values))


@torch.inference_mode()
def test_a_model_read_back_gives_the_same_logits_to_the_last_bit(segmenter, folder):
    again, checkpoint, digest = load_checkpoint(folder)
    assert checkpoint == CHECKPOINT
    assert digest == hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    again.eval()
    for seed in range(2):
        assert torch.equal(again(images(seed)), segmenter(images(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("model", NETWORKS)
def test_every_model_comes_back_from_what_model_json_says(model, tmp_path):
    network = network_settings(model, small_encoder(model), 0.25)
    segmenter = build_model(network, STATISTICS, 2, seed=1)
    segmenter(images(0))
    checkpoint = Checkpoint(network, TILE_SET, {})
    save_checkpoint(tmp_path, checkpoint, segmenter.state_dict())
    again, read, _ = load_checkpoint(tmp_path)
    assert read == checkpoint
    segmenter.eval()
    again.eval()
    with torch.inference_mode():
        assert torch.equal(again(images(1)), segmenter(images(1)))


def test_model_json_holds_of_the_settings_of_training_those_of_the_network():
    checkpoint = Checkpoint(train_settings(model="fpn", width=0.5), TILE_SET, {})
    values = checkpoint.to_json()
    assert (values["model"], values["encoder"], values["width"]) == ("fpn", "tu-regnetx_002", 0.5)
    assert "epochs" not in values


def test_an_unknown_architecture_is_refused_by_name(folder):
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(values | {"model": "u-net"}))
    with pytest.raises(ValueError, match=r"does not describe a model .*'unetplusplus'"):
        load_checkpoint(folder)


def test_label_fractions_go_by_the_names_of_the_classes_and_old_models_have_none(folder):
    values = json.loads((folder / "model.json").read_text())
    assert values.pop("label_fractions") == {"dark": 0.1 + 0.2, "bright": 0.7}
    (folder / "model.json").write_text(json.dumps(values))
    assert load_checkpoint(folder)[1] == replace(CHECKPOINT, label_fractions=None)
    (folder / "model.json").write_text(json.dumps(values | {"label_fractions": {"dark": 1}}))
    with pytest.raises(ValueError, match=r"does not describe a model \(KeyError: 'bright'\)"):
        load_checkpoint(folder)


@torch.inference_mode()
def test_a_model_of_before_there_was_a_width_comes_back_at_the_usual_one(segmenter, folder):
    values = json.loads((folder / "model.json").read_text())
    assert values.pop("width") == 1
    (folder / "model.json").write_text(json.dumps(values))
    again, checkpoint, _ = load_checkpoint(folder)
    assert checkpoint == CHECKPOINT
    assert torch.equal(again.eval()(images(0)), segmenter(images(0)))


def test_the_same_weights_are_the_same_bytes_in_whatever_folder(segmenter, tmp_path):
    digests = [
        save_checkpoint(tmp_path / name, CHECKPOINT, segmenter.state_dict())
        for name in ("one", "another place")
    ]
    assert digests[0] == digests[1]


def test_nothing_but_the_two_files_is_left(folder):
    assert {file.name for file in folder.iterdir()} == {"model.pt", "model.json"}


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_a_flipped_bit_in_the_weights_is_refused(folder, place):
    content = bytearray((folder / "model.pt").read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt has SHA-256 .*damaged.*dvc checkout -f"):
        load_checkpoint(folder)


def test_weights_of_another_run_are_refused(folder, tmp_path):
    save_checkpoint(tmp_path / "other", CHECKPOINT, build(seed=2).state_dict())
    (tmp_path / "other" / "model.pt").replace(folder / "model.pt")
    with pytest.raises(ValueError, match="of another run"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.pt", "model.json"])
def test_a_missing_file_is_named_with_how_to_get_it_back(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} does not exist: run `dvc repro train`"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weights_sha256": "00"}', "\0"])
def test_a_damaged_description_is_refused_by_name(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.json does not describe a model.*dvc checkout -f"):
        load_checkpoint(folder)


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_the_weights_is_not_executed_though_its_checksum_is_right(
    segmenter, folder, tmp_path
):
    torch.save({**segmenter.state_dict(), "extra": Bomb(tmp_path / "boom")}, folder / "model.pt")
    seal(folder)
    with pytest.raises(ValueError, match=r"model\.pt does not hold weights .*more than tensors"):
        load_checkpoint(folder)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet18"},
        {"model": "fpn"},
        {"width": 0.5},
        {
            "classes": [{"name": str(i), "colour": f"#00000{i}"} for i in range(3)],
            "label_fractions": None,
        },
    ],
    ids=["encoder", "model", "width", "classes"],
)
def test_weights_that_do_not_fit_the_description_are_refused_and_not_loaded_in_part(folder, change):
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(values | change))
    with pytest.raises(ValueError, match=r"model\.pt does not hold weights of the .*describes"):
        load_checkpoint(folder)


def test_a_weights_file_without_one_of_the_weights_is_refused(segmenter, folder):
    state = segmenter.state_dict()
    state.popitem()
    torch.save(state, folder / "model.pt")
    seal(folder)
    with pytest.raises(ValueError, match="does not hold weights"):
        load_checkpoint(folder)


def test_a_score_that_is_no_number_is_refused_and_no_description_written(segmenter, tmp_path):
    broken = Checkpoint(network_settings(), TILE_SET, {"val_miou": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, broken, segmenter.state_dict())
    assert not (tmp_path / "model.json").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(segmenter, tmp_path, value):
    weights = {name: values.clone() for name, values in segmenter.state_dict().items()}
    name = next(name for name, values in weights.items() if values.is_floating_point())
    weights[name].view(-1)[0] = value
    save_checkpoint(tmp_path, CHECKPOINT, weights)
    with pytest.raises(ValueError, match=rf"model\.pt holds weights .* not finite \({name}\)"):
        load_checkpoint(tmp_path)


# Ensembles


@pytest.mark.slow
def test_an_ensemble_is_every_model_below_a_folder_by_path(tmp_path):
    built = {name: build(seed) for seed, name in enumerate(("b", "a/deep"))}
    for name, model in built.items():
        save_checkpoint(tmp_path / name, CHECKPOINT, model.state_dict())
    members = load_ensemble(tmp_path, TILE_SET)
    for member, name in zip(members, ("a/deep", "b"), strict=True):
        assert (member.folder, member.checkpoint) == (tmp_path / name, CHECKPOINT)
        wanted, found = built[name].state_dict(), member.segmenter.state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in found.items())


def test_a_model_of_another_gsd_is_no_member(folder):
    least, greatest = min(TILE_SET.gsds_m), max(TILE_SET.gsds_m)
    load_ensemble(folder, replace(TILE_SET, gsds_m=(least / 1.05, 1.05 * greatest)))
    load_ensemble(folder, replace(TILE_SET, gsds_m=()))
    with pytest.raises(ValueError, match=r"trained on a GSD of .* m, the model trained here on"):
        load_ensemble(folder, replace(TILE_SET, gsds_m=(2 * greatest,)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bands": (1, 2, 3, 4)}, "trained here differ in their bands: (3, 2, 1, 4) against (1,"),
        ({"value_range": (0.0, 255.0)}, "value range: (0.0, 65535.0) against"),
        ({"classes": ClassTable(("wet", "dry"), CLASSES.colours)}, " against wet, dry"),
    ],
)
def test_a_model_that_sees_or_says_other_things_is_no_member(folder, changes, named):
    with pytest.raises(ValueError, match=r"model\.json and") as caught:
        load_ensemble(folder, replace(TILE_SET, **changes))
    assert named in str(caught.value)
    assert "Take it out of" in str(caught.value)


def test_an_ensemble_without_a_model_is_refused_but_for_the_folder_that_means_none(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("sources", "others"):
        (tmp_path / name).mkdir()
    assert load_ensemble(NO_MODELS, TILE_SET) == []
    with pytest.raises(ValueError, match=r"evaluate.ensemble: others holds no model: put folders"):
        load_ensemble(Path("others"), TILE_SET)


def test_an_ensemble_without_a_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"evaluate.ensemble: .*nowhere is no folder"):
        load_ensemble(tmp_path / "nowhere", TILE_SET)


def test_a_model_with_a_class_name_that_cannot_be_shown_is_refused(folder):
    values = json.loads((folder / "model.json").read_text())
    values["classes"][0]["name"] = "a\x07b"
    (folder / "model.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"does not describe a model .* cannot be shown"):
        load_checkpoint(folder)
