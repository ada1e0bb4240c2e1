"""The names of classes that a vector file has, where no dataset says them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from pointcover.assessment.class_maps import distinct_colour
from pointcover.labels import ClassTable, check_class_name
from pointcover.text import compose, shorten
from pointcover.vectors.paths import vector_path
from pointcover.vectors.settings import VectorSettings

MOST: Final = 64
"""Names in a column that still look like classes."""


def read_class_names(path: Path, settings: VectorSettings, remedy: str) -> ClassTable:
    """Return the classes that the features of a file have, by name.

    Args:
        path: a GeoPackage, GeoJSON or Shapefile.
        settings: the layers and the column; values to ignore are no classes.
        remedy: what to do where the column is not there or is not that of the classes, for
            messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, a layer lacks the column, or the values are no classes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, wanted a file of annotations")
    ignored = {str(value).strip() for value in settings.ignore}
    names: set[str] = set()
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(vector_path(path)) if kind]
        for layer in settings.layer or layers:
            table = pyogrio.read_dataframe(
                vector_path(path), layer=layer, columns=[settings.column], read_geometry=False
            )
            if settings.column not in table:
                raise ValueError(
                    f"{path}, layer {layer!r}, has no column {settings.column!r}: {remedy}"
                )
            names |= {compose(str(one).strip()) for one in table[settings.column].dropna()}
    except (DataSourceError, DataLayerError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({reason}): copy or export it again") from None
    where = f"{path}, column {settings.column!r}"
    return name_classes(names - ignored, where, f"label another class, or {remedy}")


def name_classes(
    names: Iterable[str], where: str, advice: str = "label another class"
) -> ClassTable:
    """Return classes of these names, in alphabetical order, with colours that differ.

    Args:
        names: that were found; the same one may come several times.
        where: for messages.
        advice: what to do about one class, or too many.

    Raises:
        ValueError: there is one, or so many that they are no classes.
    """
    found = sorted(set(names))
    if not 2 <= len(found) <= MOST:
        raise ValueError(
            f"{where}, has {len(found)} values ({shorten(found)}), wanted 2 to {MOST} classes: "
            f"{advice}"
        )
    colours = tuple(map(distinct_colour, range(len(found))))
    return ClassTable(tuple(map(check_class_name, found)), colours)
