"""Dataset cards: YAML files that describe datasets, and the pairing of images and masks."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from pointcover.labels import (
    IGNORE_INDEX,
    SPLITS,
    ClassTable,
    Colour,
    Split,
    check_class_name,
    format_colour,
    parse_colour,
)
from pointcover.runtime.signals import time_limit
from pointcover.text import compose, shorten
from pointcover.validation import Section

logger = logging.getLogger(__name__)

CARDS = Path(__file__).parent / "cards"
FOLDER: Final = "folder"
"""The value of `dataset` for a folder without a card: `source` itself; see `infer_card`."""


NAN: Final = "nan"

STARS: Final = ("*", "**", "**/")
"""Wildcards of globs."""

ENDINGS: Final = {
    **dict.fromkeys((".tif", ".tiff"), (".tif", ".tiff")),
    **dict.fromkeys((".jpg", ".jpeg"), (".jpg", ".jpeg")),
}
"""Endings in small letters that are of one format."""

MAX_STARS: Final = 20
"""Most wildcards in a glob."""

MAX_DEEP_STARS: Final = 3
"""Most `**` in a glob: the folders are read anew for each of them."""

REGION_S: Final = 10
"""Most seconds that a region rule may take for an image."""

MAX_VALUE: Final = 65_535
"""Largest number of a class in masks."""

MAX_NAME_BYTES: Final = 220
"""Most bytes of an orthophoto's name. File systems allow 255, of which endings take the others."""

SplitRule = float | tuple[str, ...] | str
"""A fraction of the regions, a list of regions, or the file of a list of regions or tiles."""


def _default_split() -> dict[Split, SplitRule]:
    return {"train": 0.6, "val": 0.2, "test": 0.2}


class ClassEntry(Section):
    """One class; its id is its index in the list."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, pattern=r"^[\w .-]+$"),
        AfterValidator(compose),
        AfterValidator(check_class_name),
    ]
    colour: str
    value: int | str | tuple[int | str, ...] | None = None
    """What the class is in masks: a number, a colour, or several, which are merged. By default it
    is the id, or in masks of colours `colour`; an empty list is in no mask."""

    @field_validator("colour", mode="before")
    @classmethod
    def _is_colour(cls, text: Any) -> Any:
        if isinstance(text, list | tuple):
            raise ValueError(
                f"got {text!r}, wanted the one colour in which the class is shown: several colours "
                f"of masks are its `value: {list(text)}`"
            )
        if isinstance(text, str):
            parse_colour(text)
        return text

    @field_validator("value", mode="before")
    @classmethod
    def _is_value(cls, value: Any) -> Any:
        if value is None:
            return value
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str):
                parse_colour(one)
            elif not isinstance(one, int | float) or one not in range(MAX_VALUE + 1):
                raise ValueError(
                    f"got {value!r}, wanted a whole number from 0 to {MAX_VALUE}, a colour, or a "
                    f"list of these"
                )
        return value

    @property
    def values(self) -> tuple[int | str, ...] | None:
        """The values in masks; None where the card states none."""
        if self.value is None or isinstance(self.value, tuple):
            return self.value
        return (self.value,)


class Download(Section):
    """The URL of an archive, and its checksum, which is required."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    checksum: Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]

    @property
    def file_name(self) -> str:
        """The name of the archive when it is downloaded by hand."""
        return unquote(Path(urlsplit(self.url).path).name)


class DatasetCard(Section):
    """A dataset: its classes, files, splits and source.

    `images` and `masks` are globs, relative to the dataset's folder. An image and a mask are a
    pair if the stars of both globs match the same text. Without `masks` there are no dense masks:
    labels come from a vector file (`annotations` in params.yaml). A card may extend another one
    (`extends`), or have another one's classes (`map_classes`); see `load_card`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(min_length=1)]
    licence: str = "not stated"
    citation: str = ""
    # The classes, and their values in masks
    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=2, max_length=255)]
    mask_values: Literal["ids", "colours"] = "ids"
    ignore: tuple[int | str, ...] = ()
    binarise_at: Annotated[int, Field(ge=1, le=255)] | None = None
    # The files
    images: Annotated[str, Field(min_length=1)]
    masks: Annotated[str, Field(min_length=1)] | None = None
    bands: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 3)
    value_range: tuple[float, float] | None = None
    gsd_m: Annotated[float, Field(gt=0)] | None = None
    # Regions and splits
    region: str = "file"
    split: dict[Split, SplitRule] = Field(default_factory=_default_split)
    may_overlap: bool = False
    tile_px: Annotated[int, Field(ge=1)] | None = None
    leave_out: tuple[str, ...] = ()
    orthophotos: Annotated[int, Field(ge=3)] | None = None
    # The source
    drawn: bool = False
    download: tuple[Download, ...] = ()
    instructions: str = ""

    @field_validator("download", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value or ()

    @field_validator("ignore", mode="before")
    @classmethod
    def _name_nan(cls, values: Any) -> Any:
        """Return values with NaN by its name, which JSON can hold."""
        if not isinstance(values, list | tuple):
            return values
        return [NAN if isinstance(value, float) and value != value else value for value in values]

    @model_validator(mode="after")
    def _is_consistent(self) -> "DatasetCard":
        self.class_table()
        if self.mask_values == "colours":
            self.colour_ids()
        else:
            self.value_ids()
        for key, glob in (("images", self.images), ("masks", self.masks or "*")):
            if "\\" in glob:
                raise ValueError(
                    f"{key} {glob!r} has a backslash: write paths with `/`, also on Windows"
                )
            if Path(glob).is_absolute() or ".." in Path(glob).parts or set(glob) & set("?["):
                raise ValueError(
                    f"{key} {glob!r} must be a path below the dataset's folder, with stars as its "
                    f"only wildcards"
                )
            if glob.count("**") > MAX_DEEP_STARS or glob.count("*") > MAX_STARS:
                raise ValueError(
                    f"{key} {glob!r} has {glob.count('*')} stars, wanted at most {MAX_STARS}, and "
                    f"at most {MAX_DEEP_STARS} times `**`"
                )
        if "*" not in self.images:
            raise ValueError(f"images {self.images!r} must have at least one star")
        if self.masks is not None and self.images.count("*") != self.masks.count("*"):
            raise ValueError(
                f"images {self.images!r} and masks {self.masks!r} must have the same number of "
                f"stars, at least one: the text that they match pairs a mask with its image"
            )
        if self.region not in ("file", "folder"):
            try:
                groups = re.compile(self.region).groups
            except re.error as error:
                raise ValueError(
                    f"region {self.region!r} is no regular expression: {error}"
                ) from None
            if groups != 1:
                raise ValueError(
                    f"region {self.region!r} has {groups} groups, wanted 'file', 'folder', or a "
                    f"regular expression with one group, searched in the image's path"
                )
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(
                f"value_range {list(self.value_range)} is empty: the first must be the smaller"
            )
        if self.binarise_at is not None:
            self._check_binary()
        kinds = {type(rule) for rule in self.split.values()}
        if len(kinds) != 1:
            raise ValueError(
                "split must give fractions (train: 0.6), lists of regions (test: [Tile 3]) or tile "
                "lists (train: train.txt), not a mixture"
            )
        if kinds == {tuple} and not {"val", "test"} <= set(self.split):
            raise ValueError("split must name the regions of val and of test; the rest is train")
        if self.tile_px is not None and kinds != {str}:
            raise ValueError("tile_px is the size of tiles on lists, but split names no files")
        if kinds != {tuple} and set(self.split) != set(SPLITS):
            raise ValueError("split must name train, val and test")
        total = sum(self.fractions().values())
        if kinds == {float} and abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions of split add up to {total:.6g}, not 1")
        if kinds == {float} and min(self.fractions().values()) <= 0:
            raise ValueError("every fraction of split must be more than 0")
        return self

    def _check_binary(self) -> None:
        """Check that no class has a value other than 0 and 255, which `binarise_at` leaves."""
        if self.mask_values == "colours":
            levels = {level for colour in self.colour_ids() for level in colour}
        else:
            levels = set(self.value_ids())
        if not levels <= {0, 255}:
            raise ValueError(
                f"binarise_at {self.binarise_at} leaves 0 and 255 in the masks, but classes and "
                f"ignore have the values {', '.join(map(str, sorted(levels - {0, 255})))}"
            )

    def class_table(self) -> ClassTable:
        """Return the ids, names and colours of the classes."""
        return ClassTable(
            names=tuple(entry.name for entry in self.classes),
            colours=tuple(parse_colour(entry.colour) for entry in self.classes),
        )

    def colour_ids(self) -> dict[Colour, int]:
        """Return class ids by mask colour, IGNORE_INDEX for colours that mean unlabelled."""
        pairs: list[tuple[Colour, int]] = []
        for class_id, entry in enumerate(self.classes):
            values = (entry.colour,) if entry.values is None else entry.values
            for value in values:
                if not isinstance(value, str):
                    raise ValueError(
                        f"class {entry.name!r} has value {value}, but mask_values is 'colours': "
                        f"wanted colours such as '#3C1098', or mask_values: ids"
                    )
                pairs.append((parse_colour(value), class_id))
        ids = dict(pairs)
        _check_unique([format_colour(colour) for colour, _ in pairs])
        for colour in self.ignore:
            if parse_colour(str(colour)) in ids:
                raise ValueError(f"ignore holds {colour}, which is the colour of a class")
        return ids | {parse_colour(str(colour)): IGNORE_INDEX for colour in self.ignore}

    def value_ids(self) -> dict[int, int]:
        """Return class ids by mask value; a class without `value` has its index in the list."""
        pairs: list[tuple[int, int]] = []
        for class_id, entry in enumerate(self.classes):
            for value in (class_id,) if entry.values is None else entry.values:
                if not isinstance(value, int):
                    raise ValueError(
                        f"class {entry.name!r} has value {value!r}, but mask_values is 'ids': "
                        f"wanted numbers, or mask_values: colours"
                    )
                pairs.append((value, class_id))
        _check_unique([value for value, _ in pairs])
        ids = dict(pairs)
        numbers = [value for value in self.ignore if not self._is_nan(value)]
        for number in numbers:
            if not isinstance(number, int) or number in ids:
                raise ValueError(
                    f"ignore holds {number!r}, wanted numbers of the masks that are no class"
                )
        return ids | {int(number): IGNORE_INDEX for number in numbers}

    @property
    def ignores_nan(self) -> bool:
        """Whether NaN in a mask means unlabelled."""
        return any(map(self._is_nan, self.ignore))

    @staticmethod
    def _is_nan(value: int | str) -> bool:
        return str(value).lower().lstrip(".") == NAN

    def fractions(self) -> dict[Split, float]:
        """Return the fractions of the regions by split, empty where the card gives lists."""
        return {name: rule for name, rule in self.split.items() if isinstance(rule, float)}

    def region_lists(self) -> dict[Split, tuple[str, ...]]:
        """Return the lists of regions by split, empty where the card gives fractions or files."""
        return {name: rule for name, rule in self.split.items() if isinstance(rule, tuple)}


def _check_unique(values: Sequence[int | str]) -> None:
    """Check that no value of masks is given twice.

    Raises:
        ValueError: one is.
    """
    twice = sorted(value for value, count in Counter(values).items() if count > 1)
    if twice:
        raise ValueError(f"value {twice} belongs to two classes, or twice to one: make them differ")


@dataclass(frozen=True)
class Pair:
    """An orthophoto and its dense mask, if it has one: paths relative to the dataset's folder."""

    name: str
    region: str
    image: str
    mask: str | None


def embedded_cards() -> dict[str, Path]:
    """Return the files of the embedded cards by name, in order."""
    return {path.stem: path for path in sorted(CARDS.glob("*.yaml"))}


def matches(region: str, entry: str) -> bool:
    """Return whether an entry of a list of regions, with stars as wildcards, matches a region."""
    text, (first, *others) = compose(region), compose(entry).split("*")
    if not others:
        return text == first
    *middle, last = others
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in middle:  # the first place of each leaves the most for those after it
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def match_stars(parts: Sequence[str], text: str) -> tuple[str, ...] | None:
    """Return the texts that stars match, each the longest in turn; None if a text does not match.

    As a regular expression, a pattern of many stars would take exponential time.

    Args:
        parts: of a pattern: `*` is any text without a slash, `**` any text, `**/` any folders or
            none; other parts are themselves.
        text: to match wholly.
    """
    failed: set[tuple[int, int]] = set()

    def match(number: int, at: int) -> tuple[str, ...] | None:
        """Match the parts from a number on with the text from a place on."""
        if number == len(parts):
            return () if at == len(text) else None
        if (number, at) in failed:
            return None
        for end, after in _ends(parts[number], text, at):
            if (rest := match(number + 1, after)) is not None:
                return (text[at:end], *rest) if parts[number] in STARS else rest
        failed.add((number, at))
        return None

    return match(0, 0)


def _ends(part: str, text: str, at: int) -> Iterator[tuple[int, int]]:
    """Yield where a part of a pattern may end in a text, the farthest first, and what follows."""
    if part not in STARS:
        if text.startswith(part, at):
            yield at + len(part), at + len(part)
        return
    if part == "**/":
        yield from ((end, end + 1) for end in range(len(text) - 1, at - 1, -1) if text[end] == "/")
        yield at, at
        return
    slash = text.find("/", at) if part == "*" else -1
    last = len(text) if slash < 0 else slash
    yield from ((end, end) for end in range(last, at - 1, -1))


def find_pairs(card: DatasetCard, folder: Path) -> list[Pair]:
    """Find the orthophotos and masks of a dataset, sorted by image path.

    Regions and files in the card's `leave_out` are excluded.

    Raises:
        ValueError: nothing matches, or an image or mask is unpaired, or there are not as many as
            the card says; the message names them.
        FileNotFoundError: a link among them is broken.
    """
    found = [_match(glob, folder) if glob is not None else {} for glob in (card.images, card.masks)]
    images, masks = (
        {key: path for key, path in paths.items() if not _left_out(card, path)} for paths in found
    )
    _warn_of_near_misses(card, folder, {path for paths in found for path in paths.values()})
    if not images:
        raise ValueError(
            f"no file in {folder} matches images {card.images!r}: check the card's globs and "
            f"`source` in params.yaml. {card.instructions}".rstrip()
        )
    unpaired = (
        []
        if card.masks is None
        else [
            f"{folder / files[key]} has no {other}"
            for files, others, other in ((images, masks, "mask"), (masks, images, "image"))
            for key in sorted(files.keys() - others.keys())
        ]
    )
    if unpaired:
        raise ValueError(
            "\n  - ".join(
                [
                    f"{len(unpaired)} files are unpaired (images {card.images!r}, masks "
                    f"{card.masks!r}): add what is missing or move them away",
                    *unpaired[:20],
                    *([f"and {len(unpaired) - 20} more"] if len(unpaired) > 20 else []),
                ]
            )
        )
    pairs = [
        Pair(
            name=re.sub(r"[^\w.-]+", "_", "-".join(filter(None, key))),
            region=_region_of(card, images[key]),
            image=images[key],
            mask=masks.get(key),
        )
        for key in images
    ]
    paths = [path for of_kind in found for path in of_kind.values()]
    _warn_of_unused(card, [*paths, *(pair.region for pair in pairs)])
    pairs = [pair for pair in pairs if not _left_out(card, pair.region)]
    long = [pair.image for pair in pairs if len(pair.name.encode()) > MAX_NAME_BYTES]
    if long:
        raise ValueError(
            f"{folder / long[0]} has a name of more than {MAX_NAME_BYTES} bytes, with which files "
            f"of tiles cannot be named: rename it and its mask"
        )
    twice = [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} orthophotos would have the same name ({', '.join(twice[:5])}): rename "
            f"files so that they differ in more than special characters"
        )
    _check_complete(card, pairs, folder)
    return sorted(pairs, key=lambda pair: pair.image)


def _left_out(card: DatasetCard, name: str) -> bool:
    return any(matches(name, entry) for entry in card.leave_out)


def _warn_of_near_misses(card: DatasetCard, folder: Path, taken: Set[str]) -> None:
    """Warn of files that a glob misses by the case of letters, or by tif for tiff, alone."""
    for key, glob in (("images", card.images), ("masks", card.masks)):
        ending = Path(glob or "").suffix
        others = ENDINGS.get(ending.lower(), (ending.lower(),))
        if not glob or "*" in ending:
            continue
        missed = [
            path.relative_to(folder).as_posix()
            for path in folder.glob(glob.removesuffix(ending) + ".*")
            if path.suffix != ending and path.suffix.lower() in others
        ]
        missed = sorted(path for path in missed if path not in taken and not _is_hidden(path))
        if missed:
            logger.warning(
                "%s %r leaves out %s, which end in another way: if they belong to the dataset, "
                "rename them",
                key,
                glob,
                shorten(missed, 5),
            )


def _is_hidden(path: str) -> bool:
    return Path(path).name.startswith(".")


def _warn_of_unused(card: DatasetCard, names: Iterable[str]) -> None:
    """Warn of entries of `leave_out` that match none of the paths and regions.

    They are allowed, since a part of a published dataset may lack what its card leaves out.
    """
    known = set(names)
    for entry in card.leave_out:
        if not any(matches(name, entry) for name in known):
            logger.warning(
                "leave_out lists %r, which matches no image, mask or region: nothing is left out "
                "by it. Correct it if it names some that are not to be used, such as %r",
                entry,
                min(known),
            )


def _check_complete(card: DatasetCard, pairs: list[Pair], folder: Path) -> None:
    if card.orthophotos is None or len(pairs) == card.orthophotos:
        return
    regions = {pair.region for pair in pairs}
    listed = {name for names in card.region_lists().values() for name in names if "*" not in name}
    absent = shorten(sorted(listed - regions), 40)
    raise ValueError(
        f"{folder} holds {len(pairs)} orthophotos with masks, wanted {card.orthophotos}"
        f"{f': missing {absent}' if absent else ''}. To use a part of the dataset, write a card of "
        f"your own with `extends` and `orthophotos: null`. {card.instructions}".rstrip()
    )


def _match(glob: str, folder: Path) -> dict[tuple[str, ...], str]:
    """Return the paths below a folder that match a glob, by the text that its stars match."""
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    found: dict[tuple[str, ...], str] = {}
    for path in sorted(folder.glob(glob)):
        relative = path.relative_to(folder).as_posix()
        texts = match_stars(parts, relative)
        # A glob may also match names in another case, or hidden files: these are skipped.
        if texts is None or _is_hidden(relative):
            continue
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError(
                f"{path} is a link to {path.readlink()}, which does not exist: correct or remove it"
            )
        if path.is_file():
            key = tuple(map(compose, texts))
            if key in found:
                raise ValueError(
                    f"{path} and {folder / found[key]} have the same name but for how its letters "
                    f"are composed in Unicode: rename or remove one"
                )
            found[key] = relative
    return found


def _region_of(card: DatasetCard, image: str) -> str:
    if card.region == "file":
        return image
    if card.region == "folder":
        return Path(image).parent.as_posix()
    limit = (
        f"the region rule {card.region!r} takes more than {REGION_S} s on {image}: its repetitions "
        f"can match in too many ways. Correct `region` in the card, for example without (x+)+"
    )
    with time_limit(REGION_S, limit):
        match = re.search(card.region, image)
    if not match or match.group(1) is None:
        raise ValueError(
            f"the region rule {card.region!r} does not match the image {image}: correct `region` "
            f"in the card"
        )
    return match.group(1)
