"""Dataset cards: one YAML file that says all that a dataset is, and how its files pair up."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from pointcover.labels import IGNORE_INDEX, ClassTable, Colour, parse_colour
from pointcover.params import Section, read_yaml, validate

CARDS = Path(__file__).parent
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


SplitRule = float | tuple[str, ...] | str
"""A share of the regions, a list of regions, or the file of a list of tiles."""


def _default_split() -> dict[Split, SplitRule]:
    return {"train": 0.6, "val": 0.2, "test": 0.2}


class ClassEntry(Section):
    """One class: its id is its place in the list."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w .-]+$")]
    colour: str
    value: Annotated[int, Field(ge=0, le=65_535)] | None = None

    @field_validator("colour")
    @classmethod
    def _is_colour(cls, text: str) -> str:
        parse_colour(text)
        return text


class Download(Section):
    """Where the archive comes from, and the checksum without which it is not unpacked."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    checksum: Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]


class DatasetCard(Section):
    """All that a dataset is.

    `images` and `masks` are globs, relative to the dataset's folder. An image and a mask are a
    pair where the stars of both globs stand for the same text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(min_length=1)]
    licence: str = "not stated"
    citation: str = ""
    # The classes, and how masks say them
    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=2, max_length=255)]
    mask_values: Literal["ids", "colours"] = "ids"
    ignore: tuple[int | str, ...] = ()
    # The files
    images: Annotated[str, Field(min_length=1)]
    masks: Annotated[str, Field(min_length=1)]
    bands: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 3)
    value_range: tuple[float, float] = (0, 255)
    gsd_m: Annotated[float, Field(gt=0)] | None = None
    # What stays together, and on which side
    region: str = "file"
    split: dict[Split, SplitRule] = Field(default_factory=_default_split)
    # Where it comes from
    drawn: bool = False
    download: Download | None = None
    instructions: str = ""

    @model_validator(mode="after")
    def _holds_together(self) -> "DatasetCard":
        self.class_table()
        if self.mask_values == "colours":
            self.colour_ids()
        else:
            self.value_ids()
        for key, glob in (("images", self.images), ("masks", self.masks)):
            if Path(glob).is_absolute() or ".." in Path(glob).parts or set(glob) & set("?["):
                raise ValueError(
                    f"{key} {glob!r} must be a path below the dataset's folder, with stars as its "
                    f"only wildcards"
                )
        if self.images.count("*") != self.masks.count("*") or "*" not in self.images:
            raise ValueError(
                f"images {self.images!r} and masks {self.masks!r} must hold the same number of "
                f"stars, at least one: what the stars stand for pairs a mask with its image"
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
        low, high = self.value_range
        if not low < high:
            raise ValueError(f"value_range [{low}, {high}] is empty: the first must be the smaller")
        kinds = {type(rule) for rule in self.split.values()}
        if len(kinds) != 1:
            raise ValueError(
                "split must give shares (train: 0.6), lists of regions (test: [Tile 3]) or tile "
                "lists (train: train.txt), not a mixture"
            )
        if kinds == {tuple} and not {"val", "test"} <= set(self.split):
            raise ValueError("split must name the regions of val and of test; the rest is train")
        if kinds != {tuple} and set(self.split) != set(SPLITS):
            raise ValueError("split must name train, val and test")
        total = sum(self.shares().values())
        if kinds == {float} and abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of split add up to {total:.6g}, not 1")
        if kinds == {float} and min(self.shares().values()) <= 0:
            raise ValueError("every share of split must be more than 0")
        return self

    def class_table(self) -> ClassTable:
        """Ids, names and colours of the classes."""
        return ClassTable(
            names=tuple(entry.name for entry in self.classes),
            colours=tuple(parse_colour(entry.colour) for entry in self.classes),
        )

    def colour_ids(self) -> dict[Colour, int]:
        """What each colour of a mask means, IGNORE_INDEX for those that mean unlabelled."""
        ids = {parse_colour(entry.colour): i for i, entry in enumerate(self.classes)}
        for colour in self.ignore:
            if parse_colour(str(colour)) in ids:
                raise ValueError(f"ignore holds {colour}, which is the colour of a class")
        return ids | {parse_colour(str(colour)): IGNORE_INDEX for colour in self.ignore}

    def value_ids(self) -> dict[int, int]:
        """What each number of a mask means; `value` is the place in the list where not given."""
        values = [i if entry.value is None else entry.value for i, entry in enumerate(self.classes)]
        twice = sorted(value for value, count in Counter(values).items() if count > 1)
        if twice:
            raise ValueError(f"value {twice} is given to two classes: make them differ")
        ids = {value: class_id for class_id, value in enumerate(values)}
        for value in self.ignore:
            if not isinstance(value, int) or value in ids:
                raise ValueError(
                    f"ignore holds {value!r}, wanted numbers of the masks that are no class"
                )
        return ids | {int(value): IGNORE_INDEX for value in self.ignore}

    def shares(self) -> dict[Split, float]:
        """Shares of the regions by split, empty where the card gives lists."""
        return {name: rule for name, rule in self.split.items() if isinstance(rule, float)}


@dataclass(frozen=True)
class Pair:
    """An orthophoto and its dense mask: paths relative to the dataset's folder."""

    name: str
    region: str
    image: str
    mask: str


def load_card(dataset: str, own_cards: Path) -> DatasetCard:
    """Read the card of a dataset.

    Args:
        dataset: the name of an embedded card, or the path of a user's own card (.yaml).
        own_cards: the folder that DVC watches; a user's own card must lie below it.

    Raises:
        ValueError: there is no such card, or it lies where DVC would not see it change, or keys
            of it are wrong; one message names all faults.
    """
    known = sorted(path.stem for path in CARDS.glob("*.yaml"))
    if dataset in known:
        path = CARDS / f"{dataset}.yaml"
    elif dataset.endswith((".yaml", ".yml")):
        path = Path(dataset)
        if not path.resolve().is_relative_to(own_cards.resolve()):
            raise ValueError(
                f"dataset: the card {dataset} lies outside {own_cards}/, so DVC would not see it "
                f"change: move it to {own_cards}/{path.name}"
            )
    else:
        raise ValueError(
            f"dataset: got {dataset!r}, wanted one of {', '.join(known)} or the path of your own "
            f"card, such as {own_cards}/mine.yaml"
        )
    return validate(DatasetCard, read_yaml(path), path)


def find_pairs(card: DatasetCard, folder: Path) -> list[Pair]:
    """Find the orthophotos and masks of a dataset, sorted by image path.

    Raises:
        ValueError: nothing matches, or an image or mask is alone; the message names them all.
    """
    images = _match(card.images, folder)
    masks = _match(card.masks, folder)
    if not images:
        raise ValueError(
            f"no file in {folder} matches images {card.images!r}: check the card's globs and "
            f"`source` in params.yaml"
        )
    alone = [
        f"{folder / files[key]} has no {other}"
        for files, others, other in ((images, masks, "mask"), (masks, images, "image"))
        for key in sorted(files.keys() - others.keys())
    ]
    if alone:
        raise ValueError(
            "\n  - ".join(
                [
                    f"{len(alone)} files are unpaired (images {card.images!r}, masks "
                    f"{card.masks!r}): add what is missing or move them away",
                    *alone[:20],
                    *([f"and {len(alone) - 20} more"] if len(alone) > 20 else []),
                ]
            )
        )
    pairs = [
        Pair(
            name=re.sub(r"[^\w.-]+", "_", "-".join(filter(None, key))),
            region=_region_of(card, images[key]),
            image=images[key],
            mask=masks[key],
        )
        for key in images
    ]
    twice = [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} orthophotos would share a name ({', '.join(twice[:5])}): rename files "
            f"so that they differ in more than special characters"
        )
    return sorted(pairs, key=lambda pair: pair.image)


def _match(glob: str, folder: Path) -> dict[tuple[str, ...], str]:
    """Paths below a folder that match a glob, by what its stars stand for."""
    pattern = re.compile(
        "".join({"**/": "(?:(.*)/)?", "**": "(.*)", "*": "([^/]*)"}.get(part, re.escape(part))
                for part in re.split(r"(\*\*/|\*\*|\*)", glob))
    )  # fmt: skip
    found: dict[tuple[str, ...], str] = {}
    for path in sorted(folder.glob(glob)):
        relative = path.relative_to(folder).as_posix()
        match = pattern.fullmatch(relative)
        # A glob may be looser than its pattern about case or hidden files: those are no data.
        if match and path.is_file() and not path.name.startswith("."):
            found[match.groups("")] = relative
    return found


def _region_of(card: DatasetCard, image: str) -> str:
    if card.region == "file":
        return image
    if card.region == "folder":
        return Path(image).parent.as_posix()
    match = re.search(card.region, image)
    if not match or match.group(1) is None:
        raise ValueError(
            f"the region rule {card.region!r} does not match the image {image}: mend `region` in "
            f"the card"
        )
    return match.group(1)
