"""The page in a real browser."""

import json
from threading import Event

import numpy as np
import pytest
import shapely

from pointcover.labelling.point_log import newest_of, read_log
from pointcover.labelling.polygons import to_polygon
from pointcover.labelling.project import LOG
from pointcover.labelling.serve import write_lead
from pointcover.labelling.trained_maps import TrainedModel
from pointcover.labels import ClassTable, parse_colour
from pointcover.raster.overviews import LevelReader
from pointcover.raster.raster_io import Window, write_mask
from tests.labelling.browser import Here, LabelPage, Server, open_browser, require_browser
from tests.labelling.scenes import CLASSES, POINTS, write_scene

pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture
def images(tmp_path):
    require_browser()
    return [
        write_scene(tmp_path / "images" / f"{name}.tif", seed=n) for n, name in enumerate("abc")
    ]


@pytest.fixture
def server(tmp_path, images):
    started = Here(images, tmp_path / "project")
    yield started
    started.stop()


def open_page(browser, server, **options):
    options = {"viewport": {"width": 1280, "height": 800}} | options
    return LabelPage(browser.new_context(**options).new_page(), server.url)


def labels_of(folder):
    points = newest_of(read_log(folder / LOG)[0]).values()
    return sorted((p.x, p.y, p.label) for p in points if p.state == "labelled")


def is_like(one, other, tolerance=3):
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= tolerance


def test_from_clicks_to_a_map_through_a_power_cut(browser, images, tmp_path):
    server = Server(images, tmp_path / "project")
    before = sorted(path.name for path in images[0].parent.iterdir())
    page = open_page(browser, server)
    assert "Name your classes" in page.tab.inner_text("#hint")
    for one in CLASSES:
        page.add_class(one.name, one.colour)
    page.slide("#opacity", 100)
    for number, one in enumerate(CLASSES, 1):
        page.tab.keyboard.press(str(number))
        for x, y, name in POINTS:
            if name == one.name:
                page.click(x, y)
        page.wait_saved(4 * number)
    page.wait_map(12)
    for x, one in zip((45, 110, 150), CLASSES, strict=True):
        assert is_like(page.colour_at(x, 85), parse_colour(one.colour)), one.name
    for number in range(4):
        page.tab.keyboard.press("Control+z")
        page.wait_saved(11 - number)
    page.wait_map(8)
    assert not is_like(page.colour_at(150, 85), parse_colour(CLASSES[2].colour))
    page.tab.keyboard.press("Control+Shift+z")
    page.wait_saved(9)
    page.tab.keyboard.press("Control+y")
    page.wait_saved(10)
    known = labels_of(tmp_path / "project")
    server.kill()
    page.tab.keyboard.press("1")
    page.click(40, 30)
    page.wait(lambda: "1 point is not saved" in page.tab.inner_text("#banner"), "the warning")
    assert labels_of(tmp_path / "project") == known
    again = Server([], tmp_path / "project", server.port)
    page.wait(lambda: "wants the token" in page.tab.inner_text("#banner"), "the new token")
    LabelPage(page.tab.context.new_page(), again.url).tab.close()
    page.wait(lambda: "The server answers again" in page.tab.inner_text("#banner"), "the server")
    page.tab.click("#retry")
    page.wait_saved(11)
    page.wait_map(11)
    assert len(labels_of(tmp_path / "project")) == 11
    fresh = LabelPage(browser.new_context().new_page(), again.url)
    fresh.wait_saved(11)
    assert len(fresh.tab.query_selector_all(".point")) == 11
    page.tab.click("#export")
    page.wait(lambda: "Points are exported" in page.tab.inner_text("#job"), "the export")
    assert (tmp_path / "project" / "export" / "labels" / "points.gpkg").is_file()
    assert again.stop() == 0, again.said
    assert page.errors == fresh.errors == []
    assert {host.partition(":")[0] for host in page.hosts | fresh.hosts} == {"127.0.0.1"}
    assert sorted(path.name for path in images[0].parent.iterdir()) == before


def test_points_are_dragged_removed_and_relabelled(browser, server, tmp_path):
    page = open_page(browser, server)
    for one in CLASSES[:2]:
        page.add_class(one.name)
    page.tab.keyboard.press("1")
    page.click(20.5, 20.5)
    page.wait_saved(1)
    page.tab.mouse.move(*page.place(20.5, 20.5))
    page.tab.mouse.down()
    page.tab.mouse.move(*page.place(60.5, 90.5), steps=5)
    page.tab.mouse.up()
    folder = tmp_path / "project"
    page.wait(lambda: abs(labels_of(folder)[0][0] - 60.5) < 1, "the move")
    assert abs(labels_of(folder)[0][1] - 90.5) < 1
    page.tab.select_option("#points select", "water")
    page.wait(lambda: labels_of(folder)[0][2] == "water", "the class")
    page.tab.mouse.click(*page.place(60.5, 90.5), button="right")
    page.wait_saved(0)
    page.tab.keyboard.press("Control+z")
    page.wait_saved(1)
    page.click(60.5, 90.5)  # on a point: chooses it
    page.tab.keyboard.press("Delete")
    page.wait_saved(0)
    assert page.errors == []


def test_a_stroke_is_drawn_and_undone_and_seen_in_another_tab(browser, server):
    page, other = open_page(browser, server), open_page(browser, server)
    page.add_class("meadow")
    page.click(20, 20)
    page.wait_saved(1)
    page.tab.keyboard.down("Shift")
    page.tab.mouse.move(*page.place(30, 60))
    page.tab.mouse.down()
    page.tab.mouse.move(*page.place(90, 60), steps=12)
    page.tab.mouse.up()
    page.tab.keyboard.up("Shift")
    page.wait(lambda: len(server.session.project.history.points) > 3, "the stroke")
    count = len(server.session.project.history.points)
    page.wait_saved(count)
    other.wait_saved(count)
    assert "meadow" in other.tab.inner_text("#classes")
    page.tab.keyboard.press("Control+z")
    page.wait_saved(1)
    other.wait_saved(1)
    assert page.errors == other.errors == []


def draw_stroke(page, y, corners):
    """Draw a stroke with Shift from one column to others, without letting the button go."""
    page.tab.keyboard.down("Shift")
    page.tab.mouse.move(*page.place(corners[0], y))
    page.tab.mouse.down()
    for x in corners[1:]:
        page.tab.mouse.move(*page.place(x, y), steps=60)
    page.tab.keyboard.up("Shift")


def test_a_long_stroke_is_kept_whole_with_its_image_and_class(browser, server, tmp_path):
    page = open_page(browser, server)
    for one in CLASSES[:2]:
        page.add_class(one.name)
    page.tab.focus("#map")
    page.tab.keyboard.press("1")
    draw_stroke(page, 60, (10, 180, 10, 180, 10, 180))
    page.tab.keyboard.press("2")
    page.tab.keyboard.press("]")
    page.tab.mouse.up()
    points = server.session.project.history
    page.wait(lambda: len(points.points) > 100, "more points than a request has")
    page.wait_saved(len(points.points))
    assert {(one.image, one.label) for one in points.points} == {("a.tif", "meadow")}
    assert page.errors == []


def areas_of(server):
    points = server.session.project.history.points
    return [(one.label, to_polygon(one.shape)) for one in points if one.shape]


def test_polygons_and_the_brush_label_areas(browser, server):
    page = open_page(browser, server)
    for one in CLASSES:
        page.add_class(one.name, one.colour)
    page.tab.focus("#map")
    page.tab.keyboard.press("1")
    page.tab.keyboard.press("p")
    for x, y in ((10, 10), (50, 10), (50, 80), (90, 90), (10, 80)):
        page.click(x, y)
    page.tab.keyboard.press("Backspace")
    page.tab.keyboard.press("Backspace")
    page.click(10, 80)
    assert server.session.project.history.points == []
    page.click(10, 10)
    page.wait(lambda: page.tab.inner_text("#saved") == "1 polygon saved", "the polygon")
    page.tab.keyboard.press("2")
    page.tab.keyboard.press("b")
    page.tab.mouse.move(*page.place(80, 30))
    page.tab.mouse.down()
    page.tab.mouse.move(*page.place(110, 30), steps=8)
    page.tab.mouse.up()
    page.wait(lambda: page.tab.inner_text("#saved") == "2 polygons saved", "the brush")
    (first, field), (second, stroke) = areas_of(server)
    assert (first, second) == ("meadow", "water")
    assert field.symmetric_difference(shapely.box(10, 10, 50, 80)).area < 150
    assert (
        stroke.symmetric_difference(shapely.LineString([(80, 30), (110, 30)]).buffer(5)).area < 80
    )
    page.tab.keyboard.press("Escape")
    page.tab.keyboard.press("3")
    page.click(160, 100)
    page.wait(lambda: "1 point, 2 polygons saved" in page.tab.inner_text("#saved"), "the point")
    page.wait(
        lambda: page.tab.inner_text("#map-state").startswith("map of 1 point, 2 polygons"), "a map"
    )
    page.slide("#opacity", 100)
    assert is_like(page.colour_at(30, 150), parse_colour(CLASSES[0].colour))
    assert is_like(page.colour_at(110, 150), parse_colour(CLASSES[1].colour))
    for number in (1, 0):
        page.tab.keyboard.press("Control+z")
        page.wait(lambda number=number: len(areas_of(server)) == number + 1, "the undo")
    page.tab.keyboard.press("Control+Shift+z")
    page.wait(lambda: len(areas_of(server)) == 2, "the redo")
    page.tab.locator("#points tr[data-id] button[title=Remove]").first.click()
    page.wait(lambda: len(areas_of(server)) == 1, "the removal")
    page.wait(lambda: len(page.tab.query_selector_all("path.area")) == 1, "one area")
    assert page.errors == []


def test_an_outline_that_crosses_itself_stays_to_be_mended(browser, server):
    page = open_page(browser, server)
    page.add_class("meadow")
    page.tab.click("label:has(input[value=polygon])")
    for x, y in ((20, 20), (80, 80), (80, 20), (20, 80)):
        page.click(x, y)
    page.tab.click("#finish")
    page.wait(lambda: "crosses or touches itself" in page.tab.inner_text("#banner"), "the refusal")
    assert "4 corners of meadow" in page.tab.inner_text("#hint")
    page.tab.click("#back")
    page.tab.click("#finish")
    page.wait(lambda: page.tab.inner_text("#saved") == "1 polygon saved", "the polygon")
    assert page.errors == []


def test_a_polygon_that_is_not_saved_is_kept_in_the_page(browser, server):
    page = open_page(browser, server)
    page.add_class("meadow")
    page.tab.route("**/api/add_polygon", lambda route: route.abort())
    page.tab.focus("#map")
    page.tab.keyboard.press("p")
    for x, y in ((20, 20), (80, 80), (80, 20)):
        page.click(x, y)
    page.tab.keyboard.press("f")
    page.wait(lambda: "1 label is not saved" in page.tab.inner_text("#banner"), "the warning")
    page.tab.unroute("**/api/add_polygon")
    page.tab.click("#retry")
    page.wait(lambda: page.tab.inner_text("#saved") == "1 polygon saved", "the polygon")
    assert len(areas_of(server)) == 1
    assert page.errors == []


def test_fingers_draw_polygons_and_paint(browser, server):
    page = open_page(browser, server, viewport={"width": 390, "height": 780}, has_touch=True)
    page.add_class("meadow")
    page.tab.tap("label:has(input[value=polygon])")
    for x, y in ((50, 50), (110, 80), (110, 50)):
        page.tab.touchscreen.tap(*page.place(x, y))
        page.tab.wait_for_timeout(300)
    page.tab.tap("#finish")
    page.wait(lambda: len(areas_of(server)) == 1, "the polygon")
    page.tab.tap("label:has(input[value=brush])")
    drag_finger(page, [page.place(x, 120) for x in range(30, 100, 5)])
    page.wait(lambda: len(areas_of(server)) == 2, "the brush")
    _, stroke = areas_of(server)[1]
    assert stroke.distance(shapely.Point(60, 120)) == 0
    assert page.errors == []


def drag_finger(page, places):
    """Drag a finger, by the protocol of the browser's tools."""
    tools = page.tab.context.new_cdp_session(page.tab)
    for number, (x, y) in enumerate(places):
        kind = "touchMove" if number else "touchStart"
        tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    tools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def show_trained_model(server, folder):
    """Let the trained model's map of the first image be of the last class alone."""
    colours = tuple(parse_colour(one.colour) for one in CLASSES)
    table = ClassTable(tuple(one.name for one in CLASSES), colours)
    path = folder / "a_classes.tif"
    info = server.session.readers[0].info
    with write_mask(path, like=info, block_px=64, classes=table) as writer:
        writer.write(np.full((1, 192, 192), 2, np.uint8), Window(0, 0, 192, 192))
    server.session.trained.take(
        TrainedModel(
            number=1,
            experiment="tidy-gull",
            classes=table.names,
            maps={"a.tif": str(path)},
            run=("1", "2"),
            test_miou=0.5,
        )
    )
    server.session.touch()


def test_the_trained_models_map_is_beside_the_live_one(browser, server, tmp_path):
    page = open_page(browser, server)
    for one in CLASSES:
        page.add_class(one.name, one.colour)
    for x, y, name in POINTS:
        server.session.add(0, (x, y), name)
    page.wait_map(12)
    assert not page.tab.is_visible("#trained-layer")
    show_trained_model(server, tmp_path)
    page.wait(lambda: page.tab.is_visible("#trained-layer"), "the trained model")
    assert "tidy-gull: mean IoU 50" in page.tab.inner_text("#trained-text")
    assert page.tab.get_attribute("#run", "href") == "run"
    page.slide("#opacity", 100)
    page.tab.click("label:has(input[value=trained])")
    page.tab.wait_for_selector(".trained-tile .leaflet-tile-loaded")
    assert is_like(page.colour_at(40, 150), parse_colour(CLASSES[2].colour))
    page.tab.click("#compare")
    page.slide("#swipe", 50)
    page.tab.wait_for_selector("img.overlay")
    page.tab.wait_for_timeout(300)
    assert is_like(page.colour_at(40, 150), parse_colour(CLASSES[0].colour))
    assert is_like(page.colour_at(110, 150), parse_colour(CLASSES[2].colour))
    page.tab.focus("#map")
    page.tab.keyboard.press("m")
    page.tab.keyboard.press("m")
    assert page.tab.is_checked("input[value=trained]")
    assert page.tab.input_value("#other") == "none"
    assert page.errors == []


def test_points_whose_answer_is_lost_are_saved_once(browser, server):
    page = open_page(browser, server)
    page.add_class("meadow")
    sent = []

    def lose(route):
        sent.append(route.request.post_data_json)
        route.fetch()
        route.abort()

    page.tab.route("**/api/add*", lose)
    page.click(20, 20)
    page.wait(lambda: "1 point is not saved" in page.tab.inner_text("#banner"), "the warning")
    draw_stroke(page, 60, (30, 90))
    page.tab.mouse.up()
    points = server.session.project.history
    page.wait(lambda: "s are not saved" in page.tab.inner_text("#banner"), "the warning")
    count = len(points.points)
    assert count > 3
    page.tab.unroute("**/api/add*")
    page.tab.dblclick("#classes label")
    page.tab.keyboard.type("grass")
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_selector("#classes label:text-is('grass')")
    resent = []
    page.tab.on("request", lambda one: resent.append(one) if one.url.endswith("/add") else None)
    page.tab.click("#retry")
    page.wait_saved(count)
    assert len(points.points) == count
    assert {one.label for one in points.points} == {"grass"}
    assert {one.post_data_json["class"] for one in resent} == {"grass"}
    assert page.errors == []


def test_a_tab_stops_where_another_project_takes_its_port(browser, images, tmp_path):
    server = Here(images, tmp_path / "project")
    page = open_page(browser, server)
    page.add_class("meadow")
    page.click(20, 20)
    page.wait_saved(1)
    server.stop()
    page.click(40, 30)
    page.wait(lambda: "1 point is not saved" in page.tab.inner_text("#banner"), "the warning")
    other = Here(images[1:], tmp_path / "other", server.port)
    try:
        fresh = LabelPage(page.tab.context.new_page(), other.url)
        fresh.add_class("meadow")
        page.wait(lambda: "Another project" in page.tab.inner_text("#banner"), "the stop")
        assert "1 point is not saved, and shown in this tab" in page.tab.inner_text("#banner")
        page.click(60, 60)
        page.wait(lambda: "2 points are not saved" in page.tab.inner_text("#banner"), "the refusal")
        page.tab.keyboard.press("Control+z")
        assert len(page.tab.query_selector_all(".point.failed")) == 2
        assert "a.tif" in page.tab.inner_text("#images")
        assert other.session.project.history.points == []
    finally:
        other.stop()
    again = Here([], tmp_path / "project", server.port)
    try:
        LabelPage(page.tab.context.new_page(), again.url).tab.close()
        page.tab.click("#retry")
        page.wait_saved(3)
        assert len(again.session.project.history.points) == 3
        assert page.errors == fresh.errors == []
    finally:
        again.stop()


def test_a_link_of_another_site_leads_to_the_page(browser, server):
    """The cookie is a strict one, which a redirect of a foreign link would not bring."""
    tab = browser.new_context().new_page()
    html = f'<a href="{server.url}">open</a>'
    tab.route(
        "http://localhost:9/", lambda route: route.fulfill(body=html, content_type="text/html")
    )
    tab.goto("http://localhost:9/")
    tab.click("a")
    tab.wait_for_selector("body[data-ready]")
    assert "token" not in tab.url


def test_a_file_of_its_owner_leads_to_the_page(browser, server, tmp_path):
    lead = write_lead(tmp_path, server.url)
    assert lead.stat().st_mode & 0o777 == 0o600
    tab = browser.new_context().new_page()
    tab.goto(lead.as_uri())
    tab.wait_for_selector("body[data-ready]")
    assert tab.url == f"http://127.0.0.1:{server.port}/"


def test_next_works_while_overviews_are_written(browser, tmp_path, monkeypatch):
    release = Event()
    write = LevelReader.write_overviews

    def wait(reader, *options):
        release.wait(120)
        write(reader, *options)

    monkeypatch.setattr(LevelReader, "write_overviews", wait)
    image = write_scene(tmp_path / "images" / "a.tif", size=4608)
    server = Here([image], tmp_path / "project")
    try:
        server.session.project.set_classes(CLASSES, {})
        for x, y, name in POINTS:
            server.session.add(0, (24 * x, 24 * y), name)
        page = open_page(browser, server)
        page.wait(lambda: "Overviews are being" in page.tab.inner_text("#map-state"), "overviews")
        page.tab.focus("#map")
        page.tab.keyboard.press("n")
        page.tab.wait_for_selector(".suggestion", timeout=120_000)
        assert "Click on the yellow point" in page.tab.inner_text("#next-text")
        assert not server.session.readers[0].is_ready
        assert page.errors == []
    finally:
        release.set()
        server.stop()


def test_the_keyboard_alone_labels(browser, server, tmp_path):
    page = open_page(browser, server)
    keys = page.tab.keyboard
    page.tab.focus("#new-name")
    for name in ("meadow", "water"):
        keys.type(name)
        keys.press("Enter")
        page.tab.wait_for_selector(f"#classes label:text-is('{name}')")
    for _ in range(40):
        keys.press("Shift+Tab")
        if page.tab.evaluate("() => document.activeElement.id") == "map":
            break
    else:
        pytest.fail("the map is not reached by Tab")
    keys.press("2")
    keys.press("Enter")
    page.wait_saved(1)
    assert labels_of(tmp_path / "project") == [
        (pytest.approx(96, 1), pytest.approx(96, 1), "water")
    ]
    keys.press("ArrowLeft")
    page.tab.wait_for_timeout(400)
    keys.press("1")
    keys.press("Enter")
    page.wait_saved(2)
    left, right = labels_of(tmp_path / "project")
    assert (left[2], right[2]) == ("meadow", "water")
    keys.press("Control+z")
    page.wait_saved(1)
    keys.press("]")
    assert page.tab.input_value("#image") == "1"
    keys.press("?")
    assert page.tab.is_visible("#help")
    keys.press("Escape")
    keys.press("m")
    assert page.tab.is_checked("input[value=confidence]")
    assert page.errors == []


def test_suggested_points_are_answered_by_keys(browser, server, tmp_path):
    page = open_page(browser, server)
    for one in CLASSES:
        page.add_class(one.name)
    for x, y, name in POINTS:
        server.session.add(0, (x, y), name)
    page.wait_saved(12)
    page.tab.click("#next")
    page.wait_map(12)
    page.tab.click("#next")
    page.tab.wait_for_selector(".suggestion")
    page.tab.focus("#map")
    page.tab.keyboard.press("Enter")
    page.wait_saved(13)
    page.tab.wait_for_selector(".suggestion")
    page.tab.keyboard.press("u")
    page.wait(lambda: server.session.project.history.passed_over, "the answer")
    assert server.session.project.history.passed_over[0].state == "unsure"
    page.tab.check("#swipes")
    page.slide("#swipe", 25)
    clip = page.tab.evaluate(
        "() => document.querySelector('.leaflet-prediction-pane').style.clipPath"
    )
    assert clip.startswith("polygon(")
    assert page.errors == []


def test_a_narrow_window_with_a_touch_screen(browser, server, tmp_path):
    page = open_page(browser, server, viewport={"width": 390, "height": 780}, has_touch=True)
    page.add_class("meadow")
    page.tab.touchscreen.tap(*page.place(50, 60))
    page.wait_saved(1)
    ((x, y, _),) = labels_of(tmp_path / "project")
    assert abs(x - 50) < 2
    assert abs(y - 60) < 2
    sizes = page.tab.evaluate(
        "() => [document.body.scrollWidth - innerWidth, document.body.scrollHeight - innerHeight]"
    )
    assert max(sizes) <= 0, "the whole page scrolls"
    assert page.tab.is_visible("#next")


def test_names_are_shown_as_text(browser, tmp_path):
    name = "<img src=x onerror=alert(1)><script>alert(2)<script>.tif"
    image = write_scene(tmp_path / "images" / name)
    server = Here([image], tmp_path / "project")
    page = open_page(browser, server)
    assert name in page.tab.inner_text("#images")
    page.tab.fill("#new-name", "<script>alert(1)</script>")
    page.tab.click("#new-class button")
    page.wait(lambda: "got the class name" in page.tab.inner_text("#banner"), "the refusal")
    page.add_class("x")
    page.click(20, 20)
    page.wait_saved(1)
    assert page.tab.query_selector("#images img") is None
    assert page.errors == []
    server.stop()


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => parse(text).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0.05);
  const isClear = (one) => (parse(getComputedStyle(one).backgroundColor)[3] ?? 1) < 1;
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const texts = [...one.childNodes].filter((node) => node.nodeType === 3);
    const isLeftOut = one.closest(":disabled, script, option, svg, .skip-link");
    if (!texts.some((node) => node.textContent.trim()) || isLeftOut) continue;
    if (!one.checkVisibility()) continue;
    let behind = one;
    while (behind.parentElement && isClear(behind)) behind = behind.parentElement;
    const ends = [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor];
    const values = ends.map(light);
    const ratio = Math.max(...values) / Math.min(...values);
    if (ratio < 4.5) found.push([one.outerHTML.slice(0, 100), ...ends, ratio]);
  }
  return found;
}"""
"""Text whose contrast is below that of WCAG AA."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser, server, tmp_path, scheme):
    page = open_page(browser, server, color_scheme=scheme)
    page.add_class("meadow")
    page.click(20, 20)
    page.wait_saved(1)
    page.tab.fill("#new-name", "meadow")
    page.tab.click("#new-class button")
    page.wait(lambda: "occurs twice" in page.tab.inner_text("#banner"), "the message")
    assert page.tab.evaluate(CONTRAST) == []
    server.session.job = {"state": "failed", "text": "The training ended.", "log": "ERROR"}
    show_trained_model(server, tmp_path)
    page.tab.click("label:has(input[value=polygon])")
    for x, y in ((50, 50), (90, 50), (90, 90)):
        page.click(x, y)
    page.wait(lambda: page.tab.is_visible("#compare"), "the trained model")
    assert page.tab.is_visible("#finish")
    assert page.tab.evaluate(CONTRAST) == []


def test_an_open_project_is_not_opened_twice(server, images, tmp_path):
    assert json.loads((tmp_path / "project" / "open.json").read_text())["author"] == "anna"
    with pytest.raises(AssertionError, match=r"(?s)the server ended.*is in use: .* has it open on"):
        Server(images, tmp_path / "project")
