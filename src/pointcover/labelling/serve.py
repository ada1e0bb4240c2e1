"""Serve the page until it is interrupted."""

import html
import os
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

from pointcover.labelling.access import LOOPBACK, Access

REDIRECT: Final = "open.html"
LEAD: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">
<title>pointcover label</title><p><a href="{address}">Open the page</a></html>
"""
"""A file that leads a browser to the address with the token, and that only its owner can read. The
arguments of a browser's process can be read by all users of the machine."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def listen(access: Access) -> tuple[socket.socket, Access]:
    """Open a socket to listen on; port 0 takes a free one.

    Raises:
        OSError: the port is taken, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((access.host, access.port))
        opened.listen()  # a browser that comes before the server runs waits, and is not refused
    except OSError as error:
        opened.close()
        raise OSError(
            f"cannot listen on {access.host}, port {access.port} ({error.strerror}): choose "
            f"another --port, or 0 for a free one"
        ) from None
    return opened, replace(access, port=opened.getsockname()[1])


def address_of(access: Access) -> str:
    """Return the address to open in a browser, with the token."""
    host = LOOPBACK if access.host in ("0.0.0.0", "::") else access.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{access.port}/?token={access.token}"


def serve(
    make: Callable[[Access], Starlette],
    access: Access,
    *,
    folder: Path | None,
    say: Callable[[str], None],
) -> None:
    """Serve the page until it is interrupted.

    Args:
        make: returns the application.
        access: where to listen.
        folder: in which a file is kept that leads the user's browser to the page; None opens none.
        say: called with the address.

    Raises:
        OSError: the port is taken.
    """
    opened, access = listen(access)
    with opened:
        config = uvicorn.Config(
            make(access),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        address = address_of(access)
        say(address)
        lead = None
        if folder is not None:
            lead = write_lead(folder, address)
            webbrowser.open(lead.resolve().as_uri())
        try:
            _Server(config).run(sockets=[opened])
        finally:
            if lead is not None:
                lead.unlink(missing_ok=True)


def write_lead(folder: Path, address: str) -> Path:
    """Write the file that leads to an address, readable by its owner alone.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / REDIRECT
    path.unlink(missing_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(LEAD.format(address=html.escape(address)))
    return path


class _Server(uvicorn.Server):
    """Ends on a signal, and does not raise it again, so that the project is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
