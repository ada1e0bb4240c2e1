"""Count the images of a TIFF, of which GDAL reads the first alone (TIFF 6.0, section 2)."""

import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

SUBFILE_TYPE: Final = 254
WIDTH: Final = 256
HEIGHT: Final = 257

NO_PAGE: Final = 1 | 4
"""Bits of the subfile type: a reduced image, such as an overview, and a mask."""

MOST_PAGES: Final = 10_000
"""Directories that are read."""

NUMBERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Formats of whole numbers, by the type of a tag."""


def count_pages(path: Path) -> int:
    """Return how many images of a TIFF have the size of the first one; 1 for other formats."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2))
        if order is None:
            return 1
        sizes: list[tuple[int | None, int | None]] = []
        try:
            is_big = _unpack(file, order + "H") == (43,)
            if is_big:
                file.seek(8)
            (offset,) = _unpack(file, order + ("Q" if is_big else "I"))
            seen: set[int] = set()  # a damaged file may have directories in a circle
            while 0 < offset < size and offset not in seen and len(seen) < MOST_PAGES:
                seen.add(offset)
                tags, offset = _read_directory(file, offset, order, is_big=is_big)
                if not sizes or not tags.get(SUBFILE_TYPE, 0) & NO_PAGE:
                    sizes.append((tags.get(HEIGHT), tags.get(WIDTH)))
        except struct.error:  # cut short, which is reported where its pixels are read
            pass
    return max(1, sum(one == sizes[0] for one in sizes))


def _read_directory(
    file: BinaryIO, offset: int, order: str, *, is_big: bool
) -> tuple[dict[int, int], int]:
    """Return the whole numbers of a directory by tag, and the place of the next one, or 0."""
    file.seek(offset)
    (count,) = _unpack(file, order + ("Q" if is_big else "H"))
    tags = {}
    for _ in range(min(count, 65_535)):
        tag, kind, values = _unpack(file, order + ("HHQ" if is_big else "HHI"))
        value = file.read(8 if is_big else 4)
        if values == 1 and kind in NUMBERS:
            tags[int(tag)] = int(
                struct.unpack_from(order + NUMBERS[kind], value.ljust(8, b"\0"))[0]
            )
    return tags, int(_unpack(file, order + ("Q" if is_big else "I"))[0])


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
