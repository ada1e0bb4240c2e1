"""Values of classes in files of labels: names or ids, in any case, and codes of the user."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pointcover.labels import ClassTable
from pointcover.text import compose, shorten
from pointcover.vectors.settings import VectorSettings


@dataclass(frozen=True)
class ClassValues:
    """The meaning of values: class ids, and values to skip."""

    known: Mapping[str, int]
    """Class ids by normalised value."""
    ignored: Collection[str]
    """Normalised values of features that are skipped."""

    @classmethod
    def of(cls, classes: ClassTable, settings: VectorSettings) -> "ClassValues":
        """Return the meaning of values by the class table and the settings.

        Raises:
            ValueError: `codes` names an unknown class, or a value may mean two classes.
        """
        ignored = {normalise(value) for value in settings.ignore}
        return cls(known_values(classes, settings.codes), ignored)

    def find(self, value: object) -> int | None:
        """Return the class id of a value; None where it is unknown or ignored."""
        text = normalise(value)
        return None if text in self.ignored else self.known.get(text)

    def ignores(self, value: object) -> bool:
        """Return whether a value is skipped."""
        return normalise(value) in self.ignored

    def describe_unknown(self, value: object) -> str:
        """Return a message about a value that is no class."""
        text = normalise(value)
        hint = suggest(text, self.known)
        return f"{text[:100]!r} is not a class; known: {shorten(self.known)}{hint}"


def known_values(classes: ClassTable, codes: Mapping[str | int, str]) -> dict[str, int]:
    """Return class ids by normalised value."""
    pairs = [(name, class_id) for class_id, name in enumerate(classes.names)]
    if not codes:
        pairs += [(str(class_id), class_id) for class_id in range(len(classes))]
    else:
        ids = {normalise(name): class_id for name, class_id in pairs}
        unknown = sorted({name for name in codes.values() if normalise(name) not in ids})
        if unknown:
            raise ValueError(
                f"`codes` names {shorten(unknown)}, which is not a class: known are "
                f"{shorten(classes.names)}"
            )
        pairs = [(str(value), ids[normalise(name)]) for value, name in codes.items()]
    known: dict[str, int] = {}
    for value, class_id in pairs:
        if known.setdefault(normalise(value), class_id) != class_id:
            raise ValueError(
                f"value {value!r} may mean class {known[normalise(value)]} or {class_id}, since "
                f"case is ignored and numbers are ids: map each value to a class with `codes`"
            )
    return known


def normalise(value: object) -> str:
    """Normalise a value: 3, 3.0, "3" and " 03" are equal, and so are "Water" and "water"."""
    if value is None or value != value:  # only NaN differs from itself
        return ""
    text = compose(str(value).strip().casefold())
    return str(int(text.split(".")[0])) if re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text) else text


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a question for the nearest known word, or nothing."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""
