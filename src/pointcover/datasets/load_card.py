"""Load dataset cards: find them by name, merge what they extend, and map their classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from pointcover.datasets.card import CARDS, DatasetCard, embedded_cards
from pointcover.text import shorten
from pointcover.validation import ClassName, Section, validate
from pointcover.yaml_files import read_yaml


def load_card(dataset: str, own_cards: Path) -> DatasetCard:
    """Read the card of a dataset.

    A card with `extends: NAME` takes the keys of the card NAME; its own keys replace them. One with
    `map_classes` has the classes of another card. NAME and the other card are embedded cards, or
    the file names of cards in the same folder.

    Args:
        dataset: the name of an embedded card, or the path of a user's own card (.yaml).
        own_cards: the folder that DVC tracks; a user's own card must lie below it.

    Raises:
        ValueError: there is no such card, or DVC does not track its folder, or its keys are wrong;
            one message lists all errors.
        FileNotFoundError: the file of an own card does not exist.
    """
    known = embedded_cards()
    if dataset in known:
        path = known[dataset]
    elif dataset.endswith((".yaml", ".yml")):
        path = Path(dataset)
        if not path.resolve().is_relative_to(own_cards.resolve()):
            raise ValueError(
                f"dataset: the card {dataset} lies outside {own_cards}/, so DVC would not see it "
                f"change: move it to {own_cards}/{path.name}"
            )
        if not path.is_file():
            raise FileNotFoundError(
                f"dataset: the card {dataset} does not exist: write it, or correct the path. "
                f"Experiments with --queue or --temp see only files that git tracks: `git add "
                f"{dataset}` first"
            )
    else:
        raise ValueError(
            f"dataset: got {dataset!r}, wanted one of {', '.join(known)}, or the path of your own "
            f"card, such as {own_cards}/mine.yaml, or of a folder of train/images, train/masks, "
            f"val/images, val/masks"
        )
    return _Cards(known, own_cards).read(path)


class ClassMapping(Section):
    """The classes of another card, and the class of each own class there."""

    to: Annotated[str, Field(min_length=1)]
    """Name of an embedded card, or the file name of a card in the same folder."""
    classes: dict[ClassName, ClassName | None]
    """Names of their classes by names of own classes; null means unlabelled."""


class _Mapped(Section):
    map_classes: ClassMapping


@dataclass(frozen=True)
class _Cards:
    """The cards that a card may name."""

    embedded: dict[str, Path]
    own: Path
    """The folder of own cards."""

    def read(self, path: Path, below: tuple[Path, ...] = ()) -> DatasetCard:
        """Read a card; `below` are cards that name it."""
        return self._map(self._merge(path, below), path, below)

    def _merge(self, path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
        """Read a card's keys, merged over those of the card that it extends."""
        values = read_yaml(path)
        if "extends" not in values:
            return values
        parent, chain = self._find(values.pop("extends"), path, "extends", below)
        inherited = self._merge(parent, chain)
        if "map_classes" in inherited and "map_classes" not in values:
            # Its mapping is of its own classes, to a card in its own folder.
            inherited = self._map(inherited, parent, chain).model_dump()
        return inherited | values

    def _map(self, values: dict[str, Any], path: Path, below: tuple[Path, ...]) -> DatasetCard:
        """Make a card of its keys, with the classes of another card where it maps them."""
        values = dict(values)
        if values.get("map_classes") is None:
            values.pop("map_classes", None)
            return validate(DatasetCard, values, path)
        mapping = validate(_Mapped, {"map_classes": values.pop("map_classes")}, path).map_classes
        card = validate(DatasetCard, values, path)
        parent, chain = self._find(mapping.to, path, "map_classes.to", below)
        theirs = self.read(parent, chain)
        try:
            return map_classes(card, theirs, mapping)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _find(
        self, name: Any, path: Path, key: str, below: tuple[Path, ...]
    ) -> tuple[Path, tuple[Path, ...]]:
        """Return the path of a card that another one names, and the cards that lead to it."""
        if isinstance(name, str) and name in self.embedded:
            parent = self.embedded[name]
        elif isinstance(name, str) and name.endswith((".yaml", ".yml")) and path.parent != CARDS:
            parent = path.parent / name
            if not parent.resolve().is_relative_to(self.own.resolve()):
                raise ValueError(
                    f"{path} {_VERBS[key]} {name!r}, which lies outside {self.own}/: move it"
                )
        else:
            raise ValueError(
                f"{path} {_VERBS[key]} {name!r}, wanted one of {', '.join(self.embedded)}, or the "
                f"file name of a card in its folder"
            )
        chain = (*below, path.resolve())
        if parent.resolve() in chain:
            raise ValueError(
                f"{path} {_VERBS[key]} {name!r}, which {_VERBS[key]} it too: remove one `{key}`"
            )
        return parent, chain


_VERBS: Final = {"extends": "extends", "map_classes.to": "maps its classes to"}
"""What a card does with the card that a key names."""


def map_classes(card: DatasetCard, theirs: DatasetCard, mapping: ClassMapping) -> DatasetCard:
    """Return a card with the classes of another card, of which each has values of own classes.

    Args:
        card: with the files, and with its own classes.
        theirs: with the classes.
        mapping: which of its classes each own class is.

    Raises:
        ValueError: the mapping leaves out an own class, or names an unknown one.
    """
    own_names = [entry.name for entry in card.classes]
    names = [entry.name for entry in theirs.classes]
    missing = [name for name in own_names if name not in mapping.classes]
    unknown = [name for name in mapping.classes if name not in own_names]
    strange = [name for name in mapping.classes.values() if name is not None and name not in names]
    if missing:
        raise ValueError(
            f"map_classes.classes leaves out {shorten(missing)}: say which class of "
            f"{mapping.to!r} each is ({shorten(names)}), or `{missing[0]}: null`, which means "
            f"unlabelled"
        )
    if unknown:
        raise ValueError(
            f"map_classes.classes names {shorten(unknown)}, which is no class of this card: wanted "
            f"{shorten(own_names)}"
        )
    if strange:
        raise ValueError(
            f"map_classes.classes maps to {shorten(strange)}, which is no class of "
            f"{mapping.to!r}: wanted {shorten(names)}"
        )
    values: dict[str | None, list[int | str]] = {name: [] for name in (*names, None)}
    for class_id, entry in enumerate(card.classes):
        default = entry.colour if card.mask_values == "colours" else class_id
        values[mapping.classes[entry.name]] += (default,) if entry.values is None else entry.values
    changes = {
        "classes": [
            {"name": entry.name, "colour": entry.colour, "value": values[entry.name]}
            for entry in theirs.classes
        ],
        "ignore": [*card.ignore, *values[None]],
    }
    return DatasetCard.model_validate(card.model_dump() | changes)
