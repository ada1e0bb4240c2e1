"""Labels that were made wrong are found in a workspace, and on images with a points file."""

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import yaml
from rasterio.transform import Affine
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.image_labels.source import LabelSource, LabelTile
from pointcover.label_errors.check import LabelCheck
from pointcover.label_errors.cross_validation import _trusted_of, classifier_of
from pointcover.label_errors.doubted_file import _place
from pointcover.label_errors.labels import (
    Labels,
    _split_labels,
    read_labels,
)
from pointcover.label_errors.settings import LabelErrorSettings
from pointcover.label_errors.workspace import find_workspace_labels
from pointcover.labels import IGNORE_INDEX
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import PixelFeatureSettings
from pointcover.raster.raster_io import RasterInfo, RasterReader
from pointcover.tileset.tiles import TileSet, write_index, write_tile_set
from pointcover.training.classifiers.labelled_pixels import LabelledWindow
from pointcover.training.settings import TrainSettings
from tests.classifiers import FILTERS, SMALL
from tests.imagery import CRS, PLACE, ROOT, change, write_raster
from tests.tile_sets import CLASSES, write_easy_tiles

TRAIN = {
    "train.model": "random_forest",
    "train.encoder": "none",
    "train.weights": "none",
} | {f"train.classifier.{key}": value for key, value in SMALL.items()}
TILE_SET = TileSet(CLASSES, 64, (0.25,), (0.5,) * 3, (0.2,) * 3, (0, 255), (1, 2, 3))


def params(folder: Path, **changes) -> TrainSettings:
    """Write params.yaml, and return the section `train`."""
    values = change(yaml.safe_load((ROOT / "params.yaml").read_text("utf-8")), TRAIN | changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return TrainSettings.model_validate(values["train"])


def flip(path: Path, every: int) -> set[tuple[str, int, int]]:
    """Make every so-many-th label of a raster wrong; return image, row and column of these."""
    with RasterReader(path).dataset as source:
        mask, profile = source.read(1), source.profile
    rows, cols = np.nonzero(mask != IGNORE_INDEX)
    mask[rows[::every], cols[::every]] = 1 - mask[rows[::every], cols[::every]]
    with rasterio.open(path, "w", **profile) as target:
        target.write(mask, 1)
    return {(path.stem, int(r), int(c)) for r, c in zip(rows[::every], cols[::every], strict=True)}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Eight tiles with 60 labels each, every tenth of them wrong, in the working directory."""
    monkeypatch.chdir(tmp_path)
    data, sparse = tmp_path / "data" / "tiles", tmp_path / "data" / "sparse"
    tiles = write_easy_tiles(data, 6, clicks=60)
    tiles += write_easy_tiles(data, 2, clicks=60, split="val")
    sparse.mkdir()
    (data / "masks").rename(sparse / "clicks")
    write_tile_set(data / "tiles.json", TILE_SET)
    tiles = [replace(tile, pixels=tile.pixels[:2]) for tile in tiles]
    write_index(sparse / "index.csv", tiles, CLASSES.names)
    params(tmp_path)
    return tmp_path


def wrong_labels(workspace: Path) -> set[tuple[str, int, int]]:
    found = set()
    for path in sorted((workspace / "data" / "sparse" / "clicks").rglob("*.tif")):
        found |= flip(path, 10)
    return found


def run(*args):
    return CliRunner().invoke(app, ["check-labels", *map(str, args)])


def test_wrong_labels_of_a_workspace_are_listed(workspace):
    wrong = wrong_labels(workspace)
    done = run("--out", "doubted.gpkg")
    assert done.exit_code == 0, done.stderr
    table = pyogrio.read_dataframe(workspace / "doubted.gpkg", layer="doubted")
    listed = set(zip(table["image"], table["row"], table["col"], strict=True))
    assert len(listed & wrong) / len(listed) > 0.8
    assert len(listed & wrong) / len(wrong) > 0.6
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert set(table["split"]) == {"train", "val"}
    assert (table["class"] != table["suggested"]).all()
    assert (table["p_suggested"] >= table["p_given"]).all()
    of_classes = table[["p: dark", "p: bright"]].to_numpy()
    assert of_classes.sum(axis=1) == pytest.approx(1, abs=1e-3)
    counts = [line.split() for line in done.stdout.splitlines()]
    assert sum(int(words[1]) for words in counts) == len(table)
    assert (workspace / "doubted.qml").is_file()
    assert run("--out", "doubted.gpkg").exit_code == 1  # it is there


@pytest.mark.parametrize(
    ("transform", "place"),
    [
        (Affine.scale(2), (9.0, -5.0)),
        (Affine(0.5, 0, 100, 0, -0.5, 300), (102.25, 298.75)),  # a world file, but no CRS
    ],
)
def test_points_without_a_crs_lie_where_qgis_shows_the_image(transform, place):
    grid = RasterInfo(Path("a.tif"), 9, 9, 3, "uint8", None, transform, has_palette=False)
    labels = Labels(None, None, None, np.array([2]), np.array([4]), None, None)
    assert _place(grid, labels, 0) == place


def test_no_tile_is_on_both_sides_of_a_fold(workspace, monkeypatch):
    """Of each fold the fit sees no pixel of a tile that it scores, and features are kept."""
    seen = []
    source = find_workspace_labels(workspace / "data/tiles", workspace / "data/sparse")
    check = LabelCheck.prepare(source, params(workspace), LabelErrorSettings(folds=4))
    labels = check.read()
    fit = type(check.validation.fit).fit

    def spy(self, features, pixels, band_stds):
        seen.append(set(pixels.groups.tolist()))
        return fit(self, features, pixels, band_stds)

    monkeypatch.setattr(type(check.validation.fit), "fit", spy)
    monkeypatch.setattr("pointcover.label_errors.labels.collect", lambda *_: 1 / 0)
    check.judge(labels)
    assert len(seen) == 4
    everything = set(labels.pixels.groups.tolist())
    assert [len(everything - groups) for groups in seen] == [2, 2, 2, 2]
    assert set.union(*(everything - groups for groups in seen)) == everything


def test_a_second_round_is_fitted_without_what_the_first_doubted(workspace, monkeypatch):
    wrong_labels(workspace)
    source = find_workspace_labels(workspace / "data/tiles", workspace / "data/sparse")
    train, counts = params(workspace), []
    once = LabelCheck.prepare(source, train, LabelErrorSettings(folds=2))
    labels = once.read()
    fit = type(once.validation.fit).fit

    def spy(self, features, pixels, band_stds):
        counts.append(len(pixels.classes))
        return fit(self, features, pixels, band_stds)

    monkeypatch.setattr(type(once.validation.fit), "fit", spy)
    first = once.judge(labels)
    twice = LabelCheck.prepare(source, train, LabelErrorSettings(folds=2, rounds=2)).judge(labels)
    assert counts[:2] == counts[2:4]
    assert sum(counts[:2]) - sum(counts[4:]) == len(first.doubted) > 0
    assert len(twice.is_known) == twice.is_known.sum()
    done = run("--out", "doubted.gpkg", "--rounds", "2", "--folds", "2")
    assert done.exit_code == 0, done.stderr
    assert "layer 'doubted'" in done.stderr


def test_a_class_of_which_every_label_is_doubted_stays_known():
    classes = np.array([0, 0, 1, 1, 2])
    trusted = np.array([True, False, False, False, True])
    assert _trusted_of(np.arange(5), classes, trusted).tolist() == [0, 2, 3, 4]
    assert _trusted_of(np.array([1, 4]), classes, trusted).tolist() == [1, 4]


def test_the_same_labels_are_doubted_again(workspace):
    wrong_labels(workspace)
    source = find_workspace_labels(workspace / "data/tiles", workspace / "data/sparse")
    check = LabelCheck.prepare(source, params(workspace), LabelErrorSettings())
    assert check.judge(check.read()).doubted == check.judge(check.read()).doubted


def test_a_stroke_is_one_label(tmp_path):
    clicks = np.full((8, 8), IGNORE_INDEX, np.uint8)
    clicks[1, 1:6] = 0
    clicks[2, 5] = 1
    clicks[6, 6] = 0
    tile = LabelTile("a", "a", "a", "", None, 100, 200, clicks)
    found = _split_labels(tile, clicks)
    assert found.numbers.tolist() == [0, 0, 0, 0, 0, 2, 1]
    assert found.middles.tolist() == [[101, 203], [106, 206], [102, 205]]


def test_a_class_in_one_tile_is_not_judged_and_said(workspace):
    clicks = workspace / "data" / "sparse" / "clicks"
    for path in sorted(clicks.rglob("*.tif"))[1:]:
        with RasterReader(path).dataset as source:
            mask, profile = source.read(1), source.profile
        mask[mask == 1] = IGNORE_INDEX
        with rasterio.open(path, "w", **profile) as target:
            target.write(mask, 1)
    done = run("--out", "doubted.gpkg")
    assert done.exit_code == 0, done.stderr
    assert "labels of bright are not judged" in done.stderr
    assert "bright: 0 of" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--out", "doubted.csv"), "does not end in .gpkg"),
        (("--out", "a.gpkg", "x.tif"), "points and images go together"),
        (("--out", "a.gpkg", "--clicks", "x.gpkg"), "points and images go together"),
        (("--out", "a.gpkg", "--sparse", "nowhere"), "index.csv does not exist"),
        (("--out", "a.gpkg", "--params", "nothing.yaml"), "nothing.yaml does not exist"),
    ],
)
def test_bad_input_has_one_message(workspace, args, message):
    done = run(*args)
    assert done.exit_code == 1
    assert message in done.stderr


def test_a_network_is_checked_by_pixel_classifiers():
    values = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["train"]
    network = {"model": "unet", "encoder": "resnet18", "weights": "imagenet"}
    chosen = classifier_of(TrainSettings.model_validate(values | network))
    assert (chosen.model, chosen.encoder, chosen.weights) == ("classifier_mean", "none", "none")
    own = TrainSettings.model_validate(values)
    assert classifier_of(own) is own


# Points on images --------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Two images, bright on the right, and points of which some are wrong."""
    monkeypatch.chdir(tmp_path)
    params(tmp_path)
    generator = np.random.default_rng(0)
    points, classes, names = [], [], []
    for number, name in enumerate("ab"):
        dense = np.zeros((200, 240), np.uint8)
        dense[:, 110 + 20 * number :] = 1
        values = 70 + 110 * dense + generator.normal(0, 12, (3, 200, 240))
        shift = PLACE @ PLACE.translation(400 * number, 0)
        write_raster(
            tmp_path / f"{name}.tif", values.clip(0, 255).astype(np.uint8), transform=shift
        )
        rows, cols = generator.integers(0, 200, 80), generator.integers(0, 240, 80)
        points += [shift @ (col + 0.5, row + 0.5) for row, col in zip(rows, cols, strict=True)]
        given = dense[rows, cols].copy()
        given[:8] = 1 - given[:8]
        classes += [("field", "sand")[one] for one in given]
        names += [f"{name}" for _ in given]
    table = geopandas.GeoDataFrame(
        {"kind": classes, "wrong": ([True] * 8 + [False] * 72) * 2},
        geometry=shapely.points(points),
        crs=CRS,
    )
    pyogrio.write_dataframe(table, tmp_path / "points.gpkg", layer="points")
    return table


POINTS = ("--clicks", "points.gpkg", "--clicks-column", "kind", "--tile-px", "64")


def test_points_of_a_file_are_checked_on_images(images):
    done = run("a.tif", "b.tif", *POINTS, "--out", "doubted.gpkg")
    assert done.exit_code == 0, done.stderr
    assert "160 of 160 features label pixels" in done.stderr
    found = pyogrio.read_dataframe("doubted.gpkg", layer="doubted")
    assert found.crs.to_epsg() == 2180
    wrong = images[images["wrong"]]
    near = shapely.STRtree(wrong.geometry.to_numpy()).query(
        found.geometry.to_numpy(), predicate="dwithin", distance=0.2
    )
    assert len(set(near[0].tolist())) / len(found) > 0.75
    assert len(set(near[1].tolist())) / len(wrong) > 0.6
    assert set(found["image"]) == {"a", "b"}
    assert set(found["class"]) == {"field", "sand"}


def test_images_may_be_regions_and_reduced(images):
    done = run(
        "a.tif", "b.tif", *POINTS, "--out", "d.gpkg", "--group-by", "region", "--downsample", "2"
    )
    assert done.exit_code == 0, done.stderr
    found = pyogrio.read_dataframe("d.gpkg", layer="doubted")
    assert found["row"].max() < 100


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.tif", *POINTS, "--group-by", "region"), "all labels lie in one region"),
        (("a.tif", "a.tif", *POINTS), "several images are called a"),
        (
            ("a.tif", "--clicks", "points.gpkg"),
            "has no column 'class': name another column (--clicks-column)",
        ),
        (("a.tif", *POINTS, "--bands", "1,4"), "has 3 band(s), wanted 1, 4"),
        (("none.tif", *POINTS), "none.tif does not exist"),
    ],
)
def test_bad_images_have_one_message(images, args, message):
    done = run(*args, "--out", "d.gpkg")
    assert done.exit_code == 1
    assert message in done.stderr


def test_labels_of_one_class_are_refused(images):
    table = images[images["kind"] == "sand"]
    pyogrio.write_dataframe(table, "points.gpkg", layer="points")
    done = run("a.tif", *POINTS, "--out", "d.gpkg")
    assert "has 1 values (sand), wanted 2 to 64 classes" in done.stderr


def test_thinned_labels_keep_their_places():
    """Of more labels than `max_pixels`, those that are left lie where they were."""
    generator = np.random.default_rng(0)
    clicks = np.full((40, 40), IGNORE_INDEX, np.uint8)
    clicks[::2, ::2] = generator.integers(0, 2, (20, 20))
    tile = LabelTile("a", "a", "a", "", None, 5, 7, clicks)
    image = generator.integers(0, 255, (3, 40, 40), np.uint8)
    source = LabelSource([tile], CLASSES, 3, lambda _: iter([LabelledWindow(image, clicks, "a")]))
    features = PixelFeatures(PixelFeatureSettings(filter_bank=FILTERS), 3)
    labels = read_labels(source, features, "tile", 50, 1)
    assert len(labels.class_ids) == len(labels.pixels.classes) == 50
    at = clicks[labels.rows - 5, labels.cols - 7]
    assert at.tolist() == labels.class_ids.tolist()
