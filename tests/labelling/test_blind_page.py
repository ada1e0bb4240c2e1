"""The blind page in a real browser, from a sample to the assessment."""

import json
import subprocess
import sys

import pytest

from pointcover.assessment.sample_file import read_sample
from tests.labelling.blind_scenes import NAMES, draw_sample_of_scenes, truth_at
from tests.labelling.browser import LabelPage, Server, open_browser, require_browser
from tests.labelling.test_page import CONTRAST

pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


def answer(page, label):
    """Answer the point that is shown by its key, and wait until it is saved."""
    before = page.tab.inner_text("#saved")
    page.tab.keyboard.press("u" if label is None else str(NAMES.index(label) + 1))
    page.wait(lambda: page.tab.inner_text("#saved") != before, "the answer")
    page.wait(lambda: "saved" in page.tab.inner_text("#saved"), "the answer")


def test_a_sample_is_labelled_by_keys_through_a_power_cut_and_assessed(browser, tmp_path):
    require_browser()
    images, maps, sample = draw_sample_of_scenes(tmp_path)
    options = ["--sample", str(sample), "--author", "anna"]
    server = Server(images, tmp_path / "project", options=options)
    page = LabelPage(
        browser.new_context(viewport={"width": 1280, "height": 800}).new_page(), server.url
    )
    points = page.tab.evaluate("() => fetch('api/state').then((one) => one.json())")["points"]
    assert "0 of 12 saved" in page.tab.inner_text("#saved")
    for number, one in enumerate(points[:5]):
        assert f"Point {number + 1} of 12" in page.tab.inner_text("#which")
        answer(page, None if number == 2 else truth_at(one["x"]))
    assert "4 labelled, 1 “cannot tell”, 7 open" in page.tab.inner_text("#counts")
    server.kill()
    page.tab.keyboard.press("1")
    page.wait(lambda: "kept in this page" in page.tab.inner_text("#banner"), "the warning")
    again = Server(images, tmp_path / "project", server.port, options)
    LabelPage(page.tab.context.new_page(), again.url).tab.close()
    page.tab.click("#retry")
    page.wait(lambda: "6 of 12 saved" in page.tab.inner_text("#saved"), "the answer")
    page.tab.keyboard.press("ArrowLeft")
    assert "Point 6 of 12" in page.tab.inner_text("#which")
    page.tab.keyboard.press(str(NAMES.index(truth_at(points[5]["x"])) + 1))
    page.wait(lambda: "Point 7 of 12" in page.tab.inner_text("#which"), "the next point")
    for one in points[6:]:
        answer(page, truth_at(one["x"]))
    assert page.tab.is_visible("#done")
    assert "5 labelled" not in page.tab.inner_text("#counts")
    page.tab.click("#first-unsure")
    assert "Point 3 of 12" in page.tab.inner_text("#which")
    assert again.stop() == 0, again.said
    assert page.errors == []
    labelled = read_sample(sample)
    assert (labelled.labels != 255).sum() == 11
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pointcover",
            "assess",
            *map(str, maps),
            str(sample),
            "--out",
            "report",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    wrong = [one["y"] < 40 for n, one in enumerate(points) if n != 2]
    assert 0 < sum(wrong) < 11
    assert "11 points" in done.stderr
    assert found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_blind_page_in_a_narrow_window(browser, tmp_path, scheme):
    images, _, sample = draw_sample_of_scenes(tmp_path)
    server = Server(images, tmp_path / "project", options=["--sample", str(sample)])
    options = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "color_scheme": scheme}
    page = LabelPage(browser.new_context(**options).new_page(), server.url)
    page.tab.tap("#answers button:has-text('water')")
    page.wait(lambda: "1 of 12 saved" in page.tab.inner_text("#saved"), "the answer")
    sizes = page.tab.evaluate(
        "() => [document.body.scrollWidth - innerWidth, document.body.scrollHeight - innerHeight]"
    )
    assert max(sizes) <= 0, "the whole page scrolls"
    assert page.tab.evaluate(CONTRAST) == []
    assert server.stop() == 0, server.said
    assert page.errors == []
