"""Models are fitted on points of images, as the stage fits them, and without a project."""

import json
from dataclasses import replace

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
import yaml

import pointcover
from pointcover.labels import IGNORE_INDEX
from pointcover.runtime.devices import make_fabric
from pointcover.training.classifiers.fitter import fit_pixel_classifier
from pointcover.training.data import SparseLabels, TrainingData
from pointcover.training.results import Callbacks
from pointcover.training.settings import TrainSettings
from pointcover.training.task import TrainingTask
from tests.classifiers import SMALL
from tests.imagery import CRS, PLACE, ROOT, change, write_raster
from tests.machine import MACHINE
from tests.map_models import TILE_SET
from tests.tile_sets import CLASSES, write_orthophoto

FOREST = {
    "model": "random_forest",
    "encoder": "none",
    "weights": "none",
    "classifier__random_forest__inputs": ["filter_bank"],
    "classifier__random_forest__trees": 12,
}


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """An image, bright on the right, and a table of points of two classes."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    dense = np.zeros((160, 200), np.uint8)
    dense[:, 90:] = 1
    values = (70 + 110 * dense + generator.normal(0, 12, (3, 160, 200))).clip(0, 255)
    write_raster(tmp_path / "a.tif", values.astype(np.uint8), crs=CRS, transform=PLACE)
    rows, cols = generator.integers(0, 160, 60), generator.integers(0, 200, 60)
    points = [PLACE @ (col + 0.5, row + 0.5) for row, col in zip(rows, cols, strict=True)]
    names = [("field", "sand")[one] for one in dense[rows, cols]]
    table = geopandas.GeoDataFrame({"class": names}, geometry=shapely.points(points), crs=CRS)
    pyogrio.write_dataframe(table, tmp_path / "points.gpkg", layer="points")
    return table, values.astype(np.uint8), (rows, cols, names), dense


def weights(model):
    return model.models[0].segmenter.state_dict()


def are_equal(first, second):
    return all(torch.equal(one, second[name]) for name, one in first.items())


def test_a_file_a_table_and_arrays_give_the_same_model(scene):
    table, values, arrays, dense = scene
    model = pointcover.fit("a.tif", "points.gpkg", **FOREST)
    assert model.classes == ("field", "sand")
    assert model.models[0].tile_set.gsds_m == (0.25,)
    found, _ = model.classify(values)
    assert (found == dense).mean() > 0.98
    others = [
        pointcover.fit(["a.tif"], table, **FOREST),
        pointcover.fit("a.tif", arrays, **FOREST),
        pointcover.fit(pointcover.ImageArray(values, PLACE, CRS), table.to_crs(4326), **FOREST),
        pointcover.fit(
            pointcover.ImageArray(values),
            [(*arrays[:2], [("field", "sand").index(one) for one in arrays[2]])],
            classes={"field": "#112233", "sand": "#FFEEDD"},
            **FOREST,
        ),
    ]
    for other in others:
        assert are_equal(weights(model), weights(other))
    assert others[-1].models[0].tile_set.classes.colours[0] == (17, 34, 51)
    again = pointcover.fit("a.tif", "points.gpkg", seed=2, **FOREST)
    assert not are_equal(weights(model), weights(again))


def test_a_fitted_model_maps_suggests_and_is_saved(scene, tmp_path):
    _, _, _, dense = scene
    model = pointcover.fit("a.tif", "points.gpkg", **FOREST)
    (made,) = model.map("a.tif", "maps")
    with rasterio.open(made.classes) as file:
        assert (file.read(1) == dense).mean() > 0.98
    found = model.suggest("a.tif", "next.gpkg", points=4, distance_px=8, edge_px=0)
    assert sum(found.layers.values()) == 4
    folder = model.save("model")
    opened = pointcover.open_model(folder)
    assert opened.classes == model.classes
    assert opened.models[0].sha256 == model.models[0].sha256
    assert are_equal(weights(model), weights(opened))
    before = made.classes.stat().st_mtime_ns
    assert opened.map("a.tif", "maps") == [made]
    assert made.classes.stat().st_mtime_ns == before, "the same model resumes its maps"
    with pytest.raises(FileExistsError, match=r"model\.pt exists.*replace=True"):
        model.save("model")
    model.save("model", replace=True)
    with pytest.raises(ValueError, match="a mean of 2 models is not saved as one"):
        pointcover.open_model("model", "model").save("both")


def test_a_saved_model_smooths_as_the_fitted_one_and_older_ones_do_not(scene):
    model = pointcover.fit("a.tif", "points.gpkg", **FOREST)
    checkpoint = model.models[0].checkpoint
    smoothing = checkpoint.classifier.smoothing
    assert (smoothing.radius_px, smoothing.band_stds) == (3, checkpoint.tile_set.std)
    found, confidence = model.classify(scene[1])
    folder = model.save("model")
    again, as_confident = pointcover.open_model(folder).classify(scene[1])
    assert np.array_equal(again, found)
    assert np.array_equal(as_confident, confidence)
    path = folder / "model.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    del described["classifier"]["smoothing"]
    path.write_text(json.dumps(described), encoding="utf-8")
    _, plain = pointcover.open_model(folder).classify(scene[1])
    assert (plain != confidence).mean() > 0.5


FILTERS = {"encoder": "none", "weights": "none"}
FILTERS |= {f"classifier.{key}": value for key, value in SMALL.items()}


@pytest.mark.parametrize(
    ("own", "tile_px"),
    [(FILTERS, 64), pytest.param({"classifier.scales": [1]}, 256, marks=pytest.mark.slow)],
)
def test_the_fit_is_that_of_the_stage(tmp_path, own, tile_px):
    """The same clicks and settings give the same weights, bit by bit, at edges of images, too."""
    generator = np.random.default_rng(5)
    tiles, clicks, images = [], [], []
    shape = 2 * tile_px + 32, 2 * tile_px + 44
    for number, split in enumerate(("train", "train", "val")):
        dense = np.zeros(shape, np.uint8)
        dense[:, tile_px + 20 * number :] = 1
        image = (70 + 110 * dense + generator.normal(0, 12, (3, *dense.shape))).clip(0, 255)
        mask = np.full_like(dense, IGNORE_INDEX)
        rows, cols = (generator.integers(0, side, 40) for side in shape)
        mask[rows, cols] = dense[rows, cols]
        name = f"o{number}"
        tiles += write_orthophoto(tmp_path, name, image.astype(np.uint8), mask, tile_px, split)
        if split == "train":
            rows, cols = np.nonzero(mask != IGNORE_INDEX)
            clicks.append((rows, cols, mask[rows, cols]))
            images.append(tmp_path / "images" / "train" / f"{name}.tif")
    tiles = [replace(tile, pixels=tile.pixels[: len(CLASSES)]) for tile in tiles]
    train = [tile for tile in tiles if tile.split == "train"]
    assert {tile.width for tile in train} == {tile_px, 44}
    labels = SparseLabels(train, tmp_path / "masks", has_propagated=False)
    tile_set = replace(TILE_SET, classes=CLASSES, size_px=tile_px)
    data = TrainingData(tile_set, tiles, tmp_path / "images", tmp_path, tmp_path / "pseudo", labels)
    values = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["train"]
    settings = TrainSettings.model_validate(change(values, own))
    task = TrainingTask(make_fabric("cpu", "fp32"), settings, 7, data, MACHINE)
    expected = fit_pixel_classifier(task, labels, Callbacks(lambda _: None))
    given = {key.replace(".", "__"): value for key, value in own.items()} | {"tile_px": tile_px}
    model = pointcover.fit(images, clicks, classes=CLASSES.names, seed=7, **given)
    found, wanted = weights(model), expected.weights
    fitted = [name for name in wanted if name.startswith("network.")]
    assert fitted
    assert are_equal({name: wanted[name] for name in fitted}, found)
    assert model.models[0].checkpoint.label_fractions == expected.class_fractions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "none.tif"}, "none.tif"),
        ({"images": np.zeros((3, 8, 8))}, "got an array as image"),
        ({"points": "none.gpkg"}, "none.gpkg does not exist"),
        ({"points": 3}, "got points of type int, wanted a path, a GeoDataFrame"),
        ({"points": ([1], [2], [0])}, r"points have classes such as 0: say with `classes`"),
        ({"points": ([1, 2], [2, 900], ["a", "b"])}, "columns 900 are outside the image"),
        ({"points": ([1, 2], [2], ["a", "b"])}, "wanted arrays of one length"),
        ({"points": ([0.5, 2.0], [2, 3], ["a", "b"])}, "wanted whole numbers from 0"),
        ({"points": [([1], [1], ["a"]), ([1], [1], ["b"])]}, "points of 2 image.s., but 1"),
        ({"classes": ("field", "water")}, "has values that are not classes: 'sand'"),
        ({"model": "unet", "encoder": "resnet18"}, "model 'unet' is a network"),
        ({"modell": "unet"}, "modell: this key is unknown; did you mean 'model'"),
        ({"model__trees": 3}, "'model' is no section"),
        ({"seed": -1}, "seed"),
        ({"reading": pointcover.ReadingSettings(bands=(4,))}, "has 3 band.s., wanted 4"),
        ({"reading": pointcover.ReadingSettings(resample=True)}, "set downsample"),
    ],
)
def test_what_does_not_go_together_is_one_message(scene, changes, message):
    given = {"images": "a.tif", "points": "points.gpkg"} | FOREST | changes
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pointcover.fit(given.pop("images"), given.pop("points"), **given)


def test_tables_without_what_is_needed_are_refused(scene):
    table = scene[0]
    for wrong, message in (
        (table.rename(columns={"class": "kind"}), r"have no column 'class' of classes, .*: rename"),
        (table.set_crs(None, allow_override=True), "has no CRS"),
        (table[table["class"] == "sand"], "wanted 2 to 64 classes: label another class$"),
        (table.translate(1e5).to_frame("geometry").assign(**{"class": table["class"]}), "none of"),
    ):
        with pytest.raises(ValueError, match=message):
            pointcover.fit("a.tif", wrong, **FOREST)
    pyogrio.write_dataframe(table.rename(columns={"class": "kind"}), "kinds.gpkg", layer="points")
    with pytest.raises(ValueError, match=r"no column 'class': rename the column of the classes to"):
        pointcover.fit("a.tif", "kinds.gpkg", **FOREST)
    with pytest.raises(ValueError, match=r"wanted \(bands, height, width\)"):
        pointcover.ImageArray(np.zeros((8, 8)))


@pytest.mark.parametrize("kind", [float, int, str])
def test_classes_that_are_numbers_need_names(scene, kind):
    table, _, (rows, cols, names), _ = scene
    ids = [kind(1 + (name == "sand")) for name in names]
    numbered = table.assign(**{"class": ids})
    pyogrio.write_dataframe(numbered, "numbers.gpkg", layer="points")
    for points in (numbered, "numbers.gpkg", (rows, cols, ids)):
        with pytest.raises(ValueError, match=r"classes such as 1.*2.*: say with `classes` what"):
            pointcover.fit("a.tif", points, **FOREST)
    classes = ("none", "field", "sand")
    assert pointcover.fit("a.tif", numbered, classes=classes, **FOREST).classes == classes


def test_the_gsd_of_images_without_a_crs_is_that_of_the_reading(scene):
    _, values, arrays, _ = scene
    given = pointcover.ReadingSettings(gsd_m=0.25)
    place = pointcover.ImageArray(values)
    for own, expected in (({}, (0.25,)), ({"downsample": 2}, (0.5,))):
        model = pointcover.fit(place, arrays, reading=given, **own, **FOREST)
        assert model.models[0].tile_set.gsds_m == expected
    assert pointcover.fit(place, arrays, **FOREST).models[0].tile_set.gsds_m == ()
    both = pointcover.fit(["a.tif", place], [arrays, arrays], reading=given, **FOREST)
    assert both.models[0].tile_set.gsds_m == (0.25,)
    with pytest.raises(
        ValueError, match=r"a\.tif has a GSD of 0\.25 m by its CRS, but .* gsd_m 3:"
    ):
        pointcover.fit("a.tif", arrays, reading=pointcover.ReadingSettings(gsd_m=3), **FOREST)


@pytest.mark.slow
def test_the_usual_settings_take_seconds(scene):
    """Those of a new project: an encoder and filters."""
    model = pointcover.fit("a.tif", "points.gpkg")
    assert model.models[0].checkpoint.network.encoder == "tu-tf_efficientnet_lite0"
    found, _ = model.classify(scene[1])
    assert (found == scene[3]).mean() > 0.97
