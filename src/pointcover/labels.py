"""Class ids, names and colours, the value of unlabelled pixels, and the names of the splits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pointcover.text import compose

IGNORE_INDEX: Final = 255
"""Mask value of a pixel without a label (dense or sparse). Never a class id."""

MAX_CLASSES: Final = 255

_COUNTED_EXACTLY: Final = 1 << 24
"""OpenCV returns counts as float32, which represents integers exactly up to this one."""

_CONVERTED: Final = 1 << 20
"""Values that numpy converts to 64 bits at a time."""

Colour = tuple[int, int, int]

Image = npt.NDArray[np.uint8]
"""(bands, H, W)."""

Mask = npt.NDArray[np.uint8]
"""(H, W) class ids, IGNORE_INDEX where unlabelled."""


def parse_colour(text: str) -> Colour:
    """Turn ``"#3C1098"`` (the ``#`` may be missing) into red, green and blue of 0 to 255.

    Raises:
        ValueError: the text is not six hexadecimal digits.
    """
    digits = text.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(
            f"colour {text!r} is not six hexadecimal digits: write it as '#3C1098'"
        ) from None
    return red, green, blue


def format_colour(colour: Colour) -> str:
    """Turn red, green and blue of 0 to 255 into ``"#3C1098"``."""
    return "#{:02X}{:02X}{:02X}".format(*colour)


def check_class_name(name: str) -> str:
    """Return the name of a class, if it can be shown.

    Raises:
        ValueError: it has no letter and no digit, or a control character or line break.
    """
    if not name.isprintable() or not any(map(str.isalnum, name)):
        raise ValueError(
            f"class name {name!r} cannot be shown: wanted letters or digits, without control "
            f"characters and line breaks"
        )
    return name


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset: class id ``i`` is called ``names[i]`` and drawn in ``colours[i]``.

    Ids run from 0 without gaps, so that they index the channels of logits and the rows of a
    confusion matrix.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]

    def __post_init__(self) -> None:
        """Compose the letters of names, and check names and colours.

        Raises:
            ValueError: they are not unique, or there is not one of each for a class.
        """
        object.__setattr__(self, "names", tuple(map(compose, self.names)))
        if len(self.names) != len(self.colours):
            raise ValueError(
                f"{len(self.names)} class names but {len(self.colours)} colours: give one each"
            )
        if not 2 <= len(self.names) <= MAX_CLASSES:
            raise ValueError(
                f"a class table needs 2 to {MAX_CLASSES} classes, got {len(self.names)}"
            )
        shown = tuple(format_colour(colour) for colour in self.colours)
        for what, values in (("name", self.names), ("colour", shown)):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"class {what} {', '.join(twice)} occurs twice: make them differ")

    def __len__(self) -> int:
        """Count the classes."""
        return len(self.names)

    @property
    def palette(self) -> npt.NDArray[np.uint8]:
        """Colours by id, (256, 3) uint8; ids that are no class are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colours
        return palette

    def paint(self, mask: Mask) -> npt.NDArray[np.uint8]:
        """Colour a mask: (H, W) uint8 class ids → (H, W, 3) uint8, unlabelled pixels black."""
        return self.palette[mask]


class UnknownValues(ValueError):
    """Values of a mask that are neither a class nor unlabelled, with their numbers of pixels."""

    def __init__(self, kind: str, counts: Mapping[str, int], known: str, where: str = "") -> None:
        """Make the message, which names the five most frequent values.

        Args:
            kind: what the values are: `id` or `colour`.
            counts: pixels by value.
            known: the values that are allowed.
            where: what the message begins with.
        """
        self.kind, self.counts, self.known, self.where = kind, counts, known, where
        most = sorted(counts.items(), key=lambda pair: -pair[1])
        found = ", ".join(f"{value} ({count} px)" for value, count in most[:5])
        more = f" and {len(most) - 5} more" if len(most) > 5 else ""
        super().__init__(
            f"{where}unknown {kind} {found}{more}; known: {known}. Add it to the card's `classes` "
            f"(`value` may be a list) or, where it means unlabelled, to its `ignore`"
        )

    def __reduce__(self) -> tuple[type["UnknownValues"], tuple[object, ...]]:
        """Return how to make it again, as from another process."""
        return type(self), (self.kind, dict(self.counts), self.known, self.where)


def ids_from_colours(rgb: npt.NDArray[np.uint8], ids: Mapping[Colour, int]) -> Mask:
    """Read a colour-coded mask: (3, H, W) uint8 → (H, W) uint8 ids.

    Args:
        rgb: red, green, blue.
        ids: what each colour means; a colour that means "unlabelled" maps to IGNORE_INDEX.

    Raises:
        UnknownValues: a colour is not in ``ids``.
    """
    key = (rgb[0].astype(np.uint32) << 16) | (rgb[1].astype(np.uint32) << 8) | rgb[2]
    mask = np.full(key.shape, IGNORE_INDEX, np.uint8)
    known = np.zeros(key.shape, bool)
    for (red, green, blue), class_id in ids.items():
        same = key == (red << 16) | (green << 8) | blue
        mask[same] = class_id
        known |= same
    if not known.all():
        values, counts = np.unique(key[~known], return_counts=True)
        found = {f"#{v:06X}": int(n) for v, n in zip(values, counts, strict=True)}
        raise UnknownValues("colour", found, ", ".join(format_colour(colour) for colour in ids))
    return mask


def ids_from_values(values: npt.NDArray[Any], ids: Mapping[int, int]) -> Mask:
    """Read a mask of numbers: (H, W) of any number type → (H, W) uint8 ids.

    Args:
        values: the numbers in the file.
        ids: what each number means; one that means "unlabelled" maps to IGNORE_INDEX.

    Raises:
        UnknownValues: a number is not in ``ids``.
    """
    if values.dtype == np.uint8:  # counting and looking up are a tenth of the time of sorting
        counts = count_values(values)
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(values, return_counts=True)
    # Fractional numbers and NaN are not keys of the table, so they are reported as unknown.
    meant = [ids.get(value.item()) for value in found]
    unknown = {
        str(value): int(count)
        for value, count, class_id in zip(found, counts, meant, strict=True)
        if class_id is None
    }
    if unknown:
        raise UnknownValues("id", unknown, _listed(ids))
    if values.dtype == np.uint8:
        import cv2

        table = np.full(256, IGNORE_INDEX, np.uint8)
        table[found] = [class_id for class_id in meant if class_id is not None]
        return np.asarray(cv2.LUT(values, table), np.uint8)
    mask = np.full(values.shape, IGNORE_INDEX, np.uint8)
    for value in found:
        mask[values == value] = ids[value.item()]
    return mask


def count_values(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count how often each value from 0 to 255 occurs: uint8 of any shape → (256,).

    OpenCV is four to eight times as fast as `np.bincount`, which converts the values to 64 bits,
    and is used where it is installed.
    """
    flat = np.ascontiguousarray(values).reshape(1, -1)
    counts = np.zeros(256, np.int64)
    try:
        import cv2
    except ModuleNotFoundError:
        for start in range(0, flat.size, _CONVERTED):
            counts += np.bincount(flat[0, start : start + _CONVERTED], minlength=256)
        return counts
    for start in range(0, flat.size, _COUNTED_EXACTLY):
        part = flat[:, start : start + _COUNTED_EXACTLY]
        counts += cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def count_pixels(mask: Mask, classes: int) -> tuple[int, ...]:
    """Count the pixels of each class id in a mask; unlabelled ones are not counted."""
    return tuple(count_values(mask)[:classes].tolist())


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))


Split = Literal["train", "val", "test"]


SPLITS: tuple[Split, ...] = ("train", "val", "test")
