"""Names of a project's images, by which the point log knows them, and which stay.

An image keeps its name while its path stays, and when its file was moved. No other image gets it.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from pointcover.raster.addresses import Address, parse_image
from pointcover.text import shorten
from pointcover.validation import Section

PART_BYTES: Final = 2**20
"""At the start and at the end of a file, by which one that was moved is found again."""


class ImageEntry(Section):
    """An image of a project."""

    name: str = Field(min_length=1, description="Name in the point log.")
    path: str = Field(min_length=1, description="Absolute path on this machine, or address.")
    digest: str = Field(default="", description="Of parts of the file, by which it is found again.")
    height: int | None = Field(default=None, description="In pixels, when it was last opened.")
    width: int | None = Field(default=None, description="In pixels, when it was last opened.")


def name_images(
    images: Sequence[Path], stored: Iterable[ImageEntry] = (), logged: Collection[str] = ()
) -> list[ImageEntry]:
    """Name images: stored ones as before, others by the shortest ends of paths that are free.

    Args:
        images: to name.
        stored: images that have names, open or not.
        logged: names in the point log, which only stored images keep.

    Raises:
        ValueError: an image is given twice.
    """
    paths = [path.resolve() for path in images]
    if twice := [str(path) for path, count in Counter(paths).items() if count > 1]:
        raise ValueError(f"{shorten(twice)} is given twice: give each image once")
    stored = tuple(stored)
    digests = {path: _digest(path) for path in paths}
    names = {_stored_path(one): one.name for one in stored}
    moved = [one for one in stored if one.digest and not Path(one.path).is_file()]
    found = {path: names[path] for path in paths if path in names}
    for path in paths:
        same = [one.name for one in moved if one.digest == digests[path]]
        copies = sum(digests[other] == digests[path] for other in paths)
        if path not in found and len(same) == copies == 1:
            found[path] = same[0]
    new = [path for path in paths if path not in found]
    found |= _name_new(new, {*names.values(), *logged})
    return [ImageEntry(name=found[path], path=str(path), digest=digests[path]) for path in paths]


def is_address(entry: ImageEntry) -> bool:
    """Return whether an image lies at an address, which is read only where it was typed."""
    return isinstance(parse_image(entry.path), Address)


def _stored_path(entry: ImageEntry) -> Path:
    """Return the path, or the address without its signature, for comparisons."""
    path = parse_image(entry.path)
    return path if isinstance(path, Address) else path.resolve()


def _name_new(paths: Sequence[Path], taken: Collection[str]) -> dict[Path, str]:
    """Name paths by their shortest ends that differ from each other and from taken names."""
    longest = max((len(path.parts) for path in paths), default=0)
    for parts in range(1, longest + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names) and not set(names) & set(taken):
            return dict(zip(paths, names, strict=True))
    found: dict[Path, str] = {}
    for path in paths:
        number, name = 2, path.name
        while name in taken or name in found.values():
            name = f"{path.name} ({number})"
            number += 1
        found[path] = name
    return found


def _digest(path: Path) -> str:
    """Return a digest of a file's size, start and end; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            found = hashlib.sha256(str(size).encode())
            for start in (0, max(0, size - PART_BYTES)):
                file.seek(start)
                found.update(file.read(PART_BYTES))
    except OSError:  # reading it as an image says why
        return ""
    return found.hexdigest()
