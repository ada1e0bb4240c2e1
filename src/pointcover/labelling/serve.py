"""Serve the page until it is interrupted."""

import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import uvicorn

from pointcover.labelling.access import LOOPBACK, Access
from pointcover.labelling.routes import make_app
from pointcover.labelling.session import Session

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
    session: Session, access: Access, *, opens_browser: bool, say: Callable[[str], None]
) -> None:
    """Serve the page until it is interrupted.

    Args:
        session: not started yet.
        access: where to listen.
        opens_browser: open the page in the user's browser.
        say: called with the address.

    Raises:
        OSError: the port is taken.
    """
    opened, access = listen(access)
    with opened:
        config = uvicorn.Config(
            make_app(session, access),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        session.start()
        address = address_of(access)
        say(address)
        if opens_browser:
            webbrowser.open(address)
        _Server(config).run(sockets=[opened])


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
