"""Training by DVC itself, and the maps of the trained model beside the live one."""

import json

import cv2
import numpy as np
import pytest

from pointcover.labelling.jobs import Jobs
from pointcover.labelling.session import NotFound, Session
from pointcover.labelling.trained_maps import DESCRIPTION, TrainedMaps, TrainedModel
from pointcover.labels import ClassTable, parse_colour
from pointcover.raster.overviews import ClassReader
from pointcover.raster.raster_io import RasterReader, Window, write_mask
from pointcover.tracking.mlflow_server import MlflowServer
from tests.clones import SMALL, Clone
from tests.labelling.scenes import CLASSES, POINTS, draw_truth, open_scene
from tests.processes import wait_for

TABLE = ClassTable(tuple(c.name for c in CLASSES), tuple(parse_colour(c.colour) for c in CLASSES))


def write_map(path, image):
    with write_mask(path, like=RasterReader(image).info(), block_px=64, classes=TABLE) as writer:
        writer.write(draw_truth()[None], Window(0, 0, 192, 192))
    return str(path)


def model_of(tmp_path, **changes):
    path = write_map(tmp_path / "a_classes.tif", tmp_path / "images" / "a.tif")
    values = {
        "number": 1,
        "experiment": "tidy-gull",
        "classes": TABLE.names,
        "maps": {"a.tif": path},
    }
    return TrainedModel(**values | changes)


def test_maps_are_shown_again_after_a_restart(tmp_path):
    open_scene(tmp_path, images=1).close()
    maps = TrainedMaps(tmp_path / "trained")
    assert maps.describe({"a.tif": 0}) is None
    maps.take(model_of(tmp_path, run=("1", "abc")))
    again = TrainedMaps(tmp_path / "trained")
    assert again.describe({"a.tif": 0, "b.tif": 1}) == {
        "number": 1,
        "experiment": "tidy-gull",
        "test_miou": None,
        "has_run": True,
        "images": [0],
    }
    colours = {one.name: one.colour for one in CLASSES}
    content = again.tile(1, "a.tif", (0, 0, 0, 256), colours)
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert tuple(shown[10, 100, 2::-1]) == parse_colour(CLASSES[1].colour)
    assert shown[10, 200, 3] == 0
    assert again.tile(2, "a.tif", (0, 0, 0, 256), colours) is None
    assert again.tile(1, "b.tif", (0, 0, 0, 256), colours) is None
    for one in (maps, again):
        one.close()


@pytest.mark.parametrize("content", ["{}", "no JSON", "[]", '{"number": 1}'])
def test_a_damaged_description_is_left_out(tmp_path, content, caplog):
    (tmp_path / DESCRIPTION).write_text(content)
    assert TrainedMaps(tmp_path).model is None
    assert "are not shown" in caplog.text


def test_a_map_that_is_gone_is_left_out(tmp_path, caplog):
    open_scene(tmp_path, images=1).close()
    maps = TrainedMaps(tmp_path / "trained")
    maps.take(model_of(tmp_path))
    maps.close()
    (tmp_path / "a_classes.tif").unlink()
    assert TrainedMaps(tmp_path / "trained").model is None
    assert "a_classes.tif" in caplog.text


def test_coarse_levels_have_the_nearest_class(tmp_path):
    open_scene(tmp_path, images=1).close()
    reader = ClassReader(tmp_path / write_map(tmp_path / "m.tif", tmp_path / "images" / "a.tif"))
    found = reader.read(2, 0, 0, 64)
    assert (found[:48, :48] == draw_truth()[1::4, 1::4]).mean() > 0.95
    assert (found[48:] == 255).all()
    assert (reader.read(0, 500, 0, 64) == 255).all()
    reader.close()


def test_the_address_of_the_run_is_that_of_a_tracking_server_or_of_one_started_here(
    tmp_path, monkeypatch
):
    session = Session(open_scene(tmp_path), threads=1)
    jobs = Jobs(session, tmp_path)
    with pytest.raises(NotFound, match="MLflow has no run"):
        jobs.address_of_run()
    session.trained.take(model_of(tmp_path, run=("7", "abc")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@mlflow.example:5000/")
    wanted = "/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert jobs.address_of_run() == f"http://mlflow.example:5000{wanted}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(MlflowServer, "start", lambda self: "http://127.0.0.1:5001")
    assert jobs.address_of_run() == f"http://127.0.0.1:5001{wanted}"
    session.close()


@pytest.mark.slow
def test_dvc_trains_on_the_labels_and_its_failure_is_said(tmp_path, monkeypatch):
    """The real `dvc exp run`, from labels to maps, and once with a setting that it refuses."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "clone").mkdir()
    clone = Clone(tmp_path / "clone", SMALL)
    for name, value in clone.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(clone.folder)
    session = Session(open_scene(tmp_path, images=3), threads=1)
    jobs = Jobs(session, clone.folder)
    for image in range(3):
        for x, y, name in POINTS:
            session.add(image, (x, y), name)
    jobs.train()
    job = wait_for(lambda: session.job["state"] in ("done", "failed") and session.job, 900)
    assert job["state"] == "done", job
    shown = session.status()["trained"]
    assert shown["images"] == [0, 1, 2]
    assert shown["has_run"]
    assert shown["experiment"] in clone.run("dvc", "exp", "show", "--csv")
    content = session.trained_tile(1, 0, (0, 0, 0))
    tile = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    wanted = np.array(TABLE.colours)[draw_truth()]
    assert (tile[:192, :192, 2::-1] == wanted).all(axis=2).mean() > 0.8
    assert (
        shown["test_miou"]
        == json.loads((clone.folder / "metrics/evaluate.json").read_text())["miou"]
    )
    run = session.trained.model.run[1]
    assert run in {one.info.run_id for one in clone.runs().values()}
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text().replace("seed:", "sede:"))
    jobs.train()
    job = wait_for(lambda: session.job["state"] in ("done", "failed") and session.job, 300)
    assert job["state"] == "failed"
    assert "ended with code" in job["text"]
    assert "sede" in job["log"]
    assert session.status()["trained"] == shown
    session.close()
