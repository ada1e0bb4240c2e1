"""Exports of annotation tools go through the stages, and labels of one run into the next."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image
from typer.testing import CliRunner

from pointcover.annotation.inputs import find_label_files
from pointcover.cli.app import app
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.tileset.source_images import SourceImage, SourceImages
from pointcover.vectors.read_labels import read_labels
from pointcover.vectors.settings import VectorSettings
from pointcover.vectors.write_points import POINT_FORMATS
from tests.imagery import ROOT, draw_image
from tests.test_docs import commands_of

HEIGHT, WIDTH = 90, 120
REAL = {"annotate.sampler": "none", "annotate.propagator": "none", "annotations": "labels"}


@pytest.fixture
def photos(project, blank_pictures):
    """Return a project of images without CRS and masks, on tiles of half their resolution."""
    shutil.rmtree(project.data)
    folder = project.data / "images"
    folder.mkdir(parents=True)
    for number, name in enumerate("abcd"):
        pixels = np.moveaxis(draw_image(HEIGHT, WIDTH, number), 0, -1)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    project.write_card(
        images="images/*.png",
        masks=None,
        ignore=[],
        split={"val": ["images/b.png"], "test": ["images/c.png"]},
    )
    (project.root / "labels").mkdir()
    project.set(REAL | {"tile.downsample": 2})
    project.run_once("download", "tile")
    return project


def export(*shapes):
    """Return COCO of annotations: the image's letter, the class, and key points or a polygon."""
    names = ("land", "water", "road")
    return {
        "images": [
            {"id": name, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
            for name in "abcd"
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": names.index(label)} | shape
            for number, (image, label, shape) in enumerate(shapes)
        ],
    }


def points(*xy):
    return {"keypoints": [number for x, y in xy for number in (x, y, 2)]}


def clicks(split, name):
    with rasterio.open(f"data/sparse/clicks/{split}/{name}.tif") as file:
        return file.read(1)


def test_an_export_labels_images_without_a_crs(photos):
    square = {"segmentation": [[20, 30, 40, 30, 40, 50, 20, 50]]}
    document = export(
        ("a", "water", points((5, 7), (100, 80))),
        ("d", "land", square),
        ("b", "road", points((0, 0))),
        ("c", "land", points((60, 45))),
    )
    Path("labels/labels.json").write_text(json.dumps(document))
    photos.run("annotate")
    found = clicks("train", "a")
    assert found.shape == (HEIGHT // 2, WIDTH // 2)
    assert [tuple(place) for place in np.argwhere(found != IGNORE_INDEX)] == [(3, 2), (40, 50)]
    wanted = np.full(found.shape, IGNORE_INDEX, np.uint8)
    wanted[15:25, 10:20] = 0
    np.testing.assert_array_equal(clicks("train", "d"), wanted)
    assert clicks("val", "b")[0, 0] == 2
    assert clicks("test", "c")[22, 30] == 0
    report = json.loads(Path("metrics/annotate.json").read_text())["annotations"]
    assert (report["features"], report["placed"]) == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["geopackage", "geojson", "coco", "label-studio", "cvat", "labelme", "csv"]
)
def test_points_of_a_run_are_the_labels_of_the_next(photos, kind):
    document = export(
        ("a", "water", points((5, 7), (100, 80))),
        ("d", "land", points((1, 89))),
        ("b", "road", points((0, 0), (119, 88))),
    )
    Path("labels/labels.json").write_text(json.dumps(document))
    photos.run("annotate")
    before = {name: clicks(*name) for name in (("train", "a"), ("val", "b"), ("train", "d"))}
    out = {"geopackage": "again/a.gpkg", "geojson": "again/a.geojson", "cvat": "again/a.xml"}
    out |= {"csv": "again/a.csv", "labelme": "again"}
    path = out.get(kind, "again/a.json")
    done = CliRunner().invoke(app, ["points", path, "--format", kind])
    assert done.exit_code == 0, done.output
    assert "5 in layer 'points'" in done.stderr
    photos.set({"annotations": "again"})
    photos.run("annotate")
    for name, mask in before.items():
        np.testing.assert_array_equal(clicks(*name), mask)


def test_a_record_that_cannot_be_read_ends_the_stage_before_it_writes(photos):
    Path("labels/labels.json").write_text(json.dumps(export(("a", "water", points((500, 7))))))
    said = photos.refusal("annotate")
    assert "labels.json, annotation 0: point 500, 7 is outside image 'images/a.png'" in said


def test_labels_on_the_test_split_alone_are_of_no_use(photos):
    Path("labels/labels.json").write_text(json.dumps(export(("c", "water", points((5, 7))))))
    assert "no label lies on the train split" in photos.refusal("annotate")


def test_an_unknown_format_is_one_message():
    done = CliRunner().invoke(app, ["points", "a.json", "--format", "yolo"])
    assert done.exit_code == 1
    assert "--format: got 'yolo', wanted one of geopackage, geojson, coco" in done.stderr


def guide():
    return (ROOT / "docs/guides/labels-from-tools.md").read_text(encoding="utf-8")


def test_the_commands_of_the_guide_write_every_format(photos):
    Path("labels/labels.json").write_text(json.dumps(export(("a", "water", points((5, 7))))))
    photos.run("annotate")
    commands = [words for words in commands_of(guide()) if words[:2] == ["pointcover", "points"]]
    kinds = {words[-1] for words in commands if "--format" in words} | {"geopackage"}
    assert kinds == set(POINT_FORMATS)
    for _, *words in commands:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert "1 in layer 'points'" in done.stderr


def test_the_table_of_the_guide_can_be_read(tmp_path):
    (text,) = re.findall(r"```csv\n(.*?)```", guide(), flags=re.DOTALL)
    (tmp_path / "a.csv").write_text(text)
    classes = ClassTable(("meadow", "forest"), ((1, 2, 3), (4, 5, 6)))
    images = SourceImages([SourceImage("north", "images/north.tif", 300, 200, 1, is_placed=True)])
    found = read_labels([tmp_path / "a.csv"], classes, VectorSettings(), images)
    assert found.class_ids.tolist() == [1, 0]


def test_the_codes_of_the_guide_merge_classes(tmp_path):
    (codes,) = re.findall(r"annotate\.vectors\.codes=(\{.*?\})", guide())
    (tmp_path / "a.csv").write_text("class,column,row\noak,1,1\nbeech,2,1\nlake,3,1\nunsure,4,1\n")
    classes = ClassTable(("forest", "water"), ((1, 2, 3), (4, 5, 6)))
    settings = VectorSettings(codes=yaml.safe_load(codes), ignore=("unsure",))
    images = SourceImages([SourceImage("a", "a.png", 9, 9, 1, is_placed=False)])
    found = read_labels([tmp_path / "a.csv"], classes, settings, images)
    assert (found.class_ids.tolist(), found.ignored) == ([0, 0, 1], 1)


def test_the_help_lists_every_format():
    import typer.main

    command = typer.main.get_command(app).commands["points"]
    (option,) = (one for one in command.params if "--format" in one.opts)
    assert set(option.metavar.split("|")) == set(POINT_FORMATS)


def test_a_folder_that_exists_is_not_replaced_by_labelme(tmp_path):
    (tmp_path / "mine").write_text("x")
    done = CliRunner().invoke(app, ["points", str(tmp_path), "--format", "labelme", "--force"])
    assert done.exit_code == 1
    assert "labelme is written to a new folder, name one" in done.stderr
    assert (tmp_path / "mine").exists()


def touch(folder, *names):
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_folder_holds_exports_of_one_tool_or_one_vector_file(tmp_path):
    touch(tmp_path, "a.json", "b.json", "a.png", "a.png.aux.xml", ".hidden.json", "notes.txt")
    assert [path.name for path in find_label_files(tmp_path)] == ["a.json", "b.json"]
    touch(tmp_path, "points.gpkg")
    with pytest.raises(ValueError, match=r"holds points\.gpkg, and also a\.json, b\.json, wanted"):
        find_label_files(tmp_path)


def test_an_export_may_be_named_itself(tmp_path):
    path = touch(tmp_path, "labels.xml") / "labels.xml"
    assert find_label_files(path) == [path]
