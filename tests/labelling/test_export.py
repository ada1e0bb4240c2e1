"""What is exported is read by the pipeline, and maps are those of `pointcover predict`."""

import json
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import yaml

from pointcover.annotation.rasters import CLICKS
from pointcover.datasets.card import DatasetCard, find_pairs
from pointcover.labelling.export_maps import map_images, save_model
from pointcover.labelling.export_points import export_points
from pointcover.labelling.polygons import place_within
from pointcover.labelling.project import Project
from pointcover.labels import ClassTable, parse_colour
from pointcover.raster.overviews import LevelReader
from pointcover.raster.raster_io import RasterReader, Window
from pointcover.vectors.rasterize import PlacementReport, place_annotations
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings
from tests.imagery import Project as Pipeline
from tests.labelling.scenes import POINTS, draw_truth, open_scene, write_scene

QUICK_FIT = {
    "train.model": "random_forest",
    "train.encoder": "none",
    "train.weights": "none",
    "train.classifier.random_forest.inputs": ["filter_bank"],
    "train.classifier.random_forest.trees": 8,
    "tile.size_px": 96,
}


def label(project, names="abc"):
    for name in names:
        for x, y, class_name in POINTS:
            project.history.add(f"{name}.tif", x, y, class_name)


def infos_of(project):
    return [RasterReader(Path(entry.path)).info() for entry in project.description.images]


@pytest.fixture
def placed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = open_scene(tmp_path, images=3)
    yield project
    project.close()


def table_of(project):
    classes = project.description.classes
    return ClassTable(project.class_names, tuple(parse_colour(one.colour) for one in classes))


def test_points_of_images_with_a_crs_are_a_geopackage_that_annotations_reads(placed, tmp_path):
    label(placed)
    write_scene(tmp_path / "images" / "other.tif")
    found = export_points(placed, infos_of(placed), tmp_path / "export")
    assert found.remarks == ()
    table = geopandas.read_file(tmp_path / "export" / "labels" / "points.gpkg", layer="points")
    assert len(table) == 36
    assert set(table["author"]) == {"anna"}
    card = DatasetCard.model_validate(yaml.safe_load((tmp_path / "export/card.yaml").read_text()))
    pairs = find_pairs(card, tmp_path / "images")
    assert [pair.name for pair in pairs] == ["a", "b", "c"]
    assert {len(card.region_lists()[split]) for split in ("val", "test")} == {1}
    classes = table_of(placed)
    settings = VectorSettings(column="class", layer=None, all_touched=False, ignore=[""], codes={})
    read = read_annotations(
        tmp_path / "export" / "labels" / "points.gpkg", classes, settings, {"a", "b", "c"}
    )
    info = infos_of(placed)[0]
    placement = place_annotations(
        read, info, PlacementReport(read), orthophoto="a", all_touched=False
    )
    burned = placement.burn(Window(0, 0, 192, 192))
    rows, cols = np.nonzero(burned != 255)
    expected = {(y, x): classes.names.index(name) for x, y, name in POINTS}
    assert {(r, c): burned[r, c] for r, c in zip(rows, cols, strict=True)} == expected
    assert found.command is not None
    assert "annotate.sampler=none" in found.command
    assert f"source={tmp_path / 'images'}" in found.command


def test_points_of_images_without_a_crs_are_click_rasters_of_their_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = open_scene(tmp_path, images=3, crs=None, transform=None)
    label(project)
    project.history.add("a.tif", 25.9, 10.2, "road")  # on the pixel of an older point
    found = export_points(project, infos_of(project), tmp_path / "export")
    assert "no CRS" in found.remarks[0]
    rasters = sorted(path for path in found.files if CLICKS in path.parts)
    assert [path.parent.name for path in rasters] == ["test", "train", "val"]
    (train,) = [path for path in rasters if path.parent.name == "train"]
    values = RasterReader(train).read(Window(0, 0, 192, 192))[0]
    assert (values != 255).sum() == 12
    assert (values[10, 25], values[60, 25]) == (2, 0)
    for point in [one for one in project.history.points if one.image == "c.tif"]:
        project.history.remove(point.id)
    fewer = export_points(project, infos_of(project), tmp_path / "export")
    assert fewer.files == ()
    assert [path for path in (tmp_path / "export").rglob("*") if path.is_file()] == []
    project.close()


def add_polygon(project, name, shape, label="water"):
    project.history.add_polygon(name, shape, place_within(shape), ("d" * 32, label))


HOUSE = ((70.0, 20.0), (100.0, 20.0), (100.0, 60.0), (85.2, 75.3), (70.0, 60.0))


def test_polygons_are_a_layer_that_annotations_reads_with_all_their_pixels(placed, tmp_path):
    label(placed)
    add_polygon(placed, "a.tif", (HOUSE,))
    export_points(placed, infos_of(placed), tmp_path / "export")
    path = tmp_path / "export" / "labels" / "points.gpkg"
    table = geopandas.read_file(path, layer="polygons")
    assert (list(table["class"]), list(table["author"])) == (["water"], ["anna"])
    assert len(geopandas.read_file(path, layer="points")) == 36
    read = read_annotations(path, table_of(placed), VectorSettings(column="class"), {"a", "b", "c"})
    placement = place_annotations(
        read, infos_of(placed)[0], PlacementReport(read), orthophoto="a", all_touched=False
    )
    burned = placement.burn(Window(0, 0, 192, 192))
    rows, cols = np.mgrid[:192, :192] + 0.5
    inside = shapely.contains_xy(shapely.Polygon(HOUSE), cols, rows)
    assert inside.sum() > 1000
    assert (burned[inside] == 1).all()
    assert (burned != 255).sum() == inside.sum() + sum(not inside[y, x] for x, y, _ in POINTS)


def test_polygons_alone_are_exported(placed, tmp_path):
    add_polygon(placed, "a.tif", (HOUSE,))
    export_points(placed, infos_of(placed), tmp_path / "export")
    path = tmp_path / "export" / "labels" / "points.gpkg"
    assert [name for name, _ in pyogrio.list_layers(path)] == ["polygons", "layer_styles"]


def test_polygons_of_images_without_a_crs_are_all_their_pixels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = open_scene(tmp_path, images=3, size=400, crs=None, transform=None)
    label(project)
    hole = ((80.0, 30.0), (90.0, 30.0), (90.0, 40.0), (80.0, 40.0))
    large = ((5.5, 5.5), (400.0, 5.5), (400.0, 300.0))
    add_polygon(project, "a.tif", (large, hole))
    project.history.add("a.tif", 200.5, 50.5, "road")
    found = export_points(project, infos_of(project), tmp_path / "export")
    (train,) = [path for path in found.files if "train" in path.parts]
    values = RasterReader(train).read(Window(0, 0, 400, 400))[0]
    rows, cols = np.mgrid[:400, :400] + 0.5
    inside = shapely.contains_xy(shapely.Polygon(large, [hole]), cols, rows)
    inside[50, 200] = False
    assert values[50, 200] == 2
    assert (values[inside] == 1).all()
    project.close()


def test_click_rasters_of_an_image_that_changes_its_split_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = open_scene(tmp_path, images=4, crs=None, transform=None)
    label(project, "abcd")
    export_points(project, infos_of(project), tmp_path / "export")
    for point in [one for one in project.history.points if one.image == "a.tif"]:
        project.history.remove(point.id)
    found = export_points(project, infos_of(project), tmp_path / "export")
    kept = sorted((tmp_path / "export" / "labels").rglob("*.tif"))
    assert kept == sorted(path for path in found.files if CLICKS in path.parts)
    assert len(kept) == 3
    project.close()


def test_few_images_have_points_but_no_card(placed, tmp_path):
    label(placed, "ab")
    found = export_points(placed, infos_of(placed), tmp_path / "export")
    assert found.command is None
    assert "2 image(s) have points, and training needs 3" in found.remarks[0]
    assert [path.name for path in found.files] == ["points.gpkg"]


def test_points_of_images_that_are_not_open_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = open_scene(tmp_path, images=3)
    label(project)
    project.close()
    paths = sorted((tmp_path / "images").iterdir())
    fewer = Project(tmp_path / "project", paths[:2], "anna")
    found = export_points(fewer, infos_of(fewer), tmp_path / "export")
    assert "12 point(s) lie in images that are not open: c.tif" in found.remarks[0]
    path = tmp_path / "export" / "labels" / "points.gpkg"
    assert len(geopandas.read_file(path, layer="points")) == 24
    fewer.close()
    other = Project(tmp_path / "project", [write_scene(tmp_path / "d.tif", seed=9)], "anna")
    with pytest.raises(ValueError, match=r"36 point\(s\) lie in images that are not open"):
        export_points(other, infos_of(other), tmp_path / "export")
    other.close()


@pytest.mark.slow
def test_whole_images_are_mapped_with_the_classifier_of_the_page(placed, tmp_path):
    label(placed, "a")
    readers = [
        LevelReader(path, (1, 2, 3), tmp_path / "cache")
        for path in sorted((tmp_path / "images").iterdir())
    ]
    model = save_model(placed, readers, table_of(placed), tmp_path / "model")
    seen = []
    images = [reader.info.path for reader in readers]
    maps = map_images(model, images, tmp_path / "maps", lambda part, text: seen.append(part))
    assert [path.name for path in maps] == ["a_classes.tif", "b_classes.tif", "c_classes.tif"]
    assert seen[-1] == pytest.approx(1)
    for path in maps:
        found = RasterReader(path).read(Window(0, 0, 192, 192))[0]
        assert (found == draw_truth()).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"crs": None, "transform": None}], ids=["crs", "none"])
def test_the_pipeline_runs_on_the_export(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    opened = open_scene(tmp_path, images=3, **options)
    label(opened)
    found = export_points(opened, infos_of(opened), tmp_path / "export")
    opened.close()
    pipeline = Pipeline(tmp_path)
    shutil.copy(tmp_path / "export" / "card.yaml", tmp_path / "sources" / "label_project.yaml")
    said = [option.partition("=")[::2] for option in found.options if "=" in option]
    pipeline.set({key: yaml.safe_load(value) for key, value in said})
    pipeline.set(QUICK_FIT)
    pipeline.run("download", "tile", "annotate", "train", "evaluate")
    annotated = json.loads((tmp_path / "metrics" / "annotate.json").read_text())
    assert {split: annotated[split]["clicks"] for split in ("train", "val", "test")} == {
        "train": 12,
        "val": 12,
        "test": 12,
    }
    scored = json.loads((tmp_path / "metrics" / "evaluate.json").read_text())
    assert (scored["scored_on"], scored["pixels"]) == ("held-out annotations", 12)
    assert scored["miou"] > 0.4
