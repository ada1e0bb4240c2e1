import contextlib
import gzip
import hashlib
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pointcover.datasets import downloads
from pointcover.datasets.downloads import Retries, archive_cache, fetch_archive
from tests.processes import FULL_DISK, run_python

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


# --- a server that misbehaves as told --------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        server.ranges.append(self.headers.get("Range"))
        answer = server.script[min(len(server.ranges), len(server.script)) - 1]
        server.answered.append(answer(self) or 0)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Gives the n-th answer of ``script`` to the n-th request, the last one ever after."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Callable[[Handler], int | None]] = []
        self.ranges: list[str | None] = []
        self.answered: list[int] = []

    @property
    def sent(self) -> list[int]:
        """Bytes of each answer. A client has the last one before its thread has counted it."""
        deadline = time.monotonic() + 5
        while len(self.answered) < len(self.ranges) and time.monotonic() < deadline:
            time.sleep(0.001)
        return self.answered

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data/maps.zip?download=1"


def answer(
    body: bytes = BODY,
    status: int = 200,
    *,
    etag: str = '"1"',
    ranges: bool = True,
    drop_after: int | None = None,
    length: int | None = None,
    wait_s: float = 0.0,
    **headers: str,
) -> Callable[[Handler], int]:
    """Answer with ``body``, or what a Range asks of it; send ``drop_after`` bytes at most."""

    def write(handler: Handler) -> int:
        start, code = 0, status
        asked = handler.headers.get("Range")
        if asked and ranges:
            start, code = int(asked.removeprefix("bytes=").removesuffix("-")), 206
        time.sleep(wait_s)
        handler.send_response(code)
        if code == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start if length is None else length))
        if etag:
            handler.send_header("ETag", etag)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        sent = body[start:][:drop_after]
        handler.wfile.write(sent)
        return len(sent)

    return write


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, checksum: str = MD5, attempts: int = 4) -> Path:
    return fetch_archive(
        server.url, checksum, folder, Retries(attempts=attempts, pause_s=0.001, timeout_s=5)
    )


def finished(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".zip"]


# --- downloads -------------------------------------------------------------------------------


def test_a_download_is_the_body_and_leaves_no_part(server: Server, tmp_path: Path) -> None:
    server.script = [answer()]
    path = fetch(server, tmp_path / "new" / "cache")
    assert path.read_bytes() == BODY
    assert path.name == f"{MD5[4:12]}-maps.zip"
    assert [other.name for other in path.parent.glob("*.part*")] == []


@pytest.mark.parametrize(
    "checksum",
    [
        f"MD5:{MD5[4:].upper()}",
        MD5[4:],
        f"sha256:{hashlib.sha256(BODY).hexdigest()}",
        hashlib.sha256(BODY).hexdigest(),
    ],
)
def test_both_kinds_of_checksum_are_accepted_with_and_without_name(
    server: Server, tmp_path: Path, checksum: str
) -> None:
    server.script = [answer()]
    assert fetch(server, tmp_path, checksum).read_bytes() == BODY


@pytest.mark.parametrize("checksum", ["", "md5:", "sha1:" + "0" * 40, "0" * 40, "md5:" + "g" * 32])
def test_a_checksum_that_verifies_nothing_is_refused(tmp_path: Path, checksum: str) -> None:
    with pytest.raises(ValueError, match="wanted 'md5:' and 32 or 'sha256:' and 64"):
        fetch_archive("http://127.0.0.1/a.zip", checksum, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b.zip", "http://a/", "/data/x.zip"])
def test_a_url_that_is_no_file_on_a_web_server_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"wanted http.*`source:`"):
        fetch_archive(url, MD5, tmp_path)


def test_a_name_in_the_url_cannot_lead_out_of_the_cache(server: Server, tmp_path: Path) -> None:
    server.script = [answer()]
    url = server.url.replace("maps.zip", "..%2F..%2Fmaps.zip")
    path = fetch_archive(url, MD5, tmp_path / "cache")
    assert path.parent == tmp_path / "cache"


def test_a_second_call_asks_the_server_nothing(server: Server, tmp_path: Path) -> None:
    server.script = [answer()]
    assert fetch(server, tmp_path) == fetch(server, tmp_path)
    assert len(server.ranges) == 1


def test_a_cache_that_cannot_be_written_serves_what_it_holds(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer()]
    path = fetch(server, tmp_path)
    lock = path.with_name(f"{path.name}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()  # no lock can be had, as in a read-only folder (but for root as well)
    assert fetch(server, tmp_path) == path


def test_an_archive_that_went_bad_on_disk_is_named_and_fetched_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [answer()]
    path = fetch(server, tmp_path)
    path.write_bytes(BODY[:-1] + b"x")
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.ranges) == 2
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(path) in record.getMessage()
    assert MD5[4:] in record.getMessage()


def test_an_archive_that_went_bad_does_not_outlive_a_failed_download(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(), answer(b"", 404)]
    fetch(server, tmp_path).write_bytes(b"bad")
    with pytest.raises(ConnectionError):
        fetch(server, tmp_path)
    assert finished(tmp_path) == []


def test_two_servers_that_call_different_files_the_same_share_a_cache(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(), answer(OTHER)]
    first = fetch(server, tmp_path)
    second = fetch(server, tmp_path, hashlib.md5(OTHER).hexdigest())
    assert (first.read_bytes(), second.read_bytes()) == (BODY, OTHER)


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=100_000), answer()]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]
    assert server.sent == [100_000, 200_000]


def test_a_cut_download_goes_on_in_the_next_call(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=100_000), answer()]
    with pytest.raises(ConnectionError, match=r"100000 bytes have arrived.*`source:`"):
        fetch(server, tmp_path, attempts=1)
    assert finished(tmp_path) == []
    assert fetch(server, tmp_path, attempts=1).read_bytes() == BODY
    assert server.sent == [100_000, 200_000]


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_a_cut_download_goes_on_without_a_strong_validator(
    server: Server, tmp_path: Path, etag: str
) -> None:
    server.script = [answer(drop_after=100_000, etag=etag), answer(etag=etag)]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.sent == [100_000, 200_000]


def test_a_server_that_ignores_ranges_is_not_appended_to(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=100_000), answer(ranges=False)]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.sent == [100_000, 300_000]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(OTHER, drop_after=100_000), answer(etag='"2"')]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", None]


@pytest.mark.parametrize("content_range", ["bytes 100000-299999/300000", "bytes 0-9/300000", ""])
def test_bytes_of_another_file_or_place_are_not_kept(
    server: Server, tmp_path: Path, content_range: str
) -> None:
    def careless(handler: Handler) -> int:
        handler.send_response(206)
        handler.send_header("Content-Range", content_range)
        handler.end_headers()
        return handler.wfile.write(OTHER[100_000:])

    server.script = [answer(drop_after=100_000), careless, answer()]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", None]


def test_a_resumed_file_is_downloaded_once_more_and_no_further(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(OTHER, drop_after=100_000), answer(OTHER)]
    with pytest.raises(ValueError, match="wanted"):
        fetch(server, tmp_path)
    assert server.ranges == [None, "bytes=100000-", None]


def test_a_cut_in_a_rest_of_undeclared_length_is_noticed(server: Server, tmp_path: Path) -> None:
    def cut_rest(handler: Handler) -> int:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 100000-299999/300000")
        handler.send_header("ETag", '"1"')
        handler.end_headers()
        return handler.wfile.write(BODY[100_000:200_000])

    server.script = [answer(drop_after=100_000), cut_rest, answer()]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", None]


def test_a_bad_part_of_an_earlier_run_is_dropped(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=100_000), answer()]
    with pytest.raises(ConnectionError):
        fetch(server, tmp_path, attempts=1)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(bytes(100_000))  # as a power cut may leave it
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", None]


def test_a_whole_part_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=100_000)]
    with pytest.raises(ConnectionError):
        fetch(server, tmp_path, attempts=1)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(BODY)  # as if killed between the last byte and the renaming
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.ranges) == 1


def test_a_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=100_000), lambda handler: handler.send_error(416), answer()]
    with pytest.raises(ConnectionError):
        fetch(server, tmp_path, attempts=1)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(BODY + b"x")
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_many_cuts_are_survived_as_long_as_bytes_come(server: Server, tmp_path: Path) -> None:
    server.script = [answer(drop_after=40_000)]
    assert fetch(server, tmp_path, attempts=2).read_bytes() == BODY
    assert len(server.ranges) == 8


def test_a_server_that_promises_more_than_it_has_is_given_up(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(length=300_001, ranges=False)]
    with pytest.raises(ConnectionError, match=r"3 times in a row.*300000 bytes"):
        fetch(server, tmp_path, attempts=3)
    assert finished(tmp_path) == []


def test_a_server_that_promises_less_than_it_has_gives_a_wrong_checksum(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(length=299_999)]
    with pytest.raises(ValueError, match=r"got 299999 bytes with md5 [0-9a-f]{32}, wanted"):
        fetch(server, tmp_path)
    assert finished(tmp_path) == []


def test_wrong_bytes_are_named_with_both_digests_and_not_kept(
    server: Server, tmp_path: Path
) -> None:
    server.script = [answer(OTHER)]
    with pytest.raises(ValueError, match="wanted") as caught:
        fetch(server, tmp_path)
    message = str(caught.value)
    for part in (server.url, hashlib.md5(OTHER).hexdigest(), MD5[4:], "`source:`"):
        assert part in message
    assert finished(tmp_path) == []
    assert list(tmp_path.glob("*.part*")) == []
    assert len(server.ranges) == 1


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_a_login_page_is_told_from_an_archive(server: Server, tmp_path: Path, kind: str) -> None:
    page = b"\n <!DOCTYPE HTML><title>Please log in</title>"
    server.script = [answer(page, Content_Type=kind)]
    with pytest.raises(
        ValueError, match=rf"got text/html of {len(page)} bytes where an archive was expected"
    ):
        fetch(server, tmp_path)
    assert finished(tmp_path) == []


def test_a_gzip_sent_as_content_encoding_is_kept_as_sent(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(BODY)
    server.script = [answer(packed, Content_Encoding="gzip")]
    path = fetch(server, tmp_path, hashlib.md5(packed).hexdigest())
    assert path.read_bytes() == packed


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_answer_that_will_not_change_is_not_asked_for_again(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.script = [answer(b"no", status)]
    with pytest.raises(ConnectionError, match=rf"maps\.zip.* {status} .*`source:`"):
        fetch(server, tmp_path)
    assert len(server.ranges) == 1
    assert finished(tmp_path) == []


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.script = [answer(b"", 503), answer(b"", 503), answer()]
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_a_server_that_stays_busy_is_given_up(server: Server, tmp_path: Path) -> None:
    server.script = [answer(b"", 503)]
    with pytest.raises(ConnectionError, match=r"503 .*3 times in a row.*`source:`"):
        fetch(server, tmp_path, attempts=3)
    assert len(server.ranges) == 3


def test_a_refused_connection_is_one_line_with_url_and_remedy(
    server: Server, tmp_path: Path
) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(ConnectionError, match=r"refused.*`source:`") as caught:
        fetch_archive(url, MD5, tmp_path, Retries(attempts=2, pause_s=0.001))
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.script = [answer(wait_s=0.5)]
    with pytest.raises(ConnectionError, match=r"timed out"):
        fetch_archive(server.url, MD5, tmp_path, Retries(attempts=1, timeout_s=0.1))


def trickle(body: bytes, *, in_headers: bool = False) -> Callable[[Handler], int]:
    """Send a byte at a time, with a pause after each."""

    def write(handler: Handler) -> int:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        if not in_headers:
            handler.wfile.write(head)
        sent = head if in_headers else body
        with contextlib.suppress(ConnectionError):  # nobody reads on
            for number in range(min(len(sent), 60)):
                handler.wfile.write(sent[number : number + 1])
                time.sleep(0.02)
        return 0

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("in_headers", "said"),
    [
        (False, r"only \d+ bytes arrived in 0 s, wanted at least 1000 a second, 2 times in a row"),
        (True, r"the answer took more than 0.4 s to begin\), 2 times in a row"),
    ],
)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    server: Server, tmp_path: Path, in_headers: bool, said: str
) -> None:
    server.script = [trickle(BODY, in_headers=in_headers)] * 2
    retries = Retries(attempts=2, pause_s=0.001, timeout_s=0.2)
    with pytest.raises(ConnectionError, match=said):
        fetch_archive(server.url, MD5, tmp_path, retries)


def test_of_two_that_want_one_archive_only_one_downloads(server: Server, tmp_path: Path) -> None:
    server.script = [answer(wait_s=0.2)]
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(server, tmp_path))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(results) == 3
    assert len(server.ranges) == 1


def test_a_download_that_cannot_fit_is_refused_before_its_bytes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [answer()]
    usage = shutil.disk_usage(tmp_path)._replace(free=299_999)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"no room for 300000 bytes.*POINTCOVER_CACHE.*`source:`"):
        fetch(server, tmp_path)


def test_a_disk_that_fills_up_leaves_a_part_to_go_on_from(server: Server, tmp_path: Path) -> None:
    server.script = [answer()]
    call = "downloads.fetch_archive(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
    done = run_python(FULL_DISK.format(call=call), server.url, MD5, str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for part in ("OSError", "File too large", server.url, str(tmp_path), "POINTCOVER_CACHE"):
        assert part in line
    assert finished(tmp_path) == []
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]


def test_a_cache_that_is_no_folder_is_an_error_with_a_remedy(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match=r"cache.*POINTCOVER_CACHE"):
        fetch(server, tmp_path / "cache" / "deeper")
    assert server.ranges == []


# --- the cache folder ------------------------------------------------------------------------


def test_the_cache_is_where_pointcover_cache_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTCOVER_CACHE", str(tmp_path / "a" / "b"))
    assert archive_cache() == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("variable", "wanted"), [("HOME", ".cache/pointcover"), ("XDG_CACHE_HOME", "pointcover")]
)
def test_the_cache_is_else_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, wanted: str
) -> None:
    monkeypatch.delenv("POINTCOVER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    assert archive_cache() == tmp_path / wanted


def test_a_home_that_cannot_be_written_names_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("not a folder, so that root cannot write either")
    monkeypatch.delenv("POINTCOVER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(OSError, match=r"home.*set the environment variable POINTCOVER_CACHE"):
        archive_cache()


def test_a_relative_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTCOVER_CACHE", "cache")
    with pytest.raises(ValueError, match="wanted an absolute path"):
        archive_cache()
