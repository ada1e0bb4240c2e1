"""Unpack zip and tar archives atomically, and never outside the target folder."""

import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

from pointcover.runtime.progress import Progress

MAX_UNPACKED_BYTES: Final = 100 * 2**30
"""The greatest size of an unpacked archive, unless the caller allows more."""

MAX_RATIO: Final = 500
"""The greatest ratio of unpacked to packed size, over all members; that of a zip bomb of one layer
is about 1000. A single mask of one class may have such a ratio too.
"""

HARMLESS_BYTES: Final = 2**30
"""Up to this size any ratio is accepted: an archive of masks only may exceed MAX_RATIO."""

MAX_MEMBERS: Final = 1_000_000
"""The greatest number of members: empty files use up the inodes of a disk."""

CHUNK_BYTES: Final = 2**20
NOT_PLAIN: Final = "is a link or device: wanted plain files and folders"
BROKEN: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
    *(EOFError, NotImplementedError, UnicodeDecodeError),
)


def extract_archive(archive: Path, folder: Path, max_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Unpack a zip or tar (plain, gz, xz, bz2) into a new folder, atomically.

    Only folders and plain files are created, with the permissions and times of new files. A crash
    leaves ``<folder>.partial``, which the next call removes; calls for one folder must not overlap.

    Args:
        archive: recognised by its content, whatever its name.
        folder: must not exist yet; its parents are made.
        max_bytes: more unpacked bytes than this are refused, as is a ratio beyond MAX_RATIO.

    Raises:
        FileNotFoundError: no such archive.
        FileExistsError: ``folder`` exists.
        ValueError: the archive is broken, cut off, encrypted, too big, or would write elsewhere.
        OSError: the disk is full or cannot be written.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"{archive}: no such file, wanted a zip or tar archive")
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder}: exists already; remove it to unpack {archive} again")
    aside = folder.with_name(f"{folder.name}.partial")
    try:
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(parents=True)
        _unpack(archive, aside, max_bytes)
        if hasattr(os, "sync"):  # not on Windows
            os.sync()  # or after a power cut the final folder may have empty files
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


class _Member(NamedTuple):
    name: str
    is_folder: bool
    size: int
    wrong: str  # why its kind is refused, "" where it is accepted
    open: Callable[[], IO[bytes]]


def _unpack(archive: Path, aside: Path, max_bytes: int) -> None:
    packed = archive.stat().st_size
    limit = min(max_bytes, max(HARMLESS_BYTES, MAX_RATIO * packed))
    too_big = f"unpacks beyond {limit} bytes (the archive has {packed}): wanted fewer"
    name, written = "", 0
    seen: dict[str, tuple[str, bool]] = {}
    with (
        archive.open("rb") as raw,
        Progress(archive.name, packed, "B") as bar,
    ):
        members = _zip_members if raw.read(2) == b"PK" else _tar_members
        raw.seek(0)
        try:
            for member in members(raw):
                name = member.name
                if wrong := member.wrong or _wrong_name(name, member.is_folder, seen):
                    raise _refusal(archive, name, wrong)
                if len(seen) > MAX_MEMBERS:
                    raise _refusal(archive, name, f"is one too many: wanted up to {MAX_MEMBERS}")
                if written + member.size > limit:
                    raise _refusal(archive, name, too_big)
                target = aside / PurePosixPath(name)
                if member.is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                # "x": where two names are the same file on this disk, the second must fail
                with target.open("xb") as file, member.open() as source:
                    while chunk := source.read(CHUNK_BYTES):
                        written += len(chunk)
                        if written > limit:  # whatever the headers said
                            raise _refusal(archive, name, too_big)
                        file.write(chunk)
                        bar.update(raw.tell() - bar.done)
                if target.stat().st_size != member.size:
                    raise EOFError(f"{target.stat().st_size} of {member.size} bytes")
            if not written:
                raise EOFError("it holds no data")
        except (*BROKEN, OSError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            # An error of the disk, not of the archive. (EINVAL: a damaged zip seeks too far back.)
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise OSError(
                    error.errno,
                    f"{error.strerror}: cannot unpack member {name!r} of {archive} into {aside}; "
                    f"free some space there or choose another folder",
                ) from error
            raise ValueError(
                f"{archive}: broken or cut off {f'at member {name!r}' if name else 'at its start'} "
                f"({reason}): wanted a whole zip or tar archive; delete it and fetch it again"
            ) from error


def _refusal(archive: Path, name: str, wrong: str) -> ValueError:
    return ValueError(
        f"{archive}: member {name!r} {wrong}; if you trust it, unpack it by hand and point "
        f"`source:` in params.yaml there"
    )


def _wrong_name(name: str, is_folder: bool, seen: dict[str, tuple[str, bool]]) -> str:
    """Return why a member's name is refused, "" if it is not, and add it to ``seen``."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        return "would be written elsewhere: wanted a relative path without '..', '\\' or a drive"
    if "\0" in name or not (path.parts or is_folder):
        return "has no usable name: wanted a relative path"
    for depth in range(1, len(path.parts) + 1):
        prefix = "/".join(path.parts[:depth])
        entry = (prefix, is_folder or depth < len(path.parts))
        # On macOS and Windows, names that differ only in case or in Unicode composition are equal.
        key = unicodedata.normalize("NFC", prefix).casefold()
        twin = seen.get(key)
        if twin and (twin != entry or not entry[1]):
            return f"clashes with member {twin[0]!r}: wanted names that differ in any case"
        seen[key] = entry
    return ""


def _zip_members(raw: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as archive:
        for info in archive.infolist():
            folder = info.filename.endswith("/")
            wrong = ""
            if info.flag_bits & 1:
                wrong = "is encrypted: wanted an archive without a password"
            elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                wrong = NOT_PLAIN
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile lacks deflate64, and unpacks bzip2 and LZMA into memory without a bound
                wrong = f"is packed by method {info.compress_type}: wanted stored or deflated"
            yield _Member(info.filename, folder, info.file_size, wrong, partial(archive.open, info))


def _tar_members(raw: IO[bytes]) -> Iterator[_Member]:
    # Members are read, not extracted: the filters of `extract` differ between Python versions.
    with tarfile.open(fileobj=raw, mode="r:*") as archive:
        for info in archive:
            wrong = "" if info.isreg() or info.isdir() else NOT_PLAIN
            data = partial(tarfile.ExFileObject, archive, info)
            yield _Member(info.name, info.isdir(), info.size, wrong, data)
        # tarfile treats a damaged or missing header as the end. So the end mark is checked, and the
        # rest is read up to the checksum at the end of the compressed stream.
        stream = archive.fileobj
        assert stream is not None
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no further member nor the end at byte {archive.offset}")
        while stream.read(CHUNK_BYTES):
            pass
