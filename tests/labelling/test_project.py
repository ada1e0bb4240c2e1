"""The project folder: it goes on where it stopped, and only one program has it open."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.labelling.images import name_images
from pointcover.labelling.point_log import merge_logs
from pointcover.labelling.project import DESCRIPTION, LOG, Project, free_colour
from pointcover.labelling.settings import ClassSettings
from tests.imagery import draw_image, write_raster

CLASSES = (
    ClassSettings(name="land", colour="#8429F6"),
    ClassSettings(name="water", colour="#E2A929"),
)


@pytest.fixture
def images(tmp_path):
    return [
        write_raster(tmp_path / "images" / name, draw_image(40, 50)) for name in ("a.tif", "b.tif")
    ]


def test_classes_of_a_card_are_added_to_those_of_the_project(tmp_path, images):
    project = Project(tmp_path / "p", images, "anna")
    project.set_classes(CLASSES[:1], {})
    assert project.add_classes(CLASSES) == 1
    assert project.add_classes(CLASSES) == 0
    assert project.class_names == ("land", "water")
    with pytest.raises(ValueError, match=r"colour #E2A929 occurs twice"):
        project.add_classes([ClassSettings(name="road", colour="#E2A929")])
    project.close()


def test_the_command_takes_the_classes_of_a_card(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pointcover.labelling.serve.serve", lambda *given, **named: None)
    done = CliRunner().invoke(app, ["label", str(images[0]), "--card", "dubai", "--project", "p"])
    assert done.exit_code == 0, done.output
    again = Project(tmp_path / "p", [], "anna")
    assert "Vegetation" in again.class_names or "vegetation" in again.class_names
    again.close()
    done = CliRunner().invoke(app, ["label", "--card", "nowhere", "--project", "p"])
    assert done.exit_code == 1
    assert "nowhere" in done.output


def test_a_project_reopens_with_classes_points_and_images(tmp_path, images):
    before = sorted(images[0].parent.iterdir())
    project = Project(tmp_path / "p", images, "anna")
    assert project.description.bands == (1, 2, 3)
    project.set_classes(CLASSES, {})
    point = project.history.add("a.tif", 3, 4, "land")
    project.set_classes(
        (CLASSES[0].model_copy(update={"name": "Wiese"}), CLASSES[1]), {"land": "Wiese"}
    )
    project.close()
    again = Project(tmp_path / "p", [], "ben")
    assert again.class_names == ("Wiese", "water")
    assert [(p.id, p.label) for p in again.history.points] == [(point.id, "Wiese")]
    assert [entry.name for entry in again.description.images] == ["a.tif", "b.tif"]
    again.close()
    assert sorted(images[0].parent.iterdir()) == before


def test_a_project_that_is_open_says_who_has_it(tmp_path, images):
    project = Project(tmp_path / "p", images, "anna")
    with pytest.raises(ValueError, match=r"p is in use: anna has it open on .* --merge"):
        Project(tmp_path / "p", images, "ben")
    project.close()
    Project(tmp_path / "p", images, "ben").close()


def test_a_class_with_points_is_not_removed(tmp_path, images):
    project = Project(tmp_path / "p", images, "anna")
    project.set_classes(CLASSES, {})
    project.history.add("a.tif", 3, 4, "water")
    with pytest.raises(ValueError, match="class water has points"):
        project.set_classes(CLASSES[:1], {})
    with pytest.raises(ValueError, match="class name land occurs twice"):
        project.set_classes((*CLASSES, CLASSES[0]), {})
    assert project.class_names == ("land", "water")
    project.close()


def test_classes_of_a_merged_log_are_added(tmp_path, images):
    for name, author in (("p", "anna"), ("q", "ben")):
        project = Project(tmp_path / name, images, author)
        project.set_classes((ClassSettings(name=author, colour="#112233"),), {})
        project.history.add("a.tif", 3, 4, author)
        project.close()
    logs = [tmp_path / name / LOG for name in "pq"]
    assert merge_logs(logs, logs[0]) == 2
    project = Project(tmp_path / "p", [])
    assert project.class_names == ("anna", "ben")
    project.close()


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = [Path("/x/one/a.tif"), Path("/x/two/a.tif")]
    assert [entry.name for entry in name_images(paths)] == ["one/a.tif", "two/a.tif"]
    with pytest.raises(ValueError, match=r"a\.tif is given twice"):
        name_images([paths[0], paths[0]])


@pytest.fixture
def namesakes(tmp_path):
    """Two images called 1.tif, and a project of the first one, with a point."""
    paths = [write_raster(tmp_path / name / "1.tif", draw_image(40, 50)) for name in "ab"]
    with rasterio.open(paths[1], "r+") as other:
        other.write(np.full((40, 50), 9, np.uint8), 1)
    project = Project(tmp_path / "p", paths[:1], "anna")
    project.set_classes(CLASSES, {})
    project.history.add("1.tif", 3, 4, "land")
    project.close()
    return paths


def names_of(folder, images):
    """Open a project; return names by path, and what is said of images that are not open."""
    project = Project(folder, images)
    remark = project.remark_on_closed_images()
    project.close()
    return {Path(one.path): one.name for one in project.description.images}, remark


def test_another_image_gets_no_points_of_one_of_the_same_name(tmp_path, namesakes):
    first, second = namesakes
    names, remark = names_of(tmp_path / "p", [second])
    assert names == {second: "b/1.tif"}
    assert f"1 point(s) lie in images that are not open: 1.tif ({first})" in remark
    assert names_of(tmp_path / "p", []) == (names, remark)
    assert names_of(tmp_path / "p", [first]) == ({first: "1.tif"}, None)


def test_an_image_keeps_its_name_when_another_one_is_added(tmp_path, namesakes):
    first, second = namesakes
    expected = {first: "1.tif", second: "b/1.tif"}
    assert names_of(tmp_path / "p", namesakes) == (expected, None)
    assert names_of(tmp_path / "p", namesakes[::-1]) == (expected, None)


def test_an_image_that_was_moved_keeps_its_name(tmp_path, namesakes):
    first, second = namesakes
    moved = first.rename(tmp_path / "moved.tif")
    assert names_of(tmp_path / "p", [second, moved]) == ({second: "b/1.tif", moved: "1.tif"}, None)


def test_another_image_in_place_of_a_missing_one_gets_a_name_of_its_own(tmp_path, namesakes):
    first, second = namesakes
    first.unlink()
    names, remark = names_of(tmp_path / "p", [second])
    assert names == {second: "b/1.tif"}
    assert "1 point(s)" in remark


def test_a_name_that_only_the_log_has_is_given_to_no_image(tmp_path, images):
    project = Project(tmp_path / "p", images[1:], "anna")
    project.set_classes(CLASSES, {})
    project.history.add("a.tif", 3, 4, "land")  # as of a merged log
    project.close()
    names, remark = names_of(tmp_path / "p", images)
    assert names == {images[0]: "images/a.tif", images[1]: "b.tif"}
    assert "a.tif (path unknown)" in remark
    path = tmp_path / "p" / DESCRIPTION
    values = json.loads(path.read_text())
    values["closed_images"] = [{"name": "a.tif", "path": str(images[0])}]
    path.write_text(json.dumps(values))
    for _ in range(2):
        assert names_of(tmp_path / "p", images) == (
            {images[0]: "a.tif", images[1]: "b.tif"},
            None,
        )


def test_names_are_free_even_where_all_ends_of_a_path_are_taken(tmp_path):
    path = Path("/a.tif")
    (entry,) = name_images([path], (), {"a.tif", "//a.tif", "a.tif (2)"})
    assert entry.name == "a.tif (3)"


def test_images_of_16_bits_get_a_value_range(tmp_path):
    values = np.linspace(100, 2000, 3 * 64 * 64).reshape(3, 64, 64).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", values)
    project = Project(tmp_path / "p", [path])
    low, high = project.description.value_range
    assert (round(low), round(high)) == (137, 1961)
    project.close()


def test_errors_say_what_is_missing(tmp_path, images):
    with pytest.raises(FileNotFoundError, match="is no project of `pointcover label`"):
        Project(tmp_path / "none", [])
    Project(tmp_path / "p", images).close()
    images[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.tif does not exist, and the project"):
        Project(tmp_path / "p", [])
    (tmp_path / "p" / DESCRIPTION).write_text(json.dumps({"bands": [1]}))
    with pytest.raises(ValueError, match="images"):
        Project(tmp_path / "p", [])


def test_colours_of_new_classes_differ():
    taken: list[str] = []
    for _ in range(40):
        taken.append(free_colour(taken))
    assert len(set(taken)) == 40


def test_another_file_in_place_of_an_image_with_points_is_told(tmp_path, images):
    """Its points would mean other ground (ilastik#1953, ilastik#2686)."""
    project = Project(tmp_path / "p", images, "anna")
    project.set_classes(CLASSES, {})
    project.history.add("a.tif", 3, 4, "land")
    project.close()
    for path in images:
        write_raster(path, draw_image(40, 50, seed=7))
    project = Project(tmp_path / "p", [], "anna")
    remark = project.remark_on_changed_images()
    assert remark == (
        "the files of a.tif changed since points were set on them: check that the points still fit"
    )
    project.close()
    project = Project(tmp_path / "p", [], "anna")
    assert project.remark_on_changed_images() is None
    project.close()
    for path in images:
        write_raster(path, draw_image(40, 49))
    with pytest.raises(ValueError, match=r"a\.tif has 40 × 49 px, but had 40 × 50 px when points"):
        Project(tmp_path / "p", [], "anna")
    write_raster(images[0], draw_image(40, 50))
    project = Project(tmp_path / "p", [], "anna")  # b.tif has no points
    assert len(project.history.points) == 1
    project.close()


def test_the_value_range_is_of_pixels_with_data_in_the_bands_that_are_read(tmp_path):
    image = draw_image(40, 50, bands=4).astype(np.uint16) + 1000
    image[:3, :20] = 9  # no data there, which the fourth band has
    path = write_raster(tmp_path / "a.tif", image, nodata=9)
    project = Project(tmp_path / "p", [path], "anna")
    assert project.description.value_range[0] > 1000
    project.close()
