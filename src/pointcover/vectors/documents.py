"""Read JSON, XML and CSV files of unknown origin: bounded in size and depth, without side effects.

XML is read without document types, so that there are neither entities nor external files.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

MAX_BYTES: Final = 256 << 20
"""Size of the largest file that is read."""

MAX_DEPTH: Final = 100
"""Levels of the deepest XML that is read; of JSON, Python's own limit counts."""

MAX_ELEMENTS: Final = 2_000_000
"""Elements of the longest XML that is read: the smallest ones take up to 0.5 GB of memory."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8.

    Raises:
        ValueError: it is too large, or not UTF-8.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(
            f"{path} has {size} bytes, wanted labels of at most {MAX_BYTES}: export fewer images a "
            f"file"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): export it again") from None


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is too large, too deep, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply for labels: export it again") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): export it again") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number")


@dataclass(frozen=True, slots=True)
class Element:
    """An XML element with its attributes and those of its direct children."""

    name: str
    attributes: dict[str, str]
    children: list["Element"]
    line: int


def load_xml(path: Path) -> Element:
    """Read the root of an XML file with all elements.

    Raises:
        ValueError: it is too large, too deep, too long, not XML, or has a document type.
    """
    text = read_text(path)
    parser = expat.ParserCreate("utf-8")
    root: list[Element] = []
    opened: list[Element] = []
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            raise ValueError(f"more than {MAX_ELEMENTS} elements, wanted fewer images a file")
        if len(opened) >= MAX_DEPTH:
            raise ValueError(f"its elements are nested more than {MAX_DEPTH} deep")
        element = Element(name, attributes, [], parser.CurrentLineNumber)
        (opened[-1].children if opened else root).append(element)
        opened.append(element)

    def refuse(*_: object) -> int:
        raise ValueError("it has a document type or entities, which exports of labels do not need")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: opened.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as XML ({error}): export it again") from None
    return root[0]


def load_csv(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Read a CSV with a header; fields are separated by commas, semicolons or tabs.

    Returns:
        the names of the columns, and an iterator over line numbers and rows.

    Raises:
        ValueError: it is too large or not text, has a column twice, or a row has not as many fields
            as there are columns.
    """
    text = read_text(path)
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise ValueError(
            f"{path} cannot be read as CSV, by its first line ({error}): wanted the names of "
            f"columns there; export it again"
        ) from None
    if len(set(names)) != len(names):
        raise ValueError(f"{path} has a column twice: {', '.join(names)[:200]}. Rename one")

    def iterate() -> Iterator[tuple[int, dict[str, str]]]:
        try:
            for row in rows:
                if not row:
                    continue
                if len(row) != len(names):
                    raise ValueError(f"it has {len(row)} fields, wanted {len(names)}")
                yield rows.line_num, dict(zip(names, row, strict=True))
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path}, line {rows.line_num}: {error}") from None

    return names, iterate()
