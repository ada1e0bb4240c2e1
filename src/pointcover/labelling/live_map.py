"""The map of the view, made anew after each click by a thread of its own.

What makes it is imported by that thread, so that the page opens at once.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

from pointcover.labelling.project import Project
from pointcover.labelling.view import BlockKey, View, ViewMap, Wanted
from pointcover.raster.overviews import LevelReader

if TYPE_CHECKING:
    from pointcover.labelling.map_maker import MapMaker
    from pointcover.labelling.spatial_scores import SpatialScores

logger = logging.getLogger(__name__)

PAUSE_S: Final = 1.5
"""Time without a click or a new view, after which the scores are computed."""

NEEDS_TWO: Final = "Label points of two classes, and the map appears."


class LiveMap:
    """Keeps the map of the view up to date."""

    def __init__(
        self,
        project: Project,
        readers: Sequence[LevelReader],
        threads: int,
        changed: Callable[[], None],
    ) -> None:
        """Prepare; `start` starts the thread.

        Args:
            project: with the points.
            readers: of its images.
            threads: blocks that are computed at a time.
            changed: called from the thread when there is something new to show.
        """
        self._project, self._readers, self._changed = project, readers, changed
        self._threads = threads
        self._condition = Condition()
        self._wanted = Wanted(None, 0, time.monotonic())
        self._ends = False
        self._thread = Thread(target=self._run, name="live map", daemon=True)
        self._maker: MapMaker | None = None
        self.view_map: ViewMap | None = None
        self.recent: deque[ViewMap] = deque(maxlen=4)
        """The last maps: a page may just be about to ask for an older one."""
        self.scores: SpatialScores | None = None
        self.message = ""
        self._tell_classes()
        self.is_busy = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        with self._condition:
            self._ends = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def changes(self) -> int:
        """Number of changes of the points so far."""
        return self._wanted.changes

    def show(self, view: View) -> None:
        """Make the map of another view."""
        with self._condition:
            if view != self._wanted.view:
                self._wanted = Wanted(view, self._wanted.changes, time.monotonic())
                self._condition.notify_all()

    def points_changed(self) -> int:
        """Make the map anew, since points or classes changed; return the number of changes."""
        with self._condition:
            now = time.monotonic()
            self._wanted = Wanted(self._wanted.view, self._wanted.changes + 1, now)
            self._tell_classes()
            self._condition.notify_all()
            return self._wanted.changes

    def make_again(self) -> None:
        """Make the map of the same view and points anew, since overviews are written by now."""
        with self._condition:
            self._wanted = replace(self._wanted, since=time.monotonic())
            self._condition.notify_all()

    def scored_view(self) -> tuple[ViewMap, list[tuple[BlockKey, Any, int]]] | None:
        """Return the map and the scores of blocks, each with the step between its pixels."""
        shown, maker = self.view_map, self._maker
        if shown is None or maker is None:
            return None
        return shown, maker.scored_blocks()

    # What the maker of maps calls -----------------------------------------------------------------

    def is_old(self, wanted: Wanted) -> bool:
        """Return whether something else is wanted by now."""
        return self._ends or self._wanted != wanted

    def rests(self, wanted: Wanted) -> bool:
        """Wait for a while; return whether nothing else is wanted."""
        self.is_busy = False
        self._changed()
        with self._condition:
            return not self._condition.wait_for(lambda: self.is_old(wanted), PAUSE_S)

    def take_map(self, made: ViewMap | None) -> None:
        """Show a map; None where fewer than two classes have points."""
        self.message = NEEDS_TWO if made is None else ""
        self.view_map = made
        if made is not None:
            self.recent.append(made)
        self._changed()

    def take_scores(self, found: "SpatialScores") -> None:
        """Show scores."""
        self.scores = found
        self._changed()

    def _tell_classes(self) -> None:
        """Say at once that another class is missing, or that no longer one is."""
        if self.message in ("", NEEDS_TWO):
            has_two = len(self._project.history.labels()) > 1
            self.message = "" if has_two else NEEDS_TWO

    # The thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        done: Wanted | None = None
        with ThreadPoolExecutor(self._threads) as pool:
            while True:
                with self._condition:
                    self._condition.wait_for(lambda done=done: self._ends or self._wanted != done)  # type: ignore[misc]
                    if self._ends:
                        break
                time.sleep(self._project.description.settings.debounce_ms / 1000)
                done = self._wanted
                self.is_busy = True
                try:
                    self._make(done, pool)
                except (ValueError, OSError) as error:
                    self.message = str(error)
                except Exception as error:
                    logger.exception("the map of the view failed")
                    self.message = f"unexpected {type(error).__name__}: {error}"
                self.is_busy = False
                self._changed()
            if self._maker is not None:
                self._maker.save()

    def _make(self, wanted: Wanted, pool: ThreadPoolExecutor) -> None:
        if self._maker is None:
            from pointcover.labelling.map_maker import MapMaker

            self._maker = MapMaker(self._project, self._readers, pool, self)
        self._maker.make(wanted)
