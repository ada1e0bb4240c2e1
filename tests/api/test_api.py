"""The Python interface does what the command line does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import pointcover
from pointcover.cli.app import app
from pointcover.project.template import project_files
from tests.assessment.maps import NAMES, draw_ids, label, write_map
from tests.imagery import ROOT, write_raster
from tests.map_models import CLASSES, save_model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model and two images, in the working directory."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "models")
    generator = np.random.default_rng(3)
    for number, name in enumerate(("north", "south")):
        values = generator.integers(0, 256, (3, 96, 80), np.uint8)
        transform = rasterio.transform.from_origin(500_000, 600_000 - 100 * number, 0.25, 0.25)
        write_raster(tmp_path / f"{name}.tif", values, crs="EPSG:2180", transform=transform)
    return tmp_path


def run(*args):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, done.output
    return done


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_ten_names_are_public():
    """More would be a library to learn. Other modules may change without notice."""
    assert sorted(pointcover.__all__) == [
        "ImageArray",
        "Map",
        "Model",
        "Project",
        "ReadingSettings",
        "__version__",
        "assess",
        "fit",
        "open_model",
        "sample",
    ]


@pytest.mark.slow
def test_names_are_imported_when_they_are_used():
    code = """
import sys
import pointcover
assert not {"torch", "rasterio", "pydantic"} & set(sys.modules)
for name in pointcover.__all__:
    assert getattr(pointcover, name) is not None, name
assert "rasterio" in sys.modules
assert not {"torch", "timm", "mlflow", "dvc"} & set(sys.modules)
sys.modules["torch"] = None
try:
    pointcover.fit("a.tif", ([1], [1], ["field"]))
except ModuleNotFoundError as error:
    assert str(error).startswith("pointcover.fit needs the package 'torch'"), error
else:
    raise AssertionError("fitted without torch")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="has no attribute 'open_modell'"):
        _ = pointcover.open_modell


def test_a_map_is_that_of_the_command_line(folder):
    run("predict", "models", "north.tif", "south.tif", "--out", "expected", "--tta")
    model = pointcover.open_model("models")
    assert model.classes == CLASSES.names
    assert model.bands == (1, 2, 3)
    megapixels: list[float] = []
    maps = model.map(
        ["north.tif", "south.tif"], "maps", average_views=True, progress=megapixels.append
    )
    assert [one.image.name for one in maps] == ["north.tif", "south.tif"]
    assert sum(megapixels) == pytest.approx(2 * 96 * 80 / 1e6)
    for one in maps:
        for path in (one.classes, one.confidence):
            expected = folder / "expected" / path.name
            np.testing.assert_array_equal(read(path), read(expected))
        counts = np.bincount(read(one.classes).ravel(), minlength=len(CLASSES))
        assert [area.pixels for area in one.areas] == counts[: len(CLASSES)].tolist()
    before = maps[0].classes.stat().st_mtime_ns
    again = model.map(["north.tif", "south.tif"], "maps", average_views=True)
    assert again == maps
    assert maps[0].classes.stat().st_mtime_ns == before


def test_settings_that_do_not_exist_are_one_message(folder):
    model = pointcover.open_model("models")
    with pytest.raises(ValueError, match="polygon: this key is unknown; did you mean 'polygons'"):
        model.map("north.tif", "maps", polygon=True)
    with pytest.raises(ValueError, match="point: this key is unknown; did you mean 'points'"):
        model.suggest("north.tif", "next.gpkg", point=3)
    with pytest.raises(ValueError, match="got no model"):
        pointcover.open_model()
    assert not (folder / "maps").exists()


def test_an_array_is_classified_as_a_window(folder):
    model = pointcover.open_model("models", precision="fp32")
    with rasterio.open("north.tif") as file:
        image = file.read()
    ids, sure = model.classify(image)
    assert (ids.shape, ids.dtype) == ((96, 80), np.uint8)
    assert (sure.shape, sure.dtype) == ((96, 80), np.float32)
    whole = model.map("north.tif", "maps")[0]
    # One window sees the whole image; its edge is padded otherwise.
    assert (ids == read(whole.classes))[16:-16, 16:-32].mean() > 0.99
    assert ((sure >= 1 / len(CLASSES)) & (sure <= 1)).all()
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 96, 80\), wanted \(3 bands"):
        model.classify(image[:2])
    with pytest.raises(ValueError, match=r"got values from .* to 510, wanted 0 to 255"):
        model.classify(image.astype(np.int32) * 2)


def test_suggestions_are_those_of_the_command_line(folder):
    options = ["--points", "5", "--distance-px", "4", "--edge-px", "0"]
    run("suggest", "models", "north.tif", *options, "--out", "expected.gpkg")
    found = pointcover.open_model("models").suggest(
        "north.tif", "next.gpkg", points=5, distance_px=4, edge_px=0
    )
    assert found.path == Path("next.gpkg")
    assert sum(found.layers.values()) == 5
    expected, given = (
        geopandas.read_file(name, layer="suggestions") for name in ("expected.gpkg", "next.gpkg")
    )
    assert expected.geometry.equals(given.geometry)


def test_files_with_labels_are_not_replaced_unasked(folder):
    model = pointcover.open_model("models")
    (made,) = model.map("north.tif", "maps")
    for name, write in (
        (
            "sample.gpkg",
            lambda **more: pointcover.sample([made.classes], "sample.gpkg", points=40, **more),
        ),
        (
            "next.gpkg",
            lambda **more: model.suggest("north.tif", "next.gpkg", points=2, edge_px=0, **more),
        ),
    ):
        write()
        before = (folder / name).read_bytes()
        with pytest.raises(FileExistsError, match=f"{name} exists.*replace=True"):
            write()
        assert (folder / name).read_bytes() == before
        write(replace=True)


def test_areas_of_maps_of_older_versions_are_read(folder):
    model = pointcover.open_model("models")
    (made,) = model.map("north.tif", "maps")
    table = folder / "maps" / "north_areas.csv"
    table.write_text(table.read_text().replace("fraction", "share"))
    assert model.map("north.tif", "maps") == [made]
    table.unlink()
    with pytest.raises(ValueError, match=r"north_areas\.csv is missing.*replace=True"):
        model.map("north.tif", "maps")
    assert model.map("north.tif", "maps", replace=True) == [made]


def test_a_sample_of_a_map_is_assessed(folder):
    (made,) = pointcover.open_model("models").map("north.tif", "maps")
    path = pointcover.sample([made.classes], "sample.gpkg", points=60, seed=2, minimum=2)
    points = geopandas.read_file(path, layer="sample")
    with rasterio.open(made.classes) as file:
        names = np.array(CLASSES.names)
        places = [(point.x, point.y) for point in points.geometry]
        points["class"] = names[[int(value[0]) for value in file.sample(places)]]
    copy = Path("labelled.gpkg")
    shutil.copy(path, copy)
    points.to_file(copy, layer="sample", driver="GPKG")
    found = pointcover.assess([made.classes], copy, "report")
    assert found.estimates.overall.value == 1
    assert (folder / "report" / "report.html").is_file()
    with pytest.raises(FileExistsError, match=r"holds a report"):
        pointcover.assess([made.classes], copy, "report")
    assert pointcover.assess([made.classes], copy).labelled == found.labelled


@pytest.fixture
def project(tmp_path):
    for name, text in project_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return pointcover.Project(tmp_path)


def test_settings_of_a_project_are_changed_and_checked(project):
    before = (project.folder / "params.yaml").read_text()
    project.set(points=77, annotate__sampler="spread", train__classifier__scales=[2, 4])
    assert project.params["points"] == 77
    assert project.params["annotate"]["sampler"] == "spread"
    after = (project.folder / "params.yaml").read_text()
    assert len(after.splitlines()) == len(before.splitlines()) + 1  # of the list
    with pytest.raises(ValueError, match=r"params\.yaml has no setting annotate\.smapler"):
        project.set(annotate__smapler="spread")
    with pytest.raises(ValueError, match="sampler"):
        project.set(annotate__sampler="sprade")
    with pytest.raises(ValueError, match="annotate is a section of params"):
        project.set(annotate="x")
    assert (project.folder / "params.yaml").read_text() == after
    assert project.scores == {}
    project.set(source=Path("images #1"), points=np.int64(5))
    assert (project.params["source"], project.params["points"]) == ("images #1", 5)
    project.set(source="Bildér")
    assert "source: Bildér  " in (project.folder / "params.yaml").read_text("utf-8")


def test_a_folder_without_a_pipeline_is_no_project(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no dvc\.yaml, so it is no project"):
        pointcover.Project(tmp_path)


@pytest.mark.slow
def test_a_project_runs_and_its_model_maps(tmp_path):
    project = pointcover.Project.create(tmp_path / "maps")
    project.set(
        synthetic__orthophotos=8,
        synthetic__size_px=128,
        tile__size_px=64,
        tile__downsample=1,
        points=20,
        train__encoder="none",
        train__weights="none",
        train__classifier__mean_of=["random_forest", "extra_trees"],
    )
    scores = project.run()
    assert 0 < scores["miou"] <= 1
    assert project.scores == scores
    image = next((project.folder / "data/dataset").rglob("*.tif"))
    (made,) = project.open_model().map(image, tmp_path / "out")
    assert {area.name for area in made.areas} == set(project.open_model().classes)
    project.set(dataset="nothing")
    with pytest.raises(RuntimeError, match="the pipeline failed:"):
        project.run()


def test_blocks_of_another_map_are_assessed_as_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old, new = (
        write_map(tmp_path / f"{name}.tif", draw_ids(seed=seed))
        for seed, name in enumerate(("old", "new"))
    )
    path = pointcover.sample([old], "sample.gpkg", points=60, block_px=5)
    label(path, lambda number, _x, _y: NAMES[number % 2])
    run("assess", "new.tif", "sample.gpkg", "--out", "report", "--other-map")
    said = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    found = pointcover.assess([new], path, other_map=True)
    assert found.estimates.overall.value == said["overall"]["value"]
    assert found.mapped_pixels.sum() == 12 * 16  # blocks, not pixels
