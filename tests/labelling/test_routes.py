"""The addresses of the page: what they do, and what they refuse."""

import errno
import os

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from pointcover.labelling import live_map
from pointcover.labelling.access import Access, make_token
from pointcover.labelling.point_log import read_log
from pointcover.labelling.project import LOG
from pointcover.labelling.routes import make_app
from pointcover.labelling.session import Session
from tests.labelling.scenes import POINTS, draw_truth, open_scene, wait_for

OWN = {"X-Pointcover": "1"}
WHOLE = {"image": 0, "level": 0, "top": 0, "left": 0, "bottom": 192, "right": 192}


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setattr(live_map, "PAUSE_S", 0.05)
    monkeypatch.chdir(tmp_path)
    session = Session(open_scene(tmp_path), threads=1)
    yield session
    session.close()


@pytest.fixture
def client(session):
    """A browser that talks to the page; no thread maps anything."""
    return TestClient(
        make_app(session, Access(port=80)),
        "http://127.0.0.1:80",
        headers=OWN | {"Host": "127.0.0.1:80"},
    )


def test_the_page_needs_nothing_from_another_host(client):
    page = client.get("/")
    assert page.status_code == 200
    for name in ("leaflet.js", "leaflet.css", "style.css", "app.js", "icon.svg"):
        assert f"static/{name}" in page.text
        assert client.get(f"/static/{name}").status_code == 200
    text = page.text + client.get("/static/app.js").text + client.get("/static/style.css").text
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_click_is_on_the_disk_when_it_is_confirmed(client, tmp_path):
    answer = client.post("/api/add", json={"image": 0, "x": 3.5, "y": 4, "class": "water"}).json()
    (record,) = read_log(tmp_path / "project" / LOG)[0]
    assert answer["point"]["id"] == record.id
    assert (record.image, record.x, record.y, record.label) == ("a.tif", 3.5, 4, "water")
    client.post("/api/move", json={"id": record.id, "x": 7, "y": 8})
    client.post("/api/relabel", json={"id": record.id, "class": "road"})
    (point,) = client.get("/api/state").json()["points"]
    assert (point["x"], point["y"], point["class"]) == (7, 8, "road")
    client.post("/api/undo", json={})
    client.post("/api/remove", json={"id": record.id})
    assert client.get("/api/state").json()["points"] == []
    client.post("/api/undo", json={})
    state = client.get("/api/state").json()
    assert [one["class"] for one in state["points"]] == ["water"]
    assert state["counts"] == {"a.tif": 1}
    assert state["can_redo"]


def test_a_full_disk_is_said(client, monkeypatch):
    def full(file, content, place):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    answer = client.post("/api/add", json={"image": 0, "x": 3, "y": 4, "class": "water"})
    assert (answer.status_code, answer.json()) == (
        507,
        {"error": "The disk is full.", "is_full": True},
    )
    assert client.get("/api/state").json()["points"] == []


@pytest.mark.parametrize(
    ("path", "values", "status", "text"),
    [
        ("add", {"image": 0, "x": 1e9, "y": 4, "class": "water"}, 400, "wanted one inside"),
        ("add", {"image": 0, "x": "a", "y": 4, "class": "water"}, 400, "wanted finite numbers"),
        ("add", {"image": 7, "x": 1, "y": 4, "class": "water"}, 404, "there is no image 7"),
        ("add", {"image": "../a", "x": 1, "y": 4, "class": "water"}, 400, "wanted a whole number"),
        ("add", {"image": 0, "x": 1, "y": 4, "class": "ice"}, 400, "there is no class 'ice'"),
        ("move", {"id": "0" * 32, "x": 1, "y": 4}, 404, "no such point"),
        ("remove", {}, 400, "id: wanted text"),
        ("pass_over", {"image": 0, "x": 1, "y": 4, "state": "labelled"}, 400, "wanted skipped"),
        ("classes", {"classes": [{"name": "<script>", "colour": "#112233"}]}, 400, "class name"),
        ("classes", {"classes": [{"name": "a", "colour": "red"}]}, 400, "six hexadecimal digits"),
        ("settings", {"acquisition": "luck"}, 400, "acquisition"),
        (
            "view",
            {"image": 0, "level": 99, "top": 0, "left": 0, "bottom": 9, "right": 9},
            404,
            "level",
        ),
        ("train", {}, 400, "has no pipeline"),
    ],
)
def test_wrong_requests_are_answered_with_a_message(client, path, values, status, text):
    answer = client.post(f"/api/{path}", json=values)
    assert answer.status_code == status
    assert text in answer.json()["error"]


def test_no_path_of_the_browser_is_opened(client, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    for path in (
        "/static/..%2F..%2Fsecret.txt",
        "/static/%2Fetc%2Fpasswd",
        "/api/images/..%2Fsecret/tiles/0/0/0",
        "/static/routes.py",
        "/api/map/1/..%2Fclasses.png",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text


def test_tiles_are_of_the_image(client):
    answer = client.get("/api/images/0/tiles/0/0/0")
    assert answer.headers["content-type"] == "image/png"  # 64 px of the tile lie outside
    pixels = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (256, 256, 4)
    assert (pixels[:192, :192, 3] == 255).all()
    assert not pixels[192:, :, 3].any()
    np.testing.assert_allclose(pixels[:192, 70:120, :3].mean(axis=(0, 1)), (160, 80, 40), atol=2)
    assert client.get("/api/images/0/tiles/5/0/0").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "127.0.0.1:8080"}, 421),
        ({"Host": "192.168.0.7:80"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8080"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"X-Pointcover": "0"}, 403),
        ({"Content-Length": "99999999"}, 413),
        ({"Origin": "http://127.0.0.1:80", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "localhost:80"}, 200),
    ],
)
def test_foreign_hosts_and_pages_are_refused(client, headers, status):
    assert client.post("/api/undo", json={}, headers=headers).status_code == status


def test_other_machines_need_the_token(session):
    with pytest.raises(ValueError, match="needs a token"):
        Access("0.0.0.0", 80)
    token = make_token()
    app = make_app(session, Access("0.0.0.0", 80, token))
    headers = OWN | {"Host": "192.168.0.7:80"}
    client = TestClient(app, "http://192.168.0.7:80", headers=headers)
    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.post(f"/api/undo?token={token}", json={}).status_code == 401
    opened = client.get(f"/?token={token}", follow_redirects=False)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    assert "HttpOnly" in opened.headers["set-cookie"]
    assert "SameSite=strict" in opened.headers["set-cookie"]
    assert client.get("/").status_code == 200
    assert client.post("/api/undo", json={}).status_code == 200
    foreign = {"Host": "evil.example:80"}
    assert client.get("/", headers=foreign).status_code == 421
    assert token not in repr(Access("0.0.0.0", 80, token))


def test_the_map_of_the_view_and_its_next_points(session, client):
    session.start()
    for x, y, label in POINTS:
        client.post("/api/add", json={"image": 0, "x": x, "y": y, "class": label})
    client.post("/api/view", json=WHOLE)
    seen = -1

    def finished():
        nonlocal seen
        status = client.get(f"/api/status?seen={seen}").json()
        seen = status["number"]
        return status["scores"] and status["map"] and status

    status = wait_for(finished)
    assert status["map"]["points"] == 12
    assert status["scores"]["points"] == 12
    assert [one["points"] for one in status["scores"]["curve"]] == [12]
    number = status["map"]["number"]
    png = client.get(f"/api/map/{number}/classes.png").content
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    colours = [
        tuple(bytes.fromhex(one["colour"][1:]))[::-1]
        for one in client.get("/api/state").json()["classes"]
    ]
    expected = np.array(colours)[draw_truth()]
    assert (pixels[..., :3] == expected).all(axis=2).mean() > 0.93
    assert client.get(f"/api/map/{number}/confidence.png").status_code == 200
    assert client.get("/api/map/99999/classes.png").status_code == 404
    found = client.post("/api/suggest", json={"image": 0}).json()
    assert len(found) >= 4
    one = {"image": 0, "x": found[0]["x"], "y": found[0]["y"], "state": "unsure"}
    assert client.post("/api/pass_over", json=one).json()["point"]["class"] is None
    again = client.post("/api/suggest", json={"image": 0}).json()
    assert (found[0]["x"], found[0]["y"]) not in [(p["x"], p["y"]) for p in again]
    assert len(client.get("/api/state").json()["points"]) == 12


def test_points_are_exported_by_a_job(session, client):
    client.post("/api/add", json={"image": 0, "x": 3, "y": 4, "class": "water"})
    assert client.post("/api/export", json={}).json() == {}
    job = wait_for(lambda: session.job["state"] != "running" and session.job)
    assert job["state"] == "done"
    assert job["files"] == [str(session.export_folder / "labels" / "points.gpkg")]
