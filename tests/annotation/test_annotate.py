"""The annotate stage as a whole: every sampler and propagator, its rasters."""

import json
import logging
import shutil

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from pointcover.annotation.propagation import PROPAGATORS
from pointcover.annotation.samplers import SAMPLERS
from pointcover.cli.app import app
from tests.imagery import CRS, draw_image, read_tree, write_raster

N = 255
KINDS = ("clicks", "masks", "sources", "confidence")


@pytest.fixture
def tiled(project, blank_pictures):
    """A project whose tiles are cut."""
    project.set({"points": 15})
    project.run_once("download", "tile")
    return project


def read(project, kind, split="train", name="a"):
    with rasterio.open(project.root / "data" / "sparse" / kind / split / f"{name}.tif") as file:
        assert file.crs == "EPSG:2180"
        return file.read(1)


def check_rasters(project):
    """Compare the four rasters of an orthophoto with each other; return them."""
    clicks, masks, sources, confidence = (read(project, kind) for kind in KINDS)
    clicked = clicks != N
    assert clicked.any()
    assert np.array_equal(masks[clicked], clicks[clicked])
    assert np.array_equal(sources == 1, clicked)
    assert np.array_equal(sources == 2, (masks != N) & ~clicked)
    assert np.array_equal(confidence > 0, masks != N)
    assert (confidence[clicked] == 255).all()
    return clicks, masks, sources, confidence


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_clicks_on_what_the_dense_mask_says(tiled, sampler):
    classes = json.loads((tiled.root / "data/tiles/tiles.json").read_text())["classes"]
    positive = classes[1]["name"] if sampler == "positive" else None
    tiled.set(
        {
            "annotate.sampler": sampler,
            "annotate.propagator": "none",
            "annotate.positive_class": positive,
        }
    )
    tiled.run("annotate")
    clicks = check_rasters(tiled)[0]
    with rasterio.open(tiled.data / "masks" / "a.tif") as file:
        dense = file.read(1)
    assert np.array_equal(dense[clicks != N], clicks[clicks != N])
    if positive:
        assert set(clicks[clicks != N].tolist()) == {1}


@pytest.mark.parametrize("propagator", PROPAGATORS)
def test_every_propagator_leaves_rasters_that_agree(tiled, propagator):
    # The masks are noise: clicks in a superpixel hardly agree.
    tiled.set({"annotate.propagator": propagator, "annotate.superpixel.min_fraction": 0.3})
    tiled.run("annotate")
    _, masks, _, _ = check_rasters(tiled)
    report = json.loads((tiled.root / "metrics/annotate.json").read_text())["train"]
    assert report["labelled_pixels"] >= (masks != N).sum()
    assert (report["propagated_pixels"] > 0) == (propagator != "none")
    assert (tiled.root / "metrics/annotate/purity.png").read_bytes().startswith(b"\x89PNG")


def test_errors_of_the_annotator_are_counted(tiled):
    tiled.set({"annotate.label_noise_rate": 0.5, "annotate.propagator": "none"})
    tiled.run("annotate")
    report = json.loads((tiled.root / "metrics/annotate.json").read_text())["train"]
    assert 0.3 < report["wrong_clicks"] / report["clicks"] < 0.7
    assert report["purity"] == pytest.approx(1 - report["wrong_clicks"] / report["clicks"])


@pytest.mark.parametrize(
    ("unit", "points"), [("per_tile", 7), ("per_class", 7), ("percent", 2), ("total", 40)]
)
def test_a_unit_says_what_points_count(tiled, unit, points):
    tiled.set({"annotate.unit": unit, "points": points, "annotate.propagator": "none"})
    tiled.run("annotate")
    report = json.loads((tiled.root / "metrics/annotate.json").read_text())
    tiles = sum(report[split]["tiles"] for split in ("train", "val"))
    clicks = sum(report[split]["clicks"] for split in ("train", "val"))
    classes = len(report["train"]["by_class"])
    if unit == "total":
        assert clicks == points
    elif unit == "percent":
        assert report["train"]["labelled_fraction"] == pytest.approx(0.02, abs=0.002)
    else:
        assert (
            points * tiles * 0.9
            <= clicks
            <= points * tiles * (classes if unit == "per_class" else 1)
        )


def test_a_class_that_the_dataset_has_not_is_refused_with_those_it_has(tiled):
    tiled.set({"annotate.sampler": "positive", "annotate.positive_class": "lava"})
    assert "annotate.positive_class: got 'lava', wanted a class" in tiled.refusal("annotate")
    tiled.set(
        {
            "annotate.sampler": "uniform",
            "annotate.positive_class": None,
            "annotate.propagator": "nearest",
            "annotate.nearest.class_radius_px": {"lava": 3},
        }
    )
    assert "annotate.nearest.class_radius_px: got 'lava'" in tiled.refusal("annotate")


def test_clicks_on_one_class_alone_are_warned_of(tiled, caplog):
    names = json.loads((tiled.root / "data/tiles/tiles.json").read_text())["classes"]
    tiled.set({"annotate.sampler": "positive", "annotate.positive_class": names[0]["name"]})
    with caplog.at_level(logging.WARNING):
        tiled.run("annotate")
    assert "predicts it everywhere" in caplog.text


# Real annotations

CLASSES = ("land", "water", "road")


@pytest.fixture
def surveyed(project, blank_pictures):
    """Three orthophotos side by side, and a GeoPackage with a point on every 20th row and column.

    The class of a point at (row, column) is (row // 20 + column // 20) % 3.
    """
    points, names = [], []
    for number, name in enumerate("abc"):
        place = rasterio.transform.from_origin(500_000 + 100 * number, 600_000, 0.25, 0.25)
        write_raster(project.data / "images" / f"{name}.tif", draw_image(100, 130), transform=place)
        for row in range(10, 100, 20):
            for col in range(10, 130, 20):
                points.append(shapely.Point(*(place @ (col + 0.5, row + 0.5))))
                names.append(CLASSES[(row // 20 + col // 20) % 3])
    path = project.root / "survey" / "survey.gpkg"
    path.parent.mkdir()
    geopandas.GeoDataFrame({"kind": names}, geometry=points, crs=CRS).to_file(path)
    project.set(
        {
            "annotations": str(path.parent),
            "annotate.vectors.column": "kind",
            "annotate.propagator": "none",
        }
    )
    return project


def wanted_clicks():
    clicks = np.full((100, 130), N, np.uint8)
    rows, cols = np.meshgrid(range(10, 100, 20), range(10, 130, 20), indexing="ij")
    clicks[rows, cols] = (rows // 20 + cols // 20) % 3
    return clicks


@pytest.mark.slow
def test_without_dense_masks_annotations_alone_train_and_are_scored_on(surveyed):
    shutil.rmtree(surveyed.data / "masks")
    surveyed.write_card(masks=None)
    surveyed.set(
        {
            "annotate.sampler": "none",
            "annotate.propagator": "link",
            "train.epochs": 1,
            "annotate.link.distance_px": 60,
        }
    )
    surveyed.run("download", "tile", "annotate")
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        assert np.array_equal(read(surveyed, "clicks", split, name), wanted_clicks())
    propagated = [
        (read(surveyed, "sources", *where) == 2).sum() for where in (("train", "a"), ("test", "c"))
    ]
    assert propagated[0] > 0
    assert propagated[1] == 0  # what is scored on is not propagated
    report = json.loads((surveyed.root / "metrics/annotate.json").read_text())
    assert (report["annotations"]["features"], report["annotations"]["placed"]) == (90, 90)
    assert report["train"]["purity"] is None  # nobody knows, so there is nothing to draw
    assert not (surveyed.root / "metrics/annotate/purity.png").exists()
    surveyed.run("train", "evaluate")
    scores = json.loads((surveyed.root / "metrics/evaluate.json").read_text())
    assert scores["scored_on"] == "held-out annotations"
    assert scores["pixels"] == 30
    assert set(scores["boundary_f1"].values()) == {None}
    assert "held-out annotations do not show" in scores["no_boundary_f1"]
    learned = json.loads((surveyed.root / "models/model.json").read_text())["label_fractions"]
    assert sum(learned.values()) == pytest.approx(1)
    assert min(learned.values()) > 0
    surveyed.set({"evaluate.priors": learned})  # of a land that has them nothing is corrected
    surveyed.run("evaluate")
    again = json.loads((surveyed.root / "metrics/evaluate.json").read_text())
    assert again.pop("priors") == learned
    assert again.pop("prior_strength") == 1
    assert again["by_class"] == scores["by_class"]
    surveyed.set({"evaluate.priors": {}, "evaluate.oracle": True})
    assert "test split has none: set it to false" in surveyed.refusal("evaluate")
    surveyed.set({"evaluate.oracle": False, "evaluate.erode_px": 2})
    assert "evaluate.erode_px is 2, which needs dense masks" in surveyed.refusal("evaluate")


def test_with_dense_masks_real_clicks_join_simulated_ones_and_win(surveyed):
    surveyed.set({"points": 1000})
    for number, name in enumerate("abc"):
        place = rasterio.transform.from_origin(500_000 + 100 * number, 600_000, 0.25, 0.25)
        dense = np.full((100, 130), 2, np.uint8)
        write_raster(surveyed.data / "masks" / f"{name}.tif", dense, transform=place)
    surveyed.run("download", "tile", "annotate")
    clicks = read(surveyed, "clicks")
    real = wanted_clicks()
    assert np.array_equal(clicks[real != N], real[real != N])
    others = clicks[(real == N) & (clicks != N)]
    assert others.size > 2000
    assert set(others.tolist()) == {2}
    assert not (surveyed.root / "data/sparse/clicks/test").exists()
    report = json.loads((surveyed.root / "metrics/annotate.json").read_text())
    assert report["train"]["wrong_clicks"] == ((real != N) & (real != 2)).sum()


def test_no_simulated_click_lands_where_real_annotations_conflict(surveyed):
    """With the sampler dense, every other pixel is clicked."""
    table = geopandas.read_file(surveyed.root / "survey" / "survey.gpkg")
    other = table.iloc[[0]].assign(kind="water")  # the first is of the class land
    geopandas.pd.concat([table, other]).to_file(surveyed.root / "survey" / "survey.gpkg")
    surveyed.set({"annotate.sampler": "dense"})
    for number, name in enumerate("abc"):
        place = rasterio.transform.from_origin(500_000 + 100 * number, 600_000, 0.25, 0.25)
        dense = np.full((100, 130), 2, np.uint8)
        write_raster(surveyed.data / "masks" / f"{name}.tif", dense, transform=place)
    surveyed.run("download", "tile", "annotate")
    rows, cols = np.nonzero(read(surveyed, "clicks") == N)
    assert (rows.tolist(), cols.tolist()) == ([10], [10])
    report = json.loads((surveyed.root / "metrics/annotate.json").read_text())
    assert report["annotations"]["conflict_pixels"] == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_the_points_of_a_run_read_back_are_the_same_labels_also_where_orthophotos_overlap(
    surveyed, seed
):
    generator = np.random.default_rng(seed)
    for number, name in enumerate("abcde"):
        # Each lies 10 m beside the one before, and is 32.5 m wide.
        place = rasterio.transform.from_origin(500_000 + 10 * number, 600_000, 0.25, 0.25)
        dense = generator.integers(0, 3, (100, 130)).astype(np.uint8)
        write_raster(
            surveyed.data / "images" / f"{name}.tif", draw_image(100, 130), transform=place
        )
        write_raster(surveyed.data / "masks" / f"{name}.tif", dense, transform=place)
    surveyed.set(
        {
            "annotations": "sources",
            "annotate.vectors.column": "class",
            "seed": seed,
            "annotate.propagator": "link",
            "points": 60,
        }
    )
    surveyed.run("download", "tile", "annotate")
    sparse = surveyed.root / "data/sparse"
    before = read_tree(sparse)
    assert len(list((sparse / "masks").glob("*/*.tif"))) == 4  # the fifth is the test split
    done = CliRunner().invoke(app, ["points", "drawn/points.gpkg"])
    assert done.exit_code == 0, done.output
    surveyed.set({"annotations": "drawn", "annotate.sampler": "none"})
    surveyed.run("annotate")
    assert (sparse / "left_out.csv").read_text() == "feature,reason\n"
    (sparse / "left_out.csv").unlink()
    assert read_tree(sparse) == before


@pytest.mark.parametrize(
    ("card", "changes", "said"),
    [
        ({"masks": None}, {}, "the dataset has no dense masks that a simulated annotator needs"),
        ({}, {"annotate.sampler": "none", "annotations": "sources"}, "is 'none', and annotations"),
    ],
)
def test_labels_that_cannot_come_from_anywhere_are_refused(surveyed, card, changes, said):
    shutil.rmtree(surveyed.data / "masks")
    if not card:
        for number, name in enumerate("abc"):
            place = rasterio.transform.from_origin(500_000 + 100 * number, 600_000, 0.25, 0.25)
            zeros = np.zeros((100, 130), np.uint8)
            write_raster(surveyed.data / "masks" / f"{name}.tif", zeros, transform=place)
    surveyed.write_card(**card)
    surveyed.set(changes)
    assert said in surveyed.refusal("download", "tile", "annotate")


def test_every_feature_that_is_left_out_is_listed_with_its_reason(surveyed):
    shutil.rmtree(surveyed.data / "masks")
    table = geopandas.read_file(surveyed.root / "survey" / "survey.gpkg")
    point = table.geometry[0]  # of the class land, which one of another class meets
    more = [None, point, *(shapely.Point(x, 0) for x in range(12))]
    added = geopandas.GeoDataFrame({"kind": ["water"] * len(more)}, geometry=more, crs=CRS)
    geopandas.pd.concat([table, added]).to_file(surveyed.root / "survey" / "survey.gpkg")
    surveyed.write_card(masks=None)
    surveyed.set({"annotate.sampler": "none"})
    surveyed.run("download", "tile", "annotate")
    assert not (surveyed.root / "metrics/annotate/purity.png").exists()  # without masks
    lines = (surveyed.root / "data/sparse/left_out.csv").read_text().splitlines()
    assert lines == [
        "feature,reason",
        "91,without_geometry",
        *(f"{fid},outside" for fid in range(93, 105)),
        "1,conflicting",
        "92,conflicting",
    ]


def test_features_on_a_test_split_with_dense_masks_are_said_to_be_there(surveyed, caplog):
    for number, name in enumerate("abc"):
        place = rasterio.transform.from_origin(500_000 + 100 * number, 600_000, 0.25, 0.25)
        dense = np.ones((100, 130), np.uint8)
        write_raster(surveyed.data / "masks" / f"{name}.tif", dense, transform=place)
    surveyed.set({"annotate.sampler": "none"})
    with caplog.at_level(logging.INFO):
        surveyed.run("download", "tile", "annotate")
    assert "30 lie on the test split alone, which is scored on its dense masks" in caplog.text
    assert "outside" not in caplog.text
    lines = (surveyed.root / "data/sparse/left_out.csv").read_text().splitlines()[1:]
    assert lines == [f"{fid},scored_on_masks" for fid in range(61, 91)]
    table = geopandas.read_file(surveyed.root / "survey" / "survey.gpkg")
    table[table.geometry.x >= 500_200].to_file(surveyed.root / "survey" / "survey.gpkg")
    said = surveyed.refusal("annotate")
    assert "is of use: 0 of 30 features label pixels; 30 lie on the test split alone" in said
    assert "Annotate regions of train and val, or change `split` in the card" in said


def test_labels_that_all_lie_elsewhere_than_on_the_train_split_are_refused(surveyed):
    table = geopandas.read_file(surveyed.root / "survey" / "survey.gpkg")
    table[table.geometry.x >= 500_100].to_file(surveyed.root / "survey" / "survey.gpkg")
    shutil.rmtree(surveyed.data / "masks")
    surveyed.write_card(masks=None)
    surveyed.set({"annotate.sampler": "none"})
    said = surveyed.refusal("download", "tile", "annotate")
    assert said.startswith("no label lies on the train split, which has the regions images/a.tif:")


@pytest.mark.slow
def test_a_test_split_with_nothing_to_score_on_is_refused(surveyed):
    shutil.rmtree(surveyed.data / "masks")
    table = geopandas.read_file(surveyed.root / "survey" / "survey.gpkg")
    table[table.geometry.x < 500_200].to_file(surveyed.root / "survey" / "survey.gpkg")
    surveyed.write_card(masks=None)
    surveyed.set({"annotate.sampler": "none", "train.epochs": 1})
    message = surveyed.refusal("download", "tile", "annotate", "train", "evaluate")
    assert "neither dense masks nor real annotations to score on" in message
