"""Read the tag Orientation of TIFF, JPEG and PNG, by which viewers turn pictures and GDAL does not.

The tag is 274 of TIFF 6.0; Exif in JPEG (APP1) and PNG (eXIf) is a TIFF without pixels.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

UPRIGHT: Final = 1
TAG: Final = 274

TURNS: Final = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 90°",
    6: "turned by 90° clockwise",
    7: "mirrored and turned by 270°",
    8: "turned by 270° clockwise",
}
"""What a viewer does to the pixels, by the tag's value."""


def read_orientation(path: Path) -> int:
    """Return the orientation of a picture, UPRIGHT where it says none or cannot be read."""
    with path.open("rb") as file:
        start = file.read(8)
        try:
            if start[:2] in (b"II", b"MM"):
                return _read_tag(file, 0)
            if start.startswith(b"\xff\xd8"):
                return _in_jpeg(file)
            if start.startswith(b"\x89PNG"):
                return _in_png(file)
        except struct.error:  # cut short, which is reported where its pixels are read
            pass
    return UPRIGHT


def _in_jpeg(file: BinaryIO) -> int:
    """Look for Exif among the segments before the pixels."""
    file.seek(2)
    while True:
        marker, kind = _unpack(file, ">BB")
        if marker != 0xFF or kind in (0xDA, 0xD9):
            return UPRIGHT
        (length,) = _unpack(file, ">H")
        end = file.tell() + length - 2
        if kind == 0xE1 and file.read(6) == b"Exif\0\0":
            return _read_tag(file, file.tell())
        file.seek(end)


def _in_png(file: BinaryIO) -> int:
    file.seek(8)
    while True:
        length, kind = _unpack(file, ">I4s")
        if kind == b"eXIf":
            return _read_tag(file, file.tell())
        if kind == b"IEND":
            return UPRIGHT
        file.seek(length + 4, 1)


def _read_tag(file: BinaryIO, begin: int) -> int:
    """Read the tag from the first directory of a TIFF, or BigTIFF, that begins in a file."""
    file.seek(begin)
    order = "<" if file.read(2) == b"II" else ">"
    is_big = _unpack(file, order + "H") == (43,)
    if is_big:
        file.seek(4, 1)
    (offset,) = _unpack(file, order + ("Q" if is_big else "I"))
    file.seek(begin + offset)
    (count,) = _unpack(file, order + ("Q" if is_big else "H"))
    for _ in range(min(count, 65_535)):
        tag, _kind, _count, value = _unpack(file, order + ("HHQH6x" if is_big else "HHIH2x"))
        if tag == TAG:
            return int(value) if value in TURNS else UPRIGHT
    return UPRIGHT


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
