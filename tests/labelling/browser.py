"""A real browser, and a server in a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn

from pointcover.labelling.access import Access
from pointcover.labelling.project import Project
from pointcover.labelling.routes import make_app
from pointcover.labelling.serve import address_of, listen
from pointcover.labelling.session import Session
from tests.imagery import ROOT
from tools.chromium import QUIET, find_browser

WANTED = "POINTCOVER_BROWSER_TESTS"
"""Environment variable with which a missing browser is a failure."""


def require_browser() -> str:
    """Return the path of Chromium, or skip the test; with WANTED, fail."""
    found = find_browser()
    if found is None:
        reason = "Chromium is not installed (apt-get install chromium, or set CHROMIUM)"
        if os.environ.get(WANTED):
            pytest.fail(f"{WANTED} is set, but {reason}")
        pytest.skip(reason)
    return found


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open a browser with an empty profile."""
    from playwright.sync_api import sync_playwright

    path = require_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


class Server:
    """`pointcover label` in a process of its own."""

    def __init__(
        self,
        images: Sequence[Path],
        project: Path,
        port: int = 0,
        options: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        command = [sys.executable, "-m", "pointcover", "label", *map(str, images), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--project", str(project), "--port", str(port), *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder or project.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )
        assert self.process.stderr is not None
        self.said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/\S*", self.said)):
            line = self.process.stderr.readline()
            if not line:
                self._end()
                raise AssertionError(f"the server ended: {self.said}")
            self.said += line
        self.url, self.port = found[0], int(found[1])

    def stop(self) -> int:
        """End the server as Ctrl+C does; return its exit status."""
        self.process.terminate()
        return self._end()

    def kill(self) -> int:
        """End the server as a power cut does."""
        self.process.kill()
        return self._end()

    def _end(self) -> int:
        status = self.process.wait(30)
        assert self.process.stderr is not None
        self.said += self.process.stderr.read()
        self.process.stderr.close()
        return status


class Here:
    """The page's server in a thread of this process, which starts in no time."""

    def __init__(self, images: Sequence[Path], project: Path, port: int = 0) -> None:
        self.session = Session(Project(project, images, "anna"), threads=2)
        self.session.project.set_settings({"encoder": False})
        self._socket, access = listen(Access(port=port))
        self.port = access.port
        config = uvicorn.Config(
            make_app(self.session, access),
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self.session.start()
        self._thread.start()
        self.url = address_of(access)

    def stop(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.session.close()


class LabelPage:
    """The page in a browser, by what a person does."""

    def __init__(self, tab: Any, url: str) -> None:
        self.tab = tab
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        tab.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        tab.goto(url)
        tab.wait_for_selector("body[data-ready]")

    def add_class(self, name: str, colour: str | None = None) -> None:
        if colour:
            self.tab.fill("#new-colour", colour.lower())
        self.tab.fill("#new-name", name)
        self.tab.click("#new-class button")
        self.tab.wait_for_selector(f"#classes label:text-is('{name}')")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where in the window a pixel of the image is; the image is fitted to the map."""
        self.tab.wait_for_selector(".leaflet-tile-loaded")
        size = self.tab.evaluate(
            "() => document.querySelector('.leaflet-tile').getBoundingClientRect().width / 256"
        )
        first = self.tab.evaluate(
            "() => [...document.querySelectorAll('.leaflet-tile')]"
            ".map((one) => one.getBoundingClientRect())"
            ".reduce((a, b) => [Math.min(a[0], b.left), Math.min(a[1], b.top)], [1e9, 1e9])"
        )
        return first[0] + x * size, first[1] + y * size

    def click(self, x: float, y: float) -> None:
        self.tab.mouse.click(*self.place(x, y))

    def wait_saved(self, count: int) -> None:
        words = "1 point saved" if count == 1 else f"{count} points saved"
        self.wait(lambda: self.tab.inner_text("#saved") == words, f"{words!r}")

    def wait_map(self, points: int, seconds: float = 90) -> None:
        """Wait until a map of so many points is drawn and nothing is left to do."""
        self.wait(
            lambda: self.tab.inner_text("#map-state").startswith(f"map of {points} points"),
            f"a map of {points} points",
            seconds,
        )
        number = self.tab.evaluate("() => fetch('api/status').then((a) => a.json())")["map"][
            "number"
        ]
        self.wait(
            lambda: int(self.tab.get_attribute("body", "data-map") or 0) >= number, "its image"
        )

    def wait(self, check: Any, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, (
                f"waited {seconds} s for {what}: {self.tab.inner_text('body')}"
            )
            time.sleep(0.03)

    def colour_at(self, x: float, y: float) -> tuple[int, int, int]:
        """Return the colour that a person sees at a pixel of the image."""
        png = np.frombuffer(self.tab.screenshot(), np.uint8)
        shown = cv2.imdecode(png, cv2.IMREAD_COLOR)
        col, row = (int(value) for value in self.place(x, y))
        blue, green, red = (int(value) for value in shown[row, col])
        return red, green, blue

    def slide(self, name: str, value: int) -> None:
        self.tab.evaluate(
            "([name, value]) => { const one = document.querySelector(name); one.value = value;"
            " one.dispatchEvent(new Event('input', { bubbles: true })); }",
            [name, value],
        )
