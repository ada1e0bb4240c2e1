"""Local servers of files, for tests of rasters that are read from addresses."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass
class FileServer:
    """What a server of a folder does, and what was asked of it."""

    folder: Path
    address: str = ""
    has_ranges: bool = True
    refusals: list[int] = field(default_factory=list)
    """Status codes of the next answers, before files are sent."""
    breaks: int = 0
    """How many of the next answers break off after half of their bytes."""
    redirect: str = ""
    """Where all answers send to."""
    sent: int = 0
    """Bytes of files that were sent."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each."""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextmanager
def serve_folder(folder: Path) -> Iterator[FileServer]:
    """Serve a folder on a free port of this machine."""
    state = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _refuse(self, code: int, **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, *, with_body: bool) -> None:
            state.requests.append((self.command, self.path, dict(self.headers)))
            path = state.folder / self.path.partition("?")[0].lstrip("/")
            if state.redirect:
                self._refuse(302, Location=state.redirect)
            elif state.refusals:
                self._refuse(state.refusals.pop(0))
            elif not path.is_file():
                self._refuse(404)
            else:
                self._send(path.read_bytes(), with_body=with_body)

        def _send(self, content: bytes, *, with_body: bool) -> None:
            asked = RANGE.match(self.headers.get("Range", "")) if state.has_ranges else None
            start, end = 0, len(content) - 1
            if asked:
                start, end = int(asked[1]), min(int(asked[2] or end), end)
                if start > end:
                    self._refuse(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            else:
                self.send_response(200)
            part = content[start : end + 1]
            self.send_header("Content-Length", str(len(part)))
            if state.has_ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if not with_body:
                return
            if state.breaks:
                state.breaks -= 1
                self.wfile.write(part[: len(part) // 2])
                self.close_connection = True
                return
            state.sent += len(part)
            try:
                self.wfile.write(part)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes away is no error of the server."""

    server = Server(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
