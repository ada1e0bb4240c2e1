"""The addresses of the page: what they do, and what they refuse."""

import errno
import os
import uuid

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from pointcover.labelling import live_map
from pointcover.labelling.access import Access
from pointcover.labelling.point_log import read_log
from pointcover.labelling.project import LOG, Project
from pointcover.labelling.routes import ACTIONS, make_app
from pointcover.labelling.session import Session
from tests.imagery import write_raster
from tests.labelling.scenes import (
    CLASSES,
    COLOURS,
    POINTS,
    QUICK,
    draw_truth,
    open_scene,
)
from tests.processes import wait_for

OWN = {"X-Pointcover": "1"}
ID = "0123456789abcdef" * 2
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
    return make_client(session, Access(port=80))


def make_client(session, access, host="127.0.0.1", **headers):
    """Return a browser that opened the address with the token."""
    own = OWN | {"Host": f"{host}:{access.port}", "X-Pointcover-Session": session.id} | headers
    client = TestClient(make_app(session, access), f"http://{host}:{access.port}", headers=own)
    client.cookies.set(access.cookie, access.token)
    return client


def add(client, x=3, y=4, name="water", image=0):
    values = {"id": uuid.uuid4().hex, "image": image, "x": x, "y": y, "class": name}
    return client.post("/api/add", json=values).json()


def test_the_page_needs_nothing_from_another_host(client):
    page = client.get("/")
    assert page.status_code == 200
    for name in ("leaflet.js", "leaflet.css", "style.css", "app.js", "icon.svg"):
        assert f"static/{name}" in page.text
        assert client.get(f"/static/{name}").status_code == 200
    assert 'from "./shared.js"' in client.get("/static/app.js").text
    names = ("app.js", "shared.js", "style.css")
    text = page.text + "".join(client.get(f"/static/{name}").text for name in names)
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_click_is_on_the_disk_when_it_is_confirmed(client, tmp_path):
    answer = add(client, 3.5, 4)
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


def test_jpeg_2000_is_shown_labelled_and_mapped(tmp_path, monkeypatch):
    """Without a CRS; nothing is written beside it."""
    monkeypatch.setattr(live_map, "PAUSE_S", 0.05)
    image = np.array(COLOURS, np.uint8)[draw_truth(320)].transpose(2, 0, 1)
    path = write_raster(tmp_path / "images" / "a.jp2", image, driver="JP2OpenJPEG", crs=None)
    before = sorted(tmp_path.joinpath("images").iterdir())
    project = Project(tmp_path / "project", [path], "anna")
    project.set_classes(CLASSES, {})
    project.set_settings(QUICK | {"block_px": 512})
    session = Session(project, threads=1)
    session.start()
    client = make_client(session, Access(port=80))
    answer = client.get(f"/api/{session.id}/images/0/tiles/0/0/0")
    assert answer.headers["content-type"] == "image/jpeg"
    tile = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(tile[:, :, ::-1].astype(int) - image[:, :256, :256].transpose(1, 2, 0)).mean() < 9
    for x, y, name in POINTS:
        add(client, 5 * x / 3, 5 * y / 3, name)
    client.post("/api/view", json=WHOLE | {"bottom": 320, "right": 320})
    wait_for(lambda: session.live.view_map and not session.live.is_busy)
    shown = session.live.view_map
    assert (shown.class_ids[:320, :320] == draw_truth(320)).mean() > 0.95
    session.close()
    assert sorted(tmp_path.joinpath("images").iterdir()) == before


def test_a_full_disk_is_said(client, monkeypatch):
    write = os.write

    def full(file, content):
        if b"water" not in content:
            return write(file, content)
        raise OSError(errno.ENOSPC, "No space left on device")

    values = {"id": ID, "image": 0, "x": 3, "y": 4, "class": "water"}
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        answer = client.post("/api/add", json=values)
    assert (answer.status_code, answer.json()) == (
        507,
        {"error": "The disk is full.", "is_full": True},
    )
    assert client.get("/api/state").json()["points"] == []


@pytest.mark.parametrize(
    ("path", "values", "status", "text"),
    [
        (
            "add",
            {"id": ID, "image": 0, "x": 1e9, "y": 4, "class": "water"},
            400,
            "wanted one inside",
        ),
        (
            "add",
            {"id": ID, "image": 0, "x": "a", "y": 4, "class": "water"},
            400,
            "wanted finite numbers",
        ),
        (
            "add",
            {"id": ID, "image": 7, "x": 1, "y": 4, "class": "water"},
            404,
            "there is no image 7",
        ),
        (
            "add",
            {"id": ID, "image": "../a", "x": 1, "y": 4, "class": "water"},
            400,
            "wanted a whole number",
        ),
        ("add", {"id": ID, "image": 0, "x": 1, "y": 4, "class": "ice"}, 400, "no class 'ice'"),
        ("add", {"id": "1", "image": 0, "x": 1, "y": 4, "class": "road"}, 400, "id: wanted 32"),
        (
            "add_stroke",
            {"image": 0, "places": [{"id": ID, "x": 1, "y": 4}] * 2, "class": "road"},
            400,
            "ids that differ",
        ),
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
        f"/api/{client.headers['x-pointcover-session']}/images/..%2Fsecret/tiles/0/0/0",
        "/static/routes.py",
        f"/api/{client.headers['x-pointcover-session']}/map/1/..%2Fclasses.png",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text


def test_tiles_are_of_the_image(session, client):
    answer = client.get(f"/api/{session.id}/images/0/tiles/0/0/0")
    assert answer.headers["content-type"] == "image/png"  # 64 px of the tile lie outside
    pixels = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (256, 256, 4)
    assert (pixels[:192, :192, 3] == 255).all()
    assert not pixels[192:, :, 3].any()
    np.testing.assert_allclose(pixels[:192, 70:120, :3].mean(axis=(0, 1)), (160, 80, 40), atol=2)
    assert client.get(f"/api/{session.id}/images/0/tiles/5/0/0").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "[::1"}, 421),
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
        ({"Host": "127.0.0.1"}, 200),  # browsers leave port 80 out
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}, 200),
        ({"Host": "[::1]"}, 200),
    ],
)
def test_foreign_hosts_and_pages_are_refused(client, headers, status):
    assert client.post("/api/undo", json={}, headers=headers).status_code == status


@pytest.mark.parametrize(("listens", "host"), [("127.0.0.1", None), ("0.0.0.0", "192.168.0.7")])
def test_everybody_needs_the_token(session, listens, host):
    """Other users of this machine too."""
    access = Access(listens, 8765)
    client = make_client(session, access, host or listens)
    client.cookies.clear()
    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.post(f"/api/undo?token={access.token}", json={}).status_code == 401
    opened = client.get(f"/?token={access.token}")
    assert opened.status_code == 200
    assert 'content="0; url=/"' in opened.text
    assert access.token not in opened.text
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith("pointcover-token-8765=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "app.js" in client.get("/").text
    assert client.post("/api/undo", json={}).status_code == 200
    foreign = {"Host": "evil.example:8765"}
    assert client.get("/", headers=foreign).status_code == 421
    assert access.token not in repr(access)


def test_there_is_always_a_token():
    assert len(Access().token) >= 32
    assert Access().token != Access().token
    with pytest.raises(ValueError, match="empty token"):
        Access(token="")


@pytest.mark.parametrize(
    ("mode", "dest", "token", "status"),
    [
        ("navigate", "document", "right", 200),
        ("navigate", "document", "wrong", 403),
        ("navigate", "iframe", "right", 403),
        ("no-cors", "image", "right", 403),
        ("cors", "empty", "right", 403),
    ],
)
def test_a_link_of_another_site_opens_the_page_in_a_tab(session, mode, dest, token, status):
    access = Access(port=80, token="right")
    client = make_client(session, access)
    client.cookies.clear()
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    answer = client.get(f"/?token={token}", headers=headers)
    assert answer.status_code == status
    assert ("set-cookie" in answer.headers) == (status == 200)


def test_a_tab_of_another_project_changes_nothing(session, client, tmp_path):
    start, _, digest = session.id.partition("-")
    tile = f"/api/{session.id}/images/0/tiles/0/0/0"
    assert client.get(tile).status_code == 200
    assert client.get("/api/status").json()["session"] == session.id
    for other in ("", start, f"{start}-{digest[::-1]}"):
        headers = {"X-Pointcover-Session": other}
        for path in (*ACTIONS, "export", "map_images", "train"):
            answer = client.post(f"/api/{path}", json={}, headers=headers)
            assert answer.status_code == 409, path
            assert "another project" in answer.json()["error"].lower()
        assert client.get(tile.replace(session.id, other or "0")).status_code == 404
    again = {"X-Pointcover-Session": f"0000-{digest}"}  # the same project, started before
    assert client.post("/api/undo", json={}, headers=again).status_code == 200
    assert client.get(tile.replace(start, "0000")).status_code == 404


def test_sessions_differ_by_start_and_projects_by_folder_and_images(tmp_path):
    def id_of(name, images):
        session = Session(open_scene(tmp_path / name, images), threads=1)
        session.close()
        return session.id.split("-")

    first, again, more = id_of("a", 1), id_of("a", 1), id_of("a", 2)
    assert first[0] != again[0]
    assert len({first[1], more[1], id_of("b", 1)[1]}) == 3
    image = tmp_path / "a" / "images" / "a.tif"
    before = image.stat()
    project = Project(tmp_path / "a" / "project", [image], "anna")
    session = Session(project, threads=1)
    session.close()
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    project = Project(tmp_path / "a" / "project", [image], "anna")
    changed = Session(project, threads=1)
    changed.close()
    assert session.id.split("-")[1] != changed.id.split("-")[1]


def test_a_point_that_is_sent_again_is_added_once(session, client, tmp_path):
    one = {"id": ID, "image": 0, "x": 3, "y": 4, "class": "water"}
    places = [{"id": f"{n:032x}", "x": n, "y": 9} for n in range(3)]
    stroke = {"image": 0, "places": places, "class": "road"}
    first = client.post("/api/add", json=one).json()["point"]
    assert first["id"] == ID
    assert client.post("/api/add", json=one).json()["point"] == first
    renamed = [{"name": n, "colour": c} for n, c in (("lake", "#0000FF"), ("road", "#777777"))]
    values = {"classes": renamed, "renamed": {"water": "lake"}}
    assert client.post("/api/classes", json=values).status_code == 200
    assert client.post("/api/add", json=one).json()["point"]["class"] == "lake"
    session.add_stroke(0, [(0, 9)], "road", [places[0]["id"]])
    for _ in range(2):
        answer = client.post("/api/add_stroke", json=stroke).json()
        assert [point["id"] for point in answer["points"]] == [place["id"] for place in places]
    assert len(session.project.history.points) == 4
    client.post("/api/undo", json={})
    assert len(session.project.history.points) == 2
    client.post("/api/undo", json={})
    client.post("/api/undo", json={})
    assert client.post("/api/add_stroke", json=stroke).json()["points"][0]["state"] == "removed"
    assert [point.id for point in session.project.history.points] == [ID]


def test_the_map_of_the_view_and_its_next_points(session, client):
    session.start()
    for x, y, label in POINTS:
        add(client, x, y, label)
    client.post("/api/view", json=WHOLE)
    seen = -1

    def finished():
        nonlocal seen
        status = client.get(f"/api/status?seen={seen}").json()
        seen = status["number"]
        return status["scores"] and status["map"] and status

    status = wait_for(finished)
    assert status["map"]["labels"] == {"points": 12, "polygons": 0, "pixels": 0}
    assert status["scores"]["points"] == 12
    assert [one["points"] for one in status["scores"]["curve"]] == [12]
    number = status["map"]["number"]
    png = client.get(f"/api/{session.id}/map/{number}/classes.png").content
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    colours = [
        tuple(bytes.fromhex(one["colour"][1:]))[::-1]
        for one in client.get("/api/state").json()["classes"]
    ]
    expected = np.array(colours)[draw_truth()]
    assert (pixels[..., :3] == expected).all(axis=2).mean() > 0.93
    assert client.get(f"/api/{session.id}/map/{number}/confidence.png").status_code == 200
    assert client.get(f"/api/{session.id}/map/99999/classes.png").status_code == 404
    found = client.post("/api/suggest", json={"image": 0}).json()
    assert len(found) >= 4
    one = {"image": 0, "x": found[0]["x"], "y": found[0]["y"], "state": "unsure"}
    assert client.post("/api/pass_over", json=one).json()["point"]["class"] is None
    again = client.post("/api/suggest", json={"image": 0}).json()
    assert (found[0]["x"], found[0]["y"]) not in [(p["x"], p["y"]) for p in again]
    assert len(client.get("/api/state").json()["points"]) == 12


def test_points_are_exported_by_a_job(session, client):
    add(client)
    assert client.post("/api/export", json={}).json() == {}
    job = wait_for(lambda: session.job["state"] != "running" and session.job)
    assert job["state"] == "done"
    assert job["files"] == [str(session.export_folder / "labels" / "points.gpkg")]
