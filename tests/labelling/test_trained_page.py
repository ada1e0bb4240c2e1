"""From the button "Train" to the run on MLflow's own page, in a real browser."""

import urllib.request

import pytest

from tests.clones import SMALL, Clone
from tests.labelling.browser import LabelPage, Server, open_browser, require_browser
from tests.labelling.scenes import POINTS, open_scene

pytestmark = pytest.mark.slow

SEEN = ("test/miou", "labels/clicks", "train/loss")
"""Metrics that MLflow's page of the run lists."""


def test_the_link_leads_to_the_metrics_of_the_run_and_mlflow_ends_with_a_killed_page(
    tmp_path, monkeypatch
):
    require_browser()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "clone").mkdir()
    clone = Clone(tmp_path / "clone", SMALL)
    for name, value in clone.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(clone.folder)
    project = open_scene(tmp_path, images=3)
    for image in "abc":
        for x, y, name in POINTS:
            project.history.add(f"{image}.tif", x, y, name)
    project.close()
    server = Server([], tmp_path / "project", folder=clone.folder)
    try:
        with open_browser() as browser:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = LabelPage(context.new_page(), server.url)
            page.tab.click("#train")
            page.wait(lambda: page.tab.is_visible("#run"), "the trained model", 900)
            assert "mIoU" in page.tab.inner_text("#job")
            with context.expect_page(timeout=150_000) as opened:
                page.tab.click("#run")
            run = opened.value
            for name in SEEN:
                run.get_by_text(name, exact=True).first.wait_for(timeout=120_000)
            (known,) = clone.runs().values()
            assert known.info.run_id in run.url
            shown = run.inner_text("body")
            assert all(name in shown for name in known.data.metrics if name.startswith("test/"))
            assert page.errors == []
            address = run.url.partition("/#")[0]
            assert is_up(address)
            server.kill()
            page.wait(lambda: not is_up(address), "the end of MLflow")
    finally:
        server.process.kill()


def is_up(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False
