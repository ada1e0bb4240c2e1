"""Download archives into a cache per user, with resumption and checksums.

The library requests is used directly, since pooch restarts after every interrupted connection, and
decodes ``Content-Encoding: gzip``, which some servers set for ``.tar.gz`` files: the checksum of
such a file would then differ.
"""

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import requests
from filelock import FileLock, Timeout
from urllib3.exceptions import HTTPError

from pointcover.runtime.atomic_files import digest
from pointcover.runtime.progress import Progress
from pointcover.runtime.signals import time_limit

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 2**20
LEAST_BYTES_S: Final = 1000
"""Bytes a second, less than which count as no connection."""
DIGITS: Final = {"md5": 32, "sha256": 64}
BY_HAND: Final = "download it by hand and point `source:` in params.yaml at the copy"


@dataclass(frozen=True)
class Retries:
    """Number, pauses and timeout of attempts to download."""

    attempts: int = 5
    """Consecutive attempts without a new byte after which the download fails."""
    pause_s: float = 2.0
    """Seconds before the second attempt; doubled before each further one."""
    timeout_s: float = 60.0
    """Seconds without an answer or a byte after which an attempt fails."""


def archive_cache() -> Path:
    """Return the folder of downloaded archives for all projects of this user; create it if missing.

    It is POINTCOVER_CACHE, else ``pointcover`` in XDG_CACHE_HOME, else ``~/.cache/pointcover``.

    Raises:
        ValueError: POINTCOVER_CACHE is a relative path.
        OSError: the folder cannot be made.
    """
    remedy = "set the environment variable POINTCOVER_CACHE to a folder that can be written"
    if chosen := os.environ.get("POINTCOVER_CACHE", ""):
        folder = Path(chosen).expanduser()
        if not folder.is_absolute():
            # `dvc exp run --temp` works in another folder and would download everything again
            raise ValueError(f"POINTCOVER_CACHE is {chosen!r}: wanted an absolute path")
    else:
        try:
            base = Path(os.environ.get("XDG_CACHE_HOME", ""))
            folder = (base if base.is_absolute() else Path.home() / ".cache") / "pointcover"
        except RuntimeError as error:
            raise OSError(f"no cache folder: this user has no home; {remedy}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{folder}: cannot make the cache folder ({reason}): {remedy}") from error
    return folder


def fetch_archive(
    url: str,
    checksum: str,
    folder: Path,
    retries: Retries = Retries(),
) -> Path:
    """Download a file once into a shared cache, and verify its checksum.

    A cached file is verified on every call (a few seconds per GB), so that a damaged disk is
    noticed. An interrupted download is kept as ``.part`` and resumed at the next attempt or call.
    Whether the server still has the same file is left to the checksum: if it differs after a
    resumption, the file is downloaded once more from its start.

    Args:
        url: http or https.
        checksum: ``"md5:…"``, ``"sha256:…"`` or the bare hexadecimal digest of either.
        folder: the cache. The file's name there starts with its digest: servers call many
            different files ``content`` or ``images.zip``.
        retries: how often and how long to try.

    Returns:
        The file in ``folder``.

    Raises:
        ValueError: no http(s) URL, no such kind of checksum, or the file has another one.
        ConnectionError: the server could not be reached, refused, or kept cutting the connection.
        OSError: the folder cannot be written, or the disk is full.
    """
    algorithm, wanted = parse_checksum(checksum)
    parts = urlsplit(url)
    name = re.sub(r"[^\w.+-]", "_", unquote(PurePosixPath(parts.path).name))
    if parts.scheme not in ("http", "https") or not parts.hostname or not name:
        raise ValueError(f"url is {url!r}: wanted http(s)://server/…/file; {BY_HAND}")
    target = folder / f"{wanted[:8]}-{name[-100:]}"
    part = target.with_name(f"{target.name}.part")
    try:
        # Before the lock, so that a read-only cache can be used.
        if _digest(target, algorithm) == wanted:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            got = _digest(target, algorithm)  # another process may have fetched it meanwhile
            if got == wanted:
                return target
            if got is not None:
                logger.warning(
                    "%s: %s is %s, wanted %s; downloading it again", target, algorithm, got, wanted
                )
                target.unlink()
            # The part is whole if an earlier call was killed before the renaming.
            if _digest(part, algorithm) != wanted:
                is_resumed = _download(url, part, retries)
                if is_resumed and _digest(part, algorithm) != wanted:
                    logger.warning("%s: the resumed file is damaged; starting again", part)
                    part.unlink()
                    _download(url, part, retries)
                _require_checksum(url, part, algorithm, wanted)
            part.replace(target)
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{error.strerror or error}: cannot keep {url} in {folder}; free some space or set "
            f"POINTCOVER_CACHE to a folder with room that can be written (the part that has "
            f"arrived is kept and resumed), or {BY_HAND}",
        ) from error
    return target


def parse_checksum(checksum: str) -> tuple[str, str]:
    """Split ``"md5:…"`` into algorithm and lower-case digest; a bare digest is told by its length.

    Raises:
        ValueError: neither an MD5 nor a SHA-256 in hexadecimal digits.
    """
    algorithm, _, digest = checksum.strip().lower().rpartition(":")
    algorithm = algorithm or {n: name for name, n in DIGITS.items()}.get(len(digest), "")
    if len(digest) != DIGITS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digest):
        raise ValueError(
            f"checksum is {checksum!r}: wanted 'md5:' and 32 or 'sha256:' and 64 hexadecimal digits"
        )
    return algorithm, digest


def _digest(path: Path, algorithm: str) -> str | None:
    return digest(path, algorithm) if path.exists() else None


def _require_checksum(url: str, part: Path, algorithm: str, wanted: str) -> None:
    got = _digest(part, algorithm)
    if got == wanted:
        return
    size = part.stat().st_size
    with part.open("rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    part.unlink()
    # By content, not by MIME type: login pages may be octet-stream, and archives text/html.
    if head.startswith((b"<!doctype html", b"<html")):
        raise ValueError(
            f"{url}: got text/html of {size} bytes where an archive was expected (a login or error "
            f"page?); {BY_HAND}"
        )
    raise ValueError(
        f"{url}: got {size} bytes with {algorithm} {got}, wanted {wanted}: the file on the server "
        f"is another one, or was damaged on the way; {BY_HAND}"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another process that downloads this file", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _TransientError(Exception):
    """A failure that may not occur at the next attempt."""


class _SlowError(_TransientError):
    """A server that sends too slowly, which counts although new bytes have arrived."""


def _download(url: str, part: Path, retries: Retries) -> bool:
    """Download the bytes that `part` lacks; return whether it holds those of several answers."""
    failures, furthest = 0, _size(part)
    while True:
        try:
            return _transfer(url, part, retries.timeout_s)
        except _TransientError as error:
            reason, is_slow = str(error), isinstance(error, _SlowError)
        # Only attempts without a new byte count: so a connection interrupted every GB succeeds.
        failures = failures + 1 if is_slow or _size(part) <= furthest else 1
        furthest = max(furthest, _size(part))
        if failures >= retries.attempts:
            raise ConnectionError(
                f"{url}: {reason}, {failures} times in a row ({_size(part)} bytes have arrived): "
                f"try again later, or {BY_HAND}"
            )
        logger.warning("%s: %s; trying again", url, reason)
        time.sleep(retries.pause_s * 2 ** (failures - 1))


def _transfer(url: str, part: Path, timeout_s: float) -> bool:
    """Request the bytes that `part` lacks, or all of them; return after the last one.

    Returns:
        whether the bytes were appended to those of an earlier answer.
    """
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with (
            time_limit(2 * timeout_s, f"the answer took more than {2 * timeout_s:g} s to begin"),
            ExitStack() as opened,
        ):
            response = requests.get(url, headers=headers, stream=True, timeout=timeout_s)
            opened.enter_context(response)
            closing_later = opened.pop_all()
        with closing_later:
            status = response.status_code
            if status in (408, 429) or status >= 500:
                raise _TransientError(f"the server answered {status} {response.reason}")
            if have and status == 416:  # nothing follows: the checksum tells whether it is whole
                return True
            if status not in (200, 206):
                raise ConnectionError(
                    f"{url}: the server answered {status} {response.reason}; {BY_HAND}"
                )
            if status == 200:
                have = 0
                part.unlink(missing_ok=True)
            declared = response.headers.get("Content-Length", "")
            length = have + int(declared) if declared.isdigit() else None
            if (length or 0) - have > shutil.disk_usage(part.parent).free:
                raise OSError(errno.ENOSPC, f"no room for {(length or 0) - have} bytes")
            with (
                part.open("ab") as file,
                Progress(part.stem, length, "B", done=have, leave=True) as bar,
            ):
                # The bytes as sent: `iter_content` would unpack a Content-Encoding.
                for chunk in _read_steadily(response.raw, timeout_s):
                    bar.update(file.write(chunk))
                file.flush()
                os.fsync(file.fileno())
    except TimeoutError as error:
        raise _TransientError(str(error)) from error
    except (requests.RequestException, HTTPError) as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # requests wraps "Connection refused" four times
            cause = cause.__context__
        raise _TransientError(f"no connection, or a cut one ({cause})") from error
    if length is not None and _size(part) != length:
        raise _TransientError(f"{_size(part)} of {length} bytes arrived")
    return have > 0


def _read_steadily(raw: Any, period_s: float) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come.

    Raises:
        _SlowError: less than LEAST_BYTES_S bytes a second have arrived in a period.
    """
    began_s, arrived = time.monotonic(), 0
    while chunk := raw.read1(CHUNK_BYTES, decode_content=False):
        yield chunk
        arrived += len(chunk)
        passed_s = time.monotonic() - began_s
        if passed_s < period_s:
            continue
        if arrived < LEAST_BYTES_S * passed_s:
            raise _SlowError(
                f"only {arrived} bytes arrived in {passed_s:.0f} s, wanted at least "
                f"{LEAST_BYTES_S} a second"
            )
        began_s, arrived = time.monotonic(), 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
