"""A model is found by whatever a user calls it, and models that do not go together are refused."""

from dataclasses import replace

import pytest

from pointcover.models.load import load_model, load_models
from pointcover.tracking import runs as tracking
from tests.map_models import CLASSES, TILE_SET, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "one")
    save_model(folder / "two", seed=1)
    return folder


@pytest.mark.parametrize("name", ["", "/", "/model.pt", "/model.json"])
def test_a_model_is_loaded_by_its_folder_or_a_file_in_it(folder, name):
    model = load_model(f"{folder / 'one'}{name}", folder)
    assert model.tile_set == TILE_SET
    assert model.sha256 == load_model(str(folder / "one"), folder).sha256


@pytest.mark.slow
def test_a_model_of_a_run_is_the_one_that_was_logged(folder, tmp_path, monkeypatch):
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dvc.yaml").touch()
    with tracking.start_run(tmp_path, "training") as run:
        run.log_model(folder / "two", epoch=1)
    wanted = load_model(str(folder / "two"), tmp_path).sha256
    for reference in (run.id, f"runs:/{run.id}"):
        assert load_model(reference, tmp_path).sha256 == wanted


def test_a_path_without_a_model_is_refused(folder):
    for reference in (str(folder / "three"), "models/nowhere", "f" * 31):
        with pytest.raises(FileNotFoundError, match="is not a model: wanted a folder with"):
            load_model(reference, folder)


def test_models_of_an_ensemble_keep_their_order(folder):
    models = load_models([str(folder / "two"), str(folder / "one")], folder)
    assert [model.reference for model in models] == [str(folder / "two"), str(folder / "one")]
    assert models[0].sha256 != models[1].sha256


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": replace(CLASSES, names=(*"abcd",))}, "in their classes: a, b, c, d against"),
        ({"bands": (3, 2, 1)}, r"bands: \(3, 2, 1\) against \(1, 2, 3\)\. Omit one of them, or"),
        ({"value_range": (0.0, 100.0)}, "differ in their value range"),
    ],
)
def test_models_of_different_data_are_no_ensemble(folder, tmp_path, change, said):
    save_model(tmp_path / "odd", tile_set=replace(TILE_SET, **change))
    with pytest.raises(ValueError, match=said):
        load_models([str(folder / "one"), str(tmp_path / "odd")], folder)
