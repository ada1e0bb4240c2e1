"""Decode run-length encoded masks of annotation tools, and trace masks as polygons.

The size of a mask is that of its image, or of a part of it, and is checked before memory is taken.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import shapes
from rasterio.transform import Affine

Bits = npt.NDArray[np.bool_]
"""A mask, (H, W)."""

_CHANNELS: Final = 4
"""Of Label Studio's masks: red, green, blue, alpha; alpha alone says where the brush was."""
_SIZE_BITS: Final = 32
_WORD_SIZE_BITS: Final = 5
_RUN_SIZE_BITS: Final = 4
_RUN_SIZES: Final = 4
_BYTE: Final = 8
_MOST_BITS: Final = 60
"""Of the numbers in COCO's text; larger ones are no lengths."""


def decode_counts(counts: Sequence[int], height: int, width: int, order: str) -> Bits:
    """Decode lengths of runs, of pixels outside and inside in turn, beginning outside.

    Args:
        counts: the lengths.
        height: of the mask.
        width: of the mask.
        order: `F` if runs go down the columns (COCO), `C` if they go along the rows (CVAT).

    Raises:
        ValueError: a length is negative or no whole number, or they do not add up to the pixels.
    """
    try:
        lengths = np.array(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("the run lengths of the mask are not whole numbers") from None
    if lengths.ndim != 1 or (lengths < 0).any() or (lengths > height * width).any():
        raise ValueError(f"the run lengths of the mask must be from 0 to {height * width}")
    if (total := int(lengths.sum())) != height * width:
        raise ValueError(
            f"the run lengths of the mask add up to {total} px, wanted {height} × {width}"
        )
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.asarray(flat.reshape((height, width), order="F" if order == "F" else "C"))


def coco_counts(text: str) -> list[int]:
    """Return the run lengths in COCO's text of a compressed mask.

    A number is written in groups of five bits, the lowest first, each a character from `0` on; the
    sixth bit says that another group follows, and the highest bit of the last group is the sign.
    From the fourth number on, it is the difference from the last but one.

    Raises:
        ValueError: the text has other characters, or ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for place, char in enumerate(text):
        group = ord(char) - ord("0")
        if not 0 <= group < 64 or shift >= _MOST_BITS:
            raise ValueError(f"the mask is no compressed RLE: character {place} is {char!r}")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the mask is no compressed RLE: it ends within a number")
    return counts


def decode_brush(rle: Sequence[int], height: int, width: int) -> Bits:
    """Decode a mask of Label Studio's brush.

    The bytes hold: 32 bits with the number of values, 4 a pixel; the bits of a value, less one, in
    5 bits; four sizes of run lengths, less one, in 4 bits each. Blocks follow: a bit for a run of
    one value, 2 bits for the size, the length less one, then the value, or all values.

    Raises:
        ValueError: it is not of that many pixels, or ends too early.
    """
    try:
        data = np.array(rle, np.uint8)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("the brush's `rle` does not hold whole numbers from 0 to 255") from None
    bits = _BitReader(data)
    if (number := bits.read(_SIZE_BITS)) != _CHANNELS * height * width:
        raise ValueError(
            f"the brush's `rle` is of {number} values, wanted {_CHANNELS * height * width}, four a "
            f"pixel of {height} × {width}"
        )
    word_size = bits.read(_WORD_SIZE_BITS) + 1
    run_sizes = [bits.read(_RUN_SIZE_BITS) + 1 for _ in range(_RUN_SIZES)]
    alpha = np.zeros(height * width, bool)
    begin = 0
    while begin < number:
        is_run = bits.read(1)
        end = begin + 1 + bits.read(run_sizes[bits.read(2)])
        if end > number:
            raise ValueError(f"the brush's `rle` has more than {number} values")
        # Value 4 n + 3 is the alpha of pixel n.
        pixels = slice(begin // _CHANNELS, end // _CHANNELS)
        if is_run:
            alpha[pixels] = bits.read(word_size) > 0
        else:
            first = (_CHANNELS - 1 - begin) % _CHANNELS
            alpha[pixels] = bits.read_nonzero(end - begin, word_size)[first::_CHANNELS]
        begin = end
    return alpha.reshape(height, width)


class _BitReader:
    """Reads numbers of any size from bytes, the highest bit first."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        """Start at the first bit."""
        self._data, self._at, self._end = data, 0, len(data) * _BYTE

    def _advance(self, size: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Return the bytes with the next bits, and the place of the first bit in them."""
        begin, end = self._at, self._at + size
        if end > self._end:
            raise ValueError("the brush's `rle` ends too early")
        self._at = end
        return self._data[begin // _BYTE : -(-end // _BYTE)], begin % _BYTE

    def read(self, size: int) -> int:
        """Read a number of so many bits."""
        part, first = self._advance(size)
        number = int.from_bytes(part.tobytes(), "big")
        return (number >> (len(part) * _BYTE - first - size)) & ((1 << size) - 1)

    def read_nonzero(self, count: int, size: int) -> Bits:
        """Read numbers of so many bits each: (count,) whether each is more than 0."""
        part, first = self._advance(count * size)
        found = np.unpackbits(part)[first : first + count * size]
        return np.asarray(found.reshape(count, size).any(axis=1))


def trace_mask(mask: Bits, left: int = 0, top: int = 0) -> Any:
    """Trace a mask as polygons along the edges of its pixels, which cover the same pixels.

    Args:
        mask: to trace.
        left: column of the mask's first pixel in its image.
        top: row of the mask's first pixel in its image.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty")
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # the rest would take time
    place = Affine.translation(left + columns[0], top + rows[0])
    found = shapes(part.astype(np.uint8), mask=part, connectivity=4, transform=place)
    return shapely.MultiPolygon([shapely.geometry.shape(outline) for outline, _ in found])
