"""Blind labelling of a sample: answers are in its file, and the page knows no map."""

import json
import sqlite3
from contextlib import closing

import pytest
from starlette.testclient import TestClient

from pointcover.assessment.assess import assess
from pointcover.assessment.class_maps import open_class_maps
from pointcover.assessment.sample_answers import SampleAnswers
from pointcover.assessment.sample_file import read_sample
from pointcover.labelling.access import Access
from pointcover.labelling.blind import BlindSession
from pointcover.labelling.blind_routes import make_blind_app
from tests.labelling.blind_scenes import draw_sample_of_scenes, truth_at
from tests.labelling.scenes import write_scene


@pytest.fixture
def scenes(tmp_path):
    return draw_sample_of_scenes(tmp_path)


@pytest.fixture
def session(scenes, tmp_path):
    images, _, sample = scenes
    opened = BlindSession(images, sample, "anna", tmp_path / "cache")
    yield opened
    opened.close()


@pytest.fixture
def client(session):
    access = Access(port=80)
    headers = {"X-Pointcover": "1", "Host": "127.0.0.1:80", "X-Pointcover-Session": session.id}
    client = TestClient(make_blind_app(session, access), "http://127.0.0.1:80", headers=headers)
    client.cookies.set(access.cookie, access.token)
    return client


def test_answers_are_read_by_assess(client, scenes):
    _, maps, sample = scenes
    points = client.get("/api/state").json()["points"]
    assert len(points) == 12
    assert {one["state"] for one in points} == {"open"}
    for one in points:
        answer = client.post("/api/answer", json={"id": one["id"], "class": truth_at(one["x"])})
        assert answer.json() == {
            "id": one["id"],
            "state": "labelled",
            "class": truth_at(one["x"]),
        }
    found = assess(open_class_maps(maps, None, 1), read_sample(sample))
    assert found.labelled == 12
    right = sum(one["y"] >= 40 for one in points)
    assert 0 < right < 12
    assert 0 < found.estimates.overall.value < 1


def test_the_page_gets_nothing_of_the_map(client, scenes):
    state = client.get("/api/state").json()
    assert set(state["points"][0]) == {"id", "image", "x", "y", "side_px", "state", "class"}
    text = json.dumps(state)
    for word in ("stratum", "strata", "inclusion", "weight"):
        assert word not in text
    page = client.get("/").text + client.get("/static/blind.js").text
    assert "/map/" not in page
    for path in ("/api/status", f"/api/{state['session']}/map/1/classes.png"):
        assert client.get(path).status_code in (404, 405)
    for path in ("suggest", "view", "add"):
        assert client.post(f"/api/{path}", json={}).status_code in (404, 405)
    points = [one["id"] for one in state["points"]]
    assert points == sorted(points), "the order of drawing, which is at random"


def test_an_answer_stays_when_nothing_is_closed(scenes, tmp_path):
    """As after a power cut: another connection sees the answer at once."""
    images, _, sample = scenes
    first = BlindSession(images, sample, "anna", tmp_path / "cache")
    one, two, *_ = first.state()["points"]
    first.answer(one["id"], "water")
    first.answer(two["id"], None)
    again = SampleAnswers(sample, "ben")
    assert (again.answers[one["id"]].label, again.answers[two["id"]].state) == ("water", "unsure")
    first.answer(one["id"], "road")
    again.answer(two["id"], "meadow")
    again.close()
    first.close()
    with closing(sqlite3.connect(sample)) as database:
        rows = database.execute("SELECT id, class, author FROM pointcover_answers").fetchall()
    assert rows == [
        (one["id"], "water", "anna"),
        (two["id"], None, "anna"),
        (one["id"], "road", "anna"),
        (two["id"], "meadow", "ben"),
    ]
    labelled = read_sample(sample)
    named = {
        point.id: labelled.design.classes[label]
        for point, label in zip(labelled.design.points, labelled.labels, strict=True)
        if label != 255
    }
    assert named == {one["id"]: "road", two["id"]: "meadow"}


@pytest.mark.slow
def test_a_file_that_is_locked_is_said_and_nothing_is_written(client, scenes):
    sample = scenes[2]
    client.get("/api/state")
    before = sample.read_bytes()
    with closing(sqlite3.connect(sample)) as other:
        other.execute("BEGIN EXCLUSIVE")
        number = client.get("/api/state").json()["points"][0]["id"]
        answer = client.post("/api/answer", json={"id": number, "class": "water"})
        other.rollback()
    assert answer.status_code == 507
    assert "close it in the other program, such as QGIS" in answer.json()["error"]
    assert sample.read_bytes() == before


@pytest.mark.parametrize(
    ("values", "status", "text"),
    [
        ({"id": 1, "class": "sea"}, 400, "got the class 'sea'"),
        ({"id": 99999, "class": "water"}, 400, "no point 99999"),
        ({"id": "1", "class": "water"}, 400, "id: wanted a whole number"),
        ({"id": 1, "class": 3}, 400, "class: wanted text"),
    ],
)
def test_answers_that_make_no_sense_are_refused(client, values, status, text):
    answer = client.post("/api/answer", json=values)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


def test_images_beside_the_sample_are_refused(scenes, tmp_path):
    sample = scenes[2]
    other = write_scene(tmp_path / "other.tif", crs=None, transform=None)
    with pytest.raises(ValueError, match=r"other\.tif has no CRS"):
        BlindSession([other], sample, "anna", tmp_path / "cache")
    far = write_scene(tmp_path / "far.tif", crs="EPSG:32633")
    with pytest.raises(ValueError, match=r"none of the 12 points of .* lies in the images"):
        BlindSession([far], sample, "anna", tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="no image was given"):
        BlindSession([], sample, "anna", tmp_path / "cache")
    one = BlindSession(scenes[0][:1], sample, "anna", tmp_path / "cache")
    assert 0 < one.missing < 12
    one.close()
