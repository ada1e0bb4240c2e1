"""The project folder: it goes on where it stopped, and only one program has it open."""

import json
from pathlib import Path

import numpy as np
import pytest

from pointcover.labelling.point_log import merge_logs
from pointcover.labelling.project import DESCRIPTION, LOG, Project, free_colour, name_images
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
    assert [entry["name"] for entry in name_images(paths)] == ["one/a.tif", "two/a.tif"]
    with pytest.raises(ValueError, match=r"a\.tif is given twice"):
        name_images([paths[0], paths[0]])


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
