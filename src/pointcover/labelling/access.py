"""Who may talk to the page: this machine, or whoever has the token; and no other page's scripts."""

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = "127.0.0.1"
COOKIE: Final = "pointcover-token"
SENT_BY_PAGE: Final = "x-pointcover"
"""Header of the page's own requests that change something: other pages cannot send it."""

MAX_BODY: Final = 1 << 18
"""Bytes of a request at most."""

SAFE: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Where the page listens, and the token that it wants there."""

    host: str = LOOPBACK
    port: int = 0
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse to listen to other machines without a token."""
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f"listening on {self.host} needs a token, since others may connect")

    def knows(self, host: str) -> bool:
        """Return whether a Host header names this server, and not a name that leads here."""
        name, _, port = host.rpartition(":")
        if not name or port != str(self.port):
            return False
        name = name.strip("[]").lower()
        if is_loopback(name) or name == self.host.lower():
            return True
        if is_loopback(self.host):
            return False
        if name == socket.gethostname().lower():
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def make_token() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(24)


class Guard:
    """Refuses requests that are not of the page itself, before anything is done."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Wrap an application."""
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refuse(scope)
        app = refusal if refusal is not None else self._app
        await app(scope, receive, send_safely)

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is refused, or to one that brings the token."""
        headers, access = Headers(scope=scope), self._access
        host = headers.get("host", "")
        if not access.knows(host):
            return PlainTextResponse("This is not the name of this server.", 421)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("Requests of other pages are refused.", 403)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Requests of other pages are refused.", 403)
        if access.token is not None:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if given and _same(given, access.token) and scope["method"] == "GET":
                answer = RedirectResponse("/", 303)
                answer.set_cookie(COOKIE, access.token, httponly=True, samesite="strict")
                return answer
            kept = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            if not _same(kept, access.token):
                text = "Open the address with the token that `pointcover label` printed."
                return PlainTextResponse(text, 401)
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get(SENT_BY_PAGE) != "1":
                return PlainTextResponse(f"The header {SENT_BY_PAGE} is missing.", 403)
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > MAX_BODY:
                return PlainTextResponse(f"Wanted a body of at most {MAX_BODY} bytes.", 413)
        return None


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
