"""Rasters on servers: the addresses that a user typed, and what GDAL needs to read them.

An `Address` is made by `parse_image` alone, which the command line calls. A path in a file, a card
or a request of a browser stays a path, even if it begins with https.
"""

import os
import re
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

SCHEMES: Final = ("https://", "s3://")
LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/")
"""Unencrypted connections are for servers on this machine alone."""

OTHER_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")

GDAL_OPTIONS: Final = {
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # s, twice as long each time
    "GDAL_HTTP_CONNECTTIMEOUT": "15",  # s
    "GDAL_HTTP_LOW_SPEED_TIME": "30",  # s, after which a connection without bytes is broken
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",  # the header of a COG in one request
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}
"""Set for the process when an address is opened first, unless the user's environment has them."""

PROBE_S: Final = 15
"""Most seconds of the request that finds out why an address cannot be read."""

AWS_ADVICE: Final = (
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES "
    "for a public bucket, AWS_REQUEST_PAYER=requester where you pay, and AWS_REGION"
)

# pathlib's class for this system, which has no public name that can be derived from
_SystemPath: Any = type(Path())


class Address(_SystemPath):  # type: ignore[misc]
    """The address of a raster on a server, which passes through code for paths of images.

    As text it has no query, which may hold a signature: so messages, tables and MLflow do not.
    """

    url: str
    """With its query."""

    def __new__(cls, url: str) -> Self:
        """Make the address of a URL."""
        made: Self = super().__new__(cls, _without_query(url))
        made.url = url
        return made

    def __init__(self, url: str) -> None:
        """Leave the URL to `__new__`, as pathlib's classes do before Python 3.12."""
        if _SystemPath.__init__ is not object.__init__:
            super().__init__(_without_query(url))

    def with_segments(self, *segments: str) -> Path:
        """Return a plain path for parents and siblings (Python 3.12)."""
        return Path(*segments)

    @classmethod
    def _from_parsed_parts(cls, *parts: Any) -> Path:
        """Return a plain path for parents and siblings (Python 3.11)."""
        found: Path = _SystemPath._from_parsed_parts(*parts)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the URL."""
        return Address, (self.url,)

    def __str__(self) -> str:
        """Return the URL without its query."""
        return _without_query(self.url) if hasattr(self, "url") else str(super().__str__())

    def __repr__(self) -> str:
        """Return the URL without its query."""
        return f"Address({str(self)!r})"

    def absolute(self) -> Self:
        """Return the address itself."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Return the address itself."""
        return self

    @property
    def gdal_name(self) -> str:
        """The name by which GDAL reads it in ranges."""
        if self.url.startswith("s3://"):
            return f"/vsis3/{self.url.removeprefix('s3://')}"
        return f"/vsicurl/{self.url}"


def _without_query(url: str) -> str:
    return url if url.startswith("s3://") else url.partition("?")[0].partition("#")[0]


def parse_image(text: str) -> Path:
    """Return the path, or the address, of an image that was typed on the command line.

    Raises:
        ValueError: it is an address that is not read.
    """
    scheme = OTHER_SCHEME.match(text)
    if scheme is None:
        return Path(text)
    if not (text.startswith(SCHEMES) or LOOPBACK.match(text)):
        raise ValueError(
            f"{text} begins with {scheme[0]}, wanted {' or '.join(SCHEMES)}: download the file, or "
            f"use an address of these"
        )
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise ValueError(
            f"{scheme[0]}…@{parts.hostname} has a password in its address, which would be shown to "
            f"other users: use a signed address, or an .netrc with GDAL_HTTP_NETRC=YES"
        )
    if not parts.hostname or not parts.path.strip("/"):
        raise ValueError(f"{text} names no file: wanted such as https://host/folder/image.tif")
    if any(sign.isspace() for sign in text) or not text.isprintable():
        raise ValueError(f"{text!r} has spaces: write them as %20, as in {quote(text, safe=':/')}")
    return Address(text)


def configure_gdal_for_addresses() -> None:
    """Set the options of GDAL's HTTP client that the user's environment does not have."""
    for name, value in GDAL_OPTIONS.items():
        os.environ.setdefault(name, value)


def explain_failure(address: Address, reason: str) -> OSError:
    """Return the error of an address that cannot be opened: what was found, and what to do.

    Args:
        address: that was opened in vain.
        reason: GDAL's message.
    """
    if address.url.startswith("s3://"):
        return _explain_s3(address, reason)
    from urllib.error import HTTPError

    try:
        status, has_ranges, start = _probe(address.url)
    except HTTPError as error:
        return _explain_status(address, error.code)
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        return ConnectionError(
            f"{address}: no connection to {urlsplit(address.url).hostname} ({cause}): check the "
            f"address and the network, and try again"
        )
    if not start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return OSError(
            f"{address} is no GeoTIFF (it begins with {start[:8]!r}): only cloud-optimised "
            f"GeoTIFFs are read from an address. Download other files"
        )
    if not has_ranges:
        return OSError(
            f"{address}: the server sends whole files alone (status {status}, no byte ranges), so "
            f"a window cannot be read: download the file, and give its path"
        )
    return OSError(f"{address} cannot be read ({reason}): try again, or download the file")


def _explain_status(address: Address, code: int) -> OSError:
    if code in (401, 403):
        return PermissionError(
            f"{address}: the server refuses access (status {code}): sign the address anew if it is "
            f"a signed one, or check its name, since some servers answer so to names that are not "
            f"there"
        )
    if code in (404, 410):
        return FileNotFoundError(
            f"{address} does not exist on the server (status {code}): check the address"
        )
    if code in (301, 302, 303, 307, 308):
        return OSError(
            f"{address}: the server sends on to an address that is not read (status {code}): give "
            f"the address of the file itself"
        )
    return ConnectionError(
        f"{address}: the server has a fault or is busy (status {code}), and had after "
        f"{GDAL_OPTIONS['GDAL_HTTP_MAX_RETRY']} more requests: try again later"
    )


def _explain_s3(address: Address, reason: str) -> OSError:
    lower = reason.lower()
    if "nosuchbucket" in lower or "bucket does not exist" in lower:
        bucket = urlsplit(address.url).hostname
        return FileNotFoundError(f"{address}: there is no bucket {bucket!r}: check the address")
    if any(sign in lower for sign in ("404", "does not exist", "not exist in the file system")):
        return FileNotFoundError(f"{address} does not exist in the bucket: check the address")
    if any(sign in lower for sign in ("403", "denied", "invalidaccesskey", "signature")):
        return PermissionError(f"{address}: access is refused ({reason}): {AWS_ADVICE}")
    if "aws_secret_access_key" in lower or "credentials" in lower:
        return PermissionError(f"{address}: there are no credentials ({reason}): {AWS_ADVICE}")
    if "not recognized" in lower:
        return OSError(
            f"{address} is no GeoTIFF, or its server reads no byte ranges: only cloud-optimised "
            f"GeoTIFFs are read from an address. Download other files"
        )
    return ConnectionError(
        f"{address} cannot be read ({reason}): check the address, the network and the settings of "
        f"AWS ({AWS_ADVICE}), and try again"
    )


def _probe(url: str) -> tuple[int, bool, bytes]:
    """Ask for the first bytes of a file.

    Returns:
        the status, whether the server sends ranges, and the bytes.
    """
    from urllib.request import Request, urlopen  # which follows redirects to http(s) and ftp alone

    request = Request(url, headers={"Range": "bytes=0-15"})
    with urlopen(request, timeout=PROBE_S) as answer:
        return answer.status, answer.status == 206, answer.read(16)
