"""A project folder: classes, images, settings and the point log of a person or several."""

import getpass
import json
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout
from pydantic import Field, model_validator

from pointcover.labelling.history import PointHistory
from pointcover.labelling.images import ImageEntry, is_address, name_images
from pointcover.labelling.point_log import PointLog, format_time
from pointcover.labelling.settings import ClassSettings, LabelSettings
from pointcover.raster.raster_io import EIGHT_BIT, RasterInfo, RasterReader, Window
from pointcover.runtime.atomic_files import publish_json
from pointcover.text import shorten
from pointcover.validation import Section, validate

DESCRIPTION: Final = "project.json"
LOG: Final = "points.jsonl"
LOCK: Final = "open.lock"
OPENED: Final = "open.json"
CACHE: Final = "cache"
EXPORT: Final = "export"

COLOURS: Final = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#F0E442",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C564B",
    "#7F7F7F",
)
"""Colours of new classes, which people with colour blindness tell apart (Okabe and Ito 2008)."""

IMAGE_KEYS: Final = ("images", "closed_images")

SAMPLES: Final = 4
"""Rows and columns of windows in which the values of images are seen."""


class _StoredImages(Section):
    """The images of a project, apart from the rest."""

    images: tuple[ImageEntry, ...] = ()
    closed_images: tuple[ImageEntry, ...] = ()


class ProjectDescription(Section):
    """What project.json holds."""

    version: int = Field(default=1, ge=1, le=1)
    classes: tuple[ClassSettings, ...] = Field(default=(), max_length=255)
    images: tuple[ImageEntry, ...] = Field(min_length=1)
    closed_images: tuple[ImageEntry, ...] = Field(
        default=(), description="Images that were open before; no other image gets their names."
    )
    bands: tuple[int, ...] = Field(min_length=1, description="Band numbers that are read, from 1.")
    value_range: tuple[float, float] = EIGHT_BIT
    settings: LabelSettings = LabelSettings()

    @model_validator(mode="after")
    def _are_distinct(self) -> "ProjectDescription":
        for what, values in (
            ("class name", [one.name for one in self.classes]),
            ("class colour", [one.colour.upper() for one in self.classes]),
            ("image name", [one.name for one in (*self.images, *self.closed_images)]),
        ):
            if twice := sorted(value for value, count in Counter(values).items() if count > 1):
                raise ValueError(f"{what} {shorten(twice)} occurs twice: make them differ")
        return self


class Project:
    """An open project. Only one program has it open."""

    def __init__(self, folder: Path, images: Sequence[Path], author: str | None = None) -> None:
        """Open a project, or make one.

        Args:
            folder: of the project.
            images: to label; without any, those that the project had.
            author: written into the point log; by default the name of the user.

        Raises:
            ValueError: the project is damaged, or open elsewhere; or images differ too much.
            FileNotFoundError: an image is missing, or there is neither a project nor an image.
            OSError: the folder cannot be written.
        """
        self.folder = folder
        if not images and not (folder / DESCRIPTION).is_file():
            raise FileNotFoundError(
                f"{folder} is no project of `pointcover label`, and no image was given: give "
                f"images, such as `pointcover label images/*.tif --project {folder}`"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.author = author or user_name()
        self._lock = _take_lock(folder, self.author)
        try:
            self.log = PointLog(folder / LOG)
        except BaseException:
            self._lock.release()
            raise
        try:
            logged = {record.image for record in self.log.records}
            self.description, self._changed, self.paths = _describe(folder, images, logged)
        except BaseException:
            self.log.close()
            self._lock.release()
            raise
        """Paths of the open images by their names; addresses as they were typed."""
        self.history = PointHistory(self.log, self.author)
        self._add_missing_classes()

    def close(self) -> None:
        """Close the project, so that another program may open it."""
        self.log.close()
        (self.folder / OPENED).unlink(missing_ok=True)
        self._lock.release()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; a class's id is its place."""
        return tuple(one.name for one in self.description.classes)

    def remark_on_closed_images(self) -> str | None:
        """Return how many points lie in images that are not open; None where none does."""
        opened = {one.name for one in self.description.images}
        counts = Counter(p.image for p in self.history.points if p.image not in opened)
        if not counts:
            return None
        paths = {one.name: one.path for one in self.description.closed_images}
        names = [f"{name} ({paths.get(name, 'path unknown')})" for name in sorted(counts)]
        return (
            f"{counts.total()} point(s) lie in images that are not open: {shorten(names)}. They "
            f"are kept, but neither mapped, trained on nor exported: to use them, give these "
            f"images, too; where a path is wrong or unknown, write it into closed_images of "
            f"{self.folder / DESCRIPTION}"
        )

    def remark_on_changed_images(self) -> str | None:
        """Return which images with points have other files than before; None where none has."""
        if not self._changed:
            return None
        return (
            f"the files of {shorten(self._changed)} changed since points were set on them: check "
            f"that the points still fit"
        )

    def set_classes(self, classes: Sequence[ClassSettings], renamed: dict[str, str]) -> None:
        """Replace the classes.

        Args:
            classes: the new ones.
            renamed: new names by old ones, for points.

        Raises:
            ValueError: two are alike, or a class with points is missing.
            OSError: the disk is full.
        """
        names = {one.name for one in classes}
        kept = {renamed.get(name, name) for name in self.history.labels()}
        if missing := sorted(kept - names):
            raise ValueError(
                f"class {shorten(missing)} has points: remove them first, or give them another "
                f"class"
            )
        self._save({"classes": [one.model_dump() for one in classes]}, publish=False)
        for old, new in renamed.items():
            self.history.rename_class(old, new)
        self._save({})

    def add_classes(self, classes: Sequence[ClassSettings]) -> int:
        """Add classes of a card, apart from those that the project has by name.

        Returns:
            how many are new.

        Raises:
            ValueError: a colour is taken.
            OSError: the disk is full.
        """
        known = self.class_names
        new = [one for one in classes if one.name not in known]
        if new:
            self.set_classes((*self.description.classes, *new), {})
        return len(new)

    def set_settings(self, changes: dict[str, Any]) -> None:
        """Change settings.

        Raises:
            ValueError: a value is not allowed.
            OSError: the disk is full.
        """
        self._save({"settings": self.description.settings.model_dump() | changes})

    def _save(self, changes: dict[str, Any], *, publish: bool = True) -> None:
        values = self.description.model_dump(mode="json") | changes
        path = self.folder / DESCRIPTION
        self.description = validate(ProjectDescription, values, path)
        if publish:
            publish_json(path, self.description.model_dump(mode="json"))

    def _add_missing_classes(self) -> None:
        """Add classes that points of a merged log have, and save the project."""
        classes = [one.model_dump() for one in self.description.classes]
        for name in sorted(set(self.history.labels()) - set(self.class_names)):
            classes.append({"name": name, "colour": free_colour([c["colour"] for c in classes])})
        self._save({"classes": classes})


def free_colour(taken: Sequence[str]) -> str:
    """Return a colour for a new class that no other class has."""
    used = {colour.upper() for colour in taken}
    for colour in COLOURS:
        if colour not in used:
            return colour
    number = len(taken) * 0x2F5B91
    while f"#{number % 0x1000000:06X}" in used:
        number += 1
    return f"#{number % 0x1000000:06X}"


def user_name() -> str:
    """Return the name of the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "anonymous"


def _take_lock(folder: Path, author: str) -> FileLock:
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(_say_open(folder)) from None
    values = {
        "author": author,
        "machine": socket.gethostname(),
        "process": os.getpid(),
        "since": format_time(datetime.now(UTC)),
    }
    try:
        publish_json(folder / OPENED, values)
    except BaseException:
        lock.release()
        raise
    return lock


def _say_open(folder: Path) -> str:
    try:
        said = json.loads((folder / OPENED).read_text(encoding="utf-8"))
        who = (
            f"{said['author']} has it open on {said['machine']} (process {said['process']}, since "
            f"{said['since'][:16].replace('T', ' ')} UTC)"
        )
    except (OSError, ValueError, KeyError, TypeError):
        who = "another program has it open"
    return (
        f"{folder} is in use: {who}. Close it there, or label in a project folder of your own and "
        f"merge its {LOG} with --merge"
    )


def _describe(
    folder: Path, images: Sequence[Path], logged: Set[str]
) -> tuple[ProjectDescription, list[str], dict[str, Path]]:
    """Return the description, the names of images with points that changed, and paths by name.

    Args:
        folder: of the project.
        images: given; without any, those that the project had.
        logged: names of images in the point log.
    """
    path = folder / DESCRIPTION
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): restore it from a copy") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} is damaged (it is no object): restore it from a copy")
    if not images:
        found = validate(ProjectDescription, values, path)
        for image in found.images:
            if is_address(image):
                raise FileNotFoundError(
                    f"{folder} has images at addresses, such as {image.path}, which are read only "
                    f"where they are typed: give all images anew"
                )
            if not Path(image.path).is_file():
                raise FileNotFoundError(
                    f"{image.path} does not exist, and the project {folder} has it: give the "
                    f"images anew"
                )
        images = [Path(image.path) for image in found.images]
    kept = validate(_StoredImages, {key: values[key] for key in IMAGE_KEYS if key in values}, path)
    stored = (*kept.images, *kept.closed_images)
    entries = [one.model_dump() for one in name_images(images, stored, logged)]
    names = {entry["name"] for entry in entries}
    paths = {entry["path"] for entry in entries}
    closed = [one.model_dump() for one in stored if one.name not in names and one.path not in paths]
    typed = dict(zip((entry["name"] for entry in entries), images, strict=True))
    infos = [RasterReader(path).info() for path in typed.values()]
    for entry, info in zip(entries, infos, strict=True):
        entry |= {"height": info.height, "width": info.width}
    changed = _find_changed(stored, entries, logged)
    if "bands" not in values:
        values["bands"] = usual_bands(infos)
        values["value_range"] = usual_range(infos[0], values["bands"])
    values |= {"images": entries, "closed_images": closed}
    return validate(ProjectDescription, values, path), changed, typed


def _find_changed(
    stored: Sequence[ImageEntry], entries: Sequence[Mapping[str, Any]], logged: Set[str]
) -> list[str]:
    """Return the names of images with points whose files are others than before.

    Raises:
        ValueError: one has another size, so its points lie elsewhere.
    """
    before = {one.name: one for one in stored if one.name in logged}
    changed = []
    for entry in entries:
        old = before.get(entry["name"])
        if old is None or not old.digest or old.digest == entry["digest"]:
            continue
        changed.append(old.name)
        size, old_size = (entry["height"], entry["width"]), (old.height, old.width)
        if None not in old_size and size != old_size:
            raise ValueError(
                f"{entry['path']} has {size[0]} × {size[1]} px, but had {old_size[0]} × "
                f"{old_size[1]} px when points were set on it, which count its rows and columns: "
                f"put the former file back, or give the new one another name"
            )
    return changed


def usual_bands(infos: Sequence[RasterInfo]) -> list[int]:
    """Return the bands that all images have: three, or one; never alpha.

    Raises:
        ValueError: an image has no band but alpha.
    """
    counts = []
    for info in infos:
        reader = RasterReader(info.path)
        counts.append(info.bands - len(reader.alpha_bands()))
        reader.close()
    if min(counts) < 1:
        raise ValueError(f"{infos[counts.index(min(counts))].path} has no band but alpha")
    return [1, 2, 3] if min(counts) >= 3 else [1]


def usual_range(info: RasterInfo, bands: Sequence[int]) -> tuple[float, float]:
    """Return the range of 8 bits, or that from the 2nd to the 98th percentile of an image."""
    if info.dtype == "uint8":
        return EIGHT_BIT
    reader = RasterReader(info.path)
    parts = []
    side = 256
    for row in range(SAMPLES):
        for col in range(SAMPLES):
            top = max(0, (info.height - side) * row // (SAMPLES - 1))
            left = max(0, (info.width - side) * col // (SAMPLES - 1))
            window = Window(left, top, min(side, info.width - left), min(side, info.height - top))
            values = reader.read(window, bands)[:, reader.read_valid(window, bands)].astype(
                "float64"
            )
            parts.extend(values[np.isfinite(values)].ravel().tolist()[::7])
    reader.close()
    low, high = (float(value) for value in np.percentile(parts or [0, 1], (2, 98)))
    return (low, high) if low < high else (low, low + 1)
