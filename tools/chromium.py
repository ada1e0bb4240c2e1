"""Find Chromium, and start it so that it sends no request of its own."""

import os
import shutil
from typing import Final

QUIET: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Options of the command."""


def find_browser() -> str | None:
    """Return the path of Chromium, in the variable CHROMIUM or on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = (shutil.which(name) for name in names)
    return os.environ.get("CHROMIUM") or next(filter(None, found), None)
