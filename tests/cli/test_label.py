"""The command label: what it opens, merges and refuses, without serving."""

import pytest
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.labelling import serve as serving
from pointcover.labelling.point_log import PointLog, read_log
from pointcover.labelling.project import LOG, Project
from tests.labelling.scenes import write_scene


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Sessions and accesses that would have been served."""
    calls = []

    def record(make, access, *, folder, say):
        say("http://address/")
        (session,) = make.args
        calls.append((session.project.folder, len(session.readers), access, folder))

    monkeypatch.setattr(serving, "serve", record)
    monkeypatch.chdir(tmp_path)
    return calls


def run(*args):
    return CliRunner().invoke(app, ["label", *map(str, args)])


def test_images_are_opened_and_the_address_is_said(served, tmp_path):
    images = [write_scene(tmp_path / "images" / f"{name}.tif", 64) for name in "ab"]
    done = run(*images, "--no-browser")
    assert done.exit_code == 0, done.stderr
    assert "open http://address/ (Ctrl+C ends)" in done.stderr
    ((folder, count, access, browser_folder),) = served
    assert (folder.name, count, browser_folder) == ("pointcover-labels", 2, None)
    assert access.host == "127.0.0.1"
    assert len(access.token) >= 32
    again = run("--host", "0.0.0.0", "--port", "8765")
    assert again.exit_code == 0, again.stderr
    assert served[1][2].port == 8765
    assert len(served[1][2].token) >= 32
    assert not (folder / "open.json").exists()


def test_logs_are_merged(served, tmp_path):
    image = write_scene(tmp_path / "images" / "a.tif", 64)
    for name in ("anna", "ben"):
        project = Project(tmp_path / name, [image], name)
        project.history.add("a.tif", 3, 4, name)
        project.close()
    done = run("--project", "anna", "--merge", f"ben/{LOG}")
    assert done.exit_code == 0, done.stderr
    assert f"anna/{LOG}: 2 records after merging" in done.stderr
    assert {one.author for one in read_log(tmp_path / "anna" / LOG)[0]} == {"anna", "ben"}
    PointLog(tmp_path / "anna" / LOG).close()


def test_points_of_another_image_are_merged_with_the_image(served, tmp_path):
    images = [write_scene(tmp_path / "images" / f"{name}.tif", 64) for name in "ab"]
    for name, image in zip(("anna", "ben"), images, strict=True):
        project = Project(tmp_path / name, [image], name)
        project.history.add(image.name, 3, 4, name)
        project.close()
    done = run(*images, "--project", "anna", "--merge", f"ben/{LOG}")
    assert done.exit_code == 0, done.stderr
    assert "note:" not in done.stderr
    alone = run(images[0], "--project", "anna")
    assert "note: 1 point(s) lie in images that are not open: b.tif" in alone.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "is no project of `pointcover label`"),
        (("a.tif",), "would lie in the folder of the images"),
        (("nothing.tif", "--project", "p"), "nothing.tif does not exist"),
        (("a.tif", "--project", "p", "--author", " "), "--author"),
    ],
)
def test_mistakes_are_said_in_one_message(served, tmp_path, args, text):
    write_scene(tmp_path / "a.tif", 64)
    done = run(*args)
    assert done.exit_code == 1
    assert text in done.stderr
    assert served == []
