"""Who may talk to the page: whoever has the token; and no other page's scripts."""

import hmac
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = "80"
"""Of HTTP, which browsers leave out of the Host header."""
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::([0-9]+))?")
SENT_BY_PAGE: Final = "x-pointcover"
"""Header of the page's own requests that change something: other pages cannot send it."""

ENTRY: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">
<title>pointcover label</title><p><a href="/">Open the page</a></html>
"""
"""Answer to the address with the token. It leads to the page by a request of the server's own
origin: after a redirect of a link of another site, browsers would not send a strict cookie."""

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


def make_token() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """Where the page listens, and the token that it wants: others may use this machine too."""

    host: str = LOOPBACK
    port: int = 0
    token: str = field(default_factory=make_token, repr=False)

    def __post_init__(self) -> None:
        """Refuse an empty token, which everybody has."""
        if not self.token:
            raise ValueError("got an empty token, wanted one of make_token()")

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers send the cookies of a host to all of its ports."""
        return f"pointcover-token-{self.port}"

    def knows(self, host: str) -> bool:
        """Return whether a Host header names this server, and not a name that leads here."""
        found = _HOST.fullmatch(host.lower())
        if found is None or (found[2] or DEFAULT_PORT) != str(self.port):
            return False
        name = found[1].strip("[]")
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
        if _opens_a_page(scope, headers) and _same(_token_in(scope), access.token):
            answer = HTMLResponse(ENTRY)
            answer.set_cookie(access.cookie, access.token, httponly=True, samesite="strict")
            return answer
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Requests of other pages are refused.", 403)
        kept = cookie_parser(headers.get("cookie", "")).get(access.cookie, "")
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


def _opens_a_page(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser opens the address itself, in a tab and not in another page."""
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and headers.get("sec-fetch-mode", "navigate") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
    )


def _token_in(scope: Scope) -> str:
    """Return the token of the address, or nothing."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
