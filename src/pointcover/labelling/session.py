"""An open project with its images, its map and what runs in the background."""

import hashlib
import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final

from pointcover.labelling.live_map import LiveMap
from pointcover.labelling.pace import Pace, measure_pace
from pointcover.labelling.point_log import Record, State, as_values
from pointcover.labelling.polygons import (
    MOST_PX,
    Line,
    check_outline,
    outline_stroke,
    place_within,
)
from pointcover.labelling.project import CACHE, EXPORT, Project, free_colour
from pointcover.labelling.rendering import Layer, encode_image, encode_map
from pointcover.labelling.score_curve import ScoreCurve
from pointcover.labelling.settings import ClassSettings
from pointcover.labelling.trained_maps import FOLDER, TrainedMaps
from pointcover.labelling.view import View
from pointcover.labels import ClassTable, parse_colour
from pointcover.raster.addresses import Address
from pointcover.raster.grids import gsd_of
from pointcover.raster.overviews import LevelReader
from pointcover.raster.raster_io import RasterReader

logger = logging.getLogger(__name__)

TILE_PX: Final = 256
MOST_OF_STROKE: Final = 100
"""Points of a stroke at most."""


class NotFound(LookupError):
    """There is no such image, point or map."""


class Session:
    """What the page does, by plain functions that any thread may call."""

    def __init__(self, project: Project, threads: int | None = None) -> None:
        """Open the images of a project.

        Args:
            project: open.
            threads: blocks that are computed at a time; by default one for each core.

        Raises:
            ValueError: an image is damaged, or lacks a band.
            FileNotFoundError: an image is missing.
        """
        description = project.description
        self.project = project
        cache = project.folder / CACHE
        self.readers = [
            LevelReader(path, description.bands, cache, description.value_range)
            for path in project.paths.values()
        ]
        self.id = f"{secrets.token_hex(8)}-{_digest(project)}"
        """Of this start of the server, and after the dash of the project and its images."""
        self.curve = ScoreCurve(project.folder)
        self.trained = TrainedMaps(self.export_folder / FOLDER)
        self.live = LiveMap(project, self.readers, threads or _cores(), self.touch)
        self._lock = Lock()
        self._number = 0
        self._overviews: dict[int, float] = {}
        self._failed: dict[int, str] = {}
        self._wants_overviews = Event()
        self._asked: list[int] = []
        self._ends = False
        self._writer = Thread(target=self._write_overviews, name="overviews", daemon=True)
        self._measured: tuple[int, Pace] | None = None
        self.job: dict[str, Any] = {"state": "none"}
        self.at_end: list[Callable[[], None]] = []
        """Called when the session is closed."""

    def start(self) -> None:
        """Start the threads."""
        self.live.start()
        self._writer.start()

    def close(self) -> None:
        """End the threads, and close the project."""
        self._ends = True
        self._wants_overviews.set()
        self.live.stop()
        for end in self.at_end:
            end()
        for reader in self.readers:
            reader.close()
        self.trained.close()
        self.project.close()

    # What the page shows --------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """A number that grows with everything that changes."""
        return self._number

    def touch(self) -> None:
        """Note that something changed."""
        with self._lock:
            self._number += 1
            scores = self.live.scores if self._number else None
        if scores is not None and not any(p.points == scores.points for p in self.curve.points):
            try:
                self.curve.add(scores, self._pace().minutes)
            except OSError as error:
                logger.warning("the curve of scores is not kept: %s", error)

    def state(self) -> dict[str, Any]:
        """Return what the page needs when it opens."""
        description = self.project.description
        return {
            "project": self.project.folder.resolve().name,
            "author": self.project.author,
            "classes": [one.model_dump() for one in description.classes],
            "free_colour": free_colour([one.colour for one in description.classes]),
            "settings": description.settings.model_dump(),
            "images": [self._describe(number) for number in range(len(self.readers))],
            "points": [as_values(one) for one in self.project.history.points],
            "tile_px": TILE_PX,
            "polygon_px": MOST_PX,
            "most_of_stroke": MOST_OF_STROKE,
            **self.status(),
        }

    def status(self) -> dict[str, Any]:
        """Return what changes while the page is open."""
        shown, scores, history = self.live.view_map, self.live.scores, self.project.history
        points = history.points
        return {
            "session": self.id,
            "number": self._number,
            "can_undo": history.can_undo,
            "can_redo": history.can_redo,
            "changes": self.live.changes,
            "counts": dict(Counter(one.image for one in points)),
            "message": self.live.message,
            "is_busy": self.live.is_busy,
            "pace": asdict(self._pace()),
            "overviews": {str(number): done for number, done in self._overviews.items()},
            "failed": {str(number): text for number, text in self._failed.items()},
            "job": self.job,
            "trained": self.trained.describe(self.numbers_of_images()),
            "map": None
            if shown is None
            else {
                "number": shown.number,
                "image": shown.image,
                "level": shown.level,
                "extent": asdict(shown.extent),
                "labels": asdict(shown.labels),
                "changes": shown.changes,
                "seconds": round(shown.seconds, 3),
            },
            "scores": None
            if scores is None
            else asdict(scores)
            | {
                "curve": [asdict(one) for one in self.curve.points],
                "verdict": self.curve.verdict(),
            },
        }

    def tile(self, image: int, level: int, row: int, col: int) -> tuple[bytes, str]:
        """Return a tile of an image, and its media type.

        Raises:
            NotFound: there is no such image or level, or its overviews are not written yet.
            ValueError: the image is damaged there.
        """
        reader = self._reader(image)
        if not 0 <= level < reader.levels or row < 0 or col < 0:
            raise NotFound(f"image {image} has no such tile")
        if not reader.is_ready:
            self._ask_for_overviews(image)
            if level > 1:
                raise NotFound("overviews of this image are being written")
        return encode_image(*reader.read(level, row * TILE_PX, col * TILE_PX, (TILE_PX, TILE_PX)))

    def map_png(self, number: int, layer: Layer) -> bytes:
        """Return one of the last maps.

        Raises:
            NotFound: there are newer ones by now.
        """
        shown = next((one for one in list(self.live.recent) if one.number == number), None)
        if shown is None:
            raise NotFound("there are newer maps by now")
        colours = {one.name: one.colour for one in self.project.description.classes}
        return encode_map(shown, layer, colours)

    def trained_tile(self, number: int, image: int, place: tuple[int, int, int]) -> bytes:
        """Return a tile of the map of the trained model, as PNG.

        Args:
            number: of the training.
            image: number of the image.
            place: level, row and column of the tile.

        Raises:
            NotFound: there is no such map.
            ValueError: the map is damaged there.
        """
        reader = self._reader(image)
        colours = {one.name: one.colour for one in self.project.description.classes}
        name = self.project.description.images[image].name
        found = None
        if 0 <= place[0] < reader.levels:
            found = self.trained.tile(number, name, (*place, TILE_PX), colours)
        if found is None:
            raise NotFound("there is no such map")
        return found

    def show(self, view: View) -> None:
        """Make the map of a view.

        Raises:
            NotFound: there is no such image or level.
        """
        reader = self._reader(view.image)
        if not 0 <= view.level < reader.levels:
            raise NotFound(f"image {view.image} has no level {view.level}")
        if not reader.is_ready:
            self._ask_for_overviews(view.image)
        height, width = reader.size(view.level)
        top, left = max(view.top, 0), max(view.left, 0)
        bottom, right = min(view.bottom, height), min(view.right, width)
        if top < bottom and left < right:
            self.live.show(View(view.image, view.level, top, left, bottom, right))

    # What a person does ---------------------------------------------------------------------------

    def is_same_project(self, session: str) -> bool:
        """Return whether a session's id is of this project and its images, at any start."""
        return session.rpartition("-")[2] == self.id.rpartition("-")[2]

    def add(
        self, image: int, place: tuple[float, float], label: str, point: str | None = None
    ) -> dict[str, Any]:
        """Add a point of a class.

        Args:
            image: number of the image.
            place: of the point.
            label: name of the class.
            point: id of the point, by default a new one; a known point is not added again.

        Raises:
            NotFound: there is no such image.
            ValueError: the place is outside, or there is no such class.
            OSError: the disk is full.
        """
        answer = self.add_stroke(image, [place], label, None if point is None else [point])
        return {"point": answer["points"][0], "changes": answer["changes"]}

    def pass_over(self, image: int, place: tuple[float, float], state: State) -> dict[str, Any]:
        """Record that a suggestion is skipped, or that its class cannot be told.

        Raises:
            NotFound: there is no such image.
            ValueError: the place is outside, or the state is another one.
            OSError: the disk is full.
        """
        if state not in ("skipped", "unsure"):
            raise ValueError(f"got the state {state!r}, wanted skipped or unsure")
        name = self._check_place(image, place)
        return self._changed(self.project.history.add(name, *place, None, state))

    def move(self, point: str, place: tuple[float, float]) -> dict[str, Any]:
        """Move a point.

        Raises:
            NotFound: there is no such point.
            ValueError: the place is outside.
            OSError: the disk is full.
        """
        found = self._point(point)
        if found.shape:
            raise ValueError("polygons are not moved: remove this one, and draw it again")
        self._check_place(self._image_called(found.image), place)
        return self._changed(self.project.history.move(point, *place))

    def relabel(self, point: str, label: str) -> dict[str, Any]:
        """Give a point another class.

        Raises:
            NotFound: there is no such point.
            ValueError: there is no such class.
            OSError: the disk is full.
        """
        self._check_class(label)
        self._point(point)
        return self._changed(self.project.history.relabel(point, label))

    def remove(self, point: str) -> dict[str, Any]:
        """Remove a point.

        Raises:
            NotFound: there is no such point.
            OSError: the disk is full.
        """
        self._point(point)
        return self._changed(self.project.history.remove(point))

    def add_stroke(
        self,
        image: int,
        places: Sequence[tuple[float, float]],
        label: str,
        points: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Add points of a class that are undone together.

        Args:
            image: number of the image.
            places: of the points.
            label: name of the class.
            points: ids of the points, by default new ones; known points are not added again.

        Raises:
            NotFound: there is no such image.
            ValueError: a place is outside, there is no such class, or there are too many places.
            OSError: the disk is full, and no point was added.
        """
        if not 0 < len(places) <= MOST_OF_STROKE:
            raise ValueError(f"got {len(places)} places, wanted 1 to {MOST_OF_STROKE}")
        known = self.project.history.find(points or ())
        if len(known) == len(places):  # the answer was lost; the class may be renamed since
            return self._all_changed(known)
        self._check_class(label)
        name = ""
        for place in places:
            name = self._check_place(image, place)
        return self._all_changed(self.project.history.add_stroke(name, places, label, points))

    def add_polygon(
        self, image: int, line: Line, named: tuple[str, str], radius_px: float | None = None
    ) -> dict[str, Any]:
        """Add a polygon of a class.

        Args:
            image: number of the image.
            line: the polygon's outline, or the way of a brush.
            named: id of the polygon and name of its class; a known one is not added again.
            radius_px: of the brush; None for an outline.

        Raises:
            NotFound: there is no such image.
            ValueError: the outline leaves the image or crosses itself, or there is no such class.
            OSError: the disk is full.
        """
        info = self._reader(image).info
        name = self.project.description.images[image].name
        if known := self.project.history.find(named[:1]):  # the answer was lost
            return self._changed(known[0])
        self._check_class(named[1])
        size = info.height, info.width
        if radius_px is None:
            shape = check_outline(line, size)
        else:
            shape = outline_stroke(line, radius_px, size)
        place = place_within(shape)
        return self._changed(self.project.history.add_polygon(name, shape, place, named))

    def undo(self) -> dict[str, Any]:
        """Undo the last action of this session.

        Raises:
            OSError: the disk is full.
        """
        return self._all_changed(self.project.history.undo())

    def redo(self) -> dict[str, Any]:
        """Do again what was undone last.

        Raises:
            OSError: the disk is full.
        """
        return self._all_changed(self.project.history.redo())

    def set_classes(self, classes: Sequence[ClassSettings], renamed: dict[str, str]) -> None:
        """Replace the classes; see `Project.set_classes`.

        Raises:
            ValueError: two are alike, or a class with points is missing.
            OSError: the disk is full.
        """
        self.project.set_classes(classes, renamed)
        self.live.points_changed()
        self.touch()

    def set_settings(self, changes: dict[str, Any]) -> None:
        """Change settings.

        Raises:
            ValueError: a value is not allowed.
            OSError: the disk is full.
        """
        self.project.set_settings(changes)
        self.touch()

    def suggest(self, image: int) -> list[dict[str, Any]]:
        """Return the points of the view that are worth most.

        Raises:
            NotFound: there is no such image.
        """
        from pointcover.labelling.next_point import choose_next

        name = self.project.description.images[image].name if self._reader(image) else ""
        scored = self.live.scored_view()
        if scored is None or scored[0].image != image:
            return []
        history = self.project.history
        taken = [one for one in (*history.points, *history.passed_over) if one.image == name]
        labelled = Counter(one.label for one in history.points if one.label is not None)
        settings = self.project.description.settings
        return [asdict(one) for one in choose_next(scored, taken, labelled, settings)]

    # Within ---------------------------------------------------------------------------------------

    def class_table(self) -> ClassTable:
        """Return the classes.

        Raises:
            ValueError: there are fewer than two.
        """
        classes = self.project.description.classes
        return ClassTable(
            tuple(one.name for one in classes), tuple(parse_colour(one.colour) for one in classes)
        )

    @property
    def export_folder(self) -> Path:
        """Folder of what is exported."""
        return self.project.folder / EXPORT

    def numbers_of_images(self) -> dict[str, int]:
        """Return the numbers of the images by name."""
        images = self.project.description.images
        return {entry.name: number for number, entry in enumerate(images)}

    def _pace(self) -> Pace:
        """Measure the pace, once for each number of records: the page asks many times a click."""
        records, known = self.project.log.records, self._measured
        if known is None or known[0] != len(records):
            known = len(records), measure_pace(records, len(self.project.history.points))
            self._measured = known
        return known[1]

    def _describe(self, number: int) -> dict[str, Any]:
        reader = self.readers[number]
        return {
            "name": self.project.description.images[number].name,
            "height": reader.info.height,
            "width": reader.info.width,
            "levels": reader.levels,
            "has_crs": reader.info.crs is not None and reader.info.is_georeferenced,
            "gsd_m": gsd_of(reader.info),
        }

    def _changed(self, record: Record) -> dict[str, Any]:
        changes = self.live.points_changed()
        self.touch()
        return {"point": as_values(record), "changes": changes}

    def _all_changed(self, records: Sequence[Record]) -> dict[str, Any]:
        changes = self.live.points_changed() if records else self.live.changes
        self.touch()
        return {"points": [as_values(one) for one in records], "changes": changes}

    def _reader(self, image: int) -> LevelReader:
        if not 0 <= image < len(self.readers):
            raise NotFound(f"there is no image {image}")
        return self.readers[image]

    def _image_called(self, name: str) -> int:
        names = [entry.name for entry in self.project.description.images]
        if name not in names:
            raise NotFound(f"the image {name} is not open")
        return names.index(name)

    def _point(self, point: str) -> Record:
        for one in self.project.history.points:
            if one.id == point:
                return one
        raise NotFound("there is no such point")

    def _check_class(self, label: str) -> None:
        if label not in self.project.class_names:
            raise ValueError(f"there is no class {label!r}: add it first")

    def _check_place(self, image: int, place: tuple[float, float]) -> str:
        reader = self._reader(image)
        x, y = place
        if not (0 <= x < reader.info.width and 0 <= y < reader.info.height):
            raise ValueError(
                f"got the place {x:g}, {y:g}, wanted one inside the image of {reader.info.width} × "
                f"{reader.info.height} px"
            )
        return self.project.description.images[image].name

    def _ask_for_overviews(self, image: int) -> None:
        with self._lock:
            if image not in self._asked:
                self._asked.append(image)
                self._overviews[image] = 0.0
                self._wants_overviews.set()

    def _write_overviews(self) -> None:
        done = 0
        while not self._ends:
            self._wants_overviews.wait()
            self._wants_overviews.clear()
            while done < len(self._asked) and not self._ends:
                image = self._asked[done]
                done += 1
                try:
                    self.readers[image].write_overviews(lambda part, n=image: self._note(n, part))  # type: ignore[misc]
                except (ValueError, OSError) as error:
                    self._failed[image] = str(error)
                self._overviews.pop(image, None)
                self.live.make_again()
                self.touch()

    def _note(self, image: int, part: float) -> None:
        if self._ends:
            raise OSError("the page is closed")
        if part - self._overviews.get(image, 0) >= 0.02:
            self._overviews[image] = round(part, 2)
            self.touch()


def _digest(project: Project) -> str:
    """Return a digest of the project's folder, and of its images as they are on the disk now."""
    values: list[Any] = [str(project.folder.resolve())]
    for entry in project.description.images:
        path = project.paths[entry.name]
        if isinstance(path, Address):
            values.append((entry.name, entry.path, RasterReader(path).digest()))
            continue
        found = path.stat()
        values.append((entry.name, entry.path, found.st_size, found.st_mtime_ns))
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
