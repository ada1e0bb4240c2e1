"""Makes maps of views: keeps features, fits the classifier, and scores blocks."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labelling.blocks import COARSE, BlockFeatures, read_features
from pointcover.labelling.live_classifier import (
    LiveClassifier,
    fit_live,
    make_live_features,
    mean_of,
    table_of,
)
from pointcover.labelling.point_features import Place, PointFeatures
from pointcover.labelling.point_log import Record
from pointcover.labelling.polygons import places_of
from pointcover.labelling.project import CACHE, Project
from pointcover.labelling.spatial_scores import SpatialScores, cross_validate, group_points
from pointcover.labelling.view import BlockKey, Extent, LabelCount, ViewMap, Wanted
from pointcover.labels import IGNORE_INDEX
from pointcover.raster.overviews import LevelReader
from pointcover.training.classifiers.labelled_pixels import LabelledPixels

logger = logging.getLogger(__name__)

FINE: Final = 1
"""Levels up to this one are read without overviews."""

AT_A_TIME: Final = 8
"""Cells with points outside the view that are computed before the map is made again."""


class Page(Protocol):
    """Whoever wants maps."""

    def is_old(self, wanted: Wanted) -> bool:
        """Return whether something else is wanted by now."""

    def rests(self, wanted: Wanted) -> bool:
        """Wait for a while; return whether nothing else is wanted."""

    def take_map(self, made: ViewMap | None) -> None:
        """Show a map; None where fewer than two classes have points."""

    def take_scores(self, found: SpatialScores) -> None:
        """Show scores."""


@dataclass(frozen=True)
class _Scored:
    """What the classifier says of one block."""

    classifier: LiveClassifier
    scores: Tensor
    """(heads, classes, h, w) log-probabilities in half precision."""
    step: int
    mean: Tensor = field(init=False)
    """(classes, h, w) log-probabilities."""

    def __post_init__(self) -> None:
        """Compute the mean of the heads."""
        object.__setattr__(self, "mean", mean_of(self.scores))


class MapMaker:
    """Makes one map after the other, and keeps what the next one can use."""

    def __init__(
        self, project: Project, readers: Sequence[LevelReader], pool: ThreadPoolExecutor, page: Page
    ) -> None:
        """Load the encoder, and what is known of the points.

        Args:
            project: with the points.
            readers: of its images.
            pool: computes blocks side by side.
            page: wants the maps.
        """
        torch.set_num_threads(1)  # blocks are computed side by side instead
        self._project, self._readers, self._pool, self._page = project, readers, pool, page
        self._settings = project.description.settings
        self._features = make_live_features(self._settings, len(project.description.bands))
        self._features_at = PointFeatures(project.folder / CACHE, self._features, readers)
        self._names: tuple[str, ...] = ()
        self._fitted: tuple[tuple[tuple[Place, int], ...], LiveClassifier] | None = None
        self._labels = LabelCount(0, 0, 0)
        self._blocks: OrderedDict[BlockKey, BlockFeatures] = OrderedDict()
        self._scored: dict[BlockKey, _Scored] = {}
        self._lock = Lock()
        self._scored_changes, self._scored_level = -1, -1
        self._latest = 0
        self._side_by_side: int = pool._max_workers

    def scored_blocks(self) -> list[tuple[BlockKey, Tensor, int]]:
        """Return the scores of the blocks, each with the step between its pixels."""
        with self._lock:
            return [(key, one.scores, one.step) for key, one in self._scored.items()]

    def make(self, wanted: Wanted) -> None:
        """Make the map of the wanted view, coarse first, as long as nothing else is wanted.

        Nothing is read while fewer than two classes have points, or while a coarse view's overviews
        are being written: without them a block may be a large part of the image.

        Raises:
            ValueError: an image is damaged.
        """
        self._settings = self._project.description.settings
        names = self._project.class_names
        if names != self._names:
            self._names = names
            self._scored.clear()
            self._fitted = None
        view = wanted.view
        if view is None:
            return
        reader, points = self._readers[view.image], self._read_points(view.level)
        if len(np.unique(points.classes)) < 2:
            self._fit(points)
            return
        if view.level > FINE and not reader.is_ready:
            return
        keys = view.blocks(reader.size(view.level), self._settings.block_px)
        for key in keys:
            if key in self._blocks:
                self._take_points(points, key)
        missing = [key for key in keys if key not in self._blocks]
        classifier = self._fit(points)
        self._score(wanted, keys, classifier, COARSE)
        self._publish(wanted, keys, classifier)
        for first in range(0, len(missing), self._side_by_side):
            group = missing[first : first + self._side_by_side]
            if self._page.is_old(wanted):
                return
            for key, block in zip(group, self._pool.map(self._read, group), strict=True):
                self._keep(key, block, keys)
                self._take_points(points, key)
            self._score(wanted, group, classifier, COARSE)
            self._publish(wanted, keys, classifier)
        cells = self._features_at.unknown_cells(points.places)
        for first in range(0, len(cells), AT_A_TIME):
            if self._page.is_old(wanted):
                return
            list(self._pool.map(self._features_at.compute, cells[first : first + AT_A_TIME]))
        classifier = self._fit(points)
        for step in (COARSE, 1):
            is_new = self._score(wanted, keys, classifier, step)
            if self._page.is_old(wanted):
                return
            if is_new:
                self._publish(wanted, keys, classifier)
        self._rest(wanted, points)

    def _rest(self, wanted: Wanted, points: "_Points") -> None:
        """Save features and score the classifier, if nothing else is wanted for a while."""
        if not self._page.rests(wanted):
            return
        self.save()
        if (self._scored_changes, self._scored_level) == (wanted.changes, points.level):
            return
        pixels = self._table(points)
        if pixels is None:
            return
        found = cross_validate(
            self._features,
            pixels,
            [record.id for record in points.records],
            (self._names, self._settings),
            lambda: self._page.is_old(wanted),
        )
        if found is not None:
            self._scored_changes, self._scored_level = wanted.changes, points.level
            self._page.take_scores(found)

    def save(self) -> None:
        """Keep the features of points for the next session, if some are new."""
        if not self._features_at.is_changed:
            return
        try:
            self._features_at.save()
        except OSError as error:
            logger.warning("features of points are not kept: %s", error)

    def _read_points(self, level: int) -> "_Points":
        """Return the points of the project at a level."""
        description = self._project.description
        images = {entry.name: number for number, entry in enumerate(description.images)}
        ids = {name: number for number, name in enumerate(self._names)}
        records: list[Record] = []
        places: list[Place] = []
        pixels: list[tuple[float, float]] = []
        for one in self._project.history.points:
            if one.image not in images or one.label not in ids:
                continue
            image = images[one.image]
            height, width = self._readers[image].size(level)
            seen: set[Place] = set()
            for x, y in places_of(one).tolist():
                row = min(max(int(y) >> level, 0), height - 1)
                col = min(max(int(x) >> level, 0), width - 1)
                place = Place(image, level, row, col)
                if place not in seen:  # at a coarse level, a polygon has fewer pixels
                    seen.add(place)
                    records.append(one)
                    places.append(place)
                    pixels.append((x, y))
        classes = np.array([ids[one.label or ""] for one in records], np.int64)
        groups = group_points(records, pixels, self._settings.score_block_px)
        return _Points(level, tuple(records), tuple(places), classes, groups)

    def _take_points(self, points: "_Points", key: BlockKey) -> None:
        """Keep the features of points that lie in a block."""
        block_px = self._settings.block_px
        self._features_at.take_from(self._blocks[key], key, points.places, block_px)

    def _table(self, points: "_Points") -> LabelledPixels | None:
        """Return the points whose features are known; None with fewer than two classes."""
        known = [n for n, place in enumerate(points.places) if self._features_at.has(place)]
        classes = points.classes[known]
        if len(np.unique(classes)) < 2:
            return None
        rows = [self._features_at.get(points.places[n]) for n in known]
        return table_of(rows, classes, points.groups[known])

    def _fit(self, points: "_Points") -> LiveClassifier | None:
        """Fit on the points whose features are known; None with fewer than two classes."""
        known = tuple(
            (place, int(class_id))
            for place, class_id in zip(points.places, points.classes, strict=True)
            if self._features_at.has(place)
        )
        if self._fitted is not None and self._fitted[0] == known:
            return self._fitted[1]
        pixels = self._table(points)
        if pixels is None:
            self._fitted = None
            if len(np.unique(points.classes)) < 2:
                with self._lock:
                    self._scored.clear()
                self._page.take_map(None)
            return None
        classifier = fit_live(self._features, pixels, len(self._names), self._settings)
        self._fitted = known, classifier
        self._labels = points.count(self._features_at.has)
        return classifier

    def _score(
        self,
        wanted: Wanted,
        keys: Sequence[BlockKey],
        classifier: LiveClassifier | None,
        step: int,
    ) -> bool:
        """Score blocks whose features are known, and that are not scored as finely already.

        Returns:
            whether there were any.
        """
        if classifier is None:
            return False
        todo = [
            key
            for key in keys
            if key in self._blocks
            and not (
                (found := self._scored.get(key)) is not None
                and found.classifier is classifier
                and found.step <= step
            )
        ]

        def score(key: BlockKey) -> None:
            is_old = self._page.is_old if step == 1 else lambda wanted: False
            scores = classifier.score_block(self._blocks[key], step, lambda: is_old(wanted))
            if scores is not None:
                scored = _Scored(classifier, scores, step)
                with self._lock:
                    self._scored[key] = scored

        list(self._pool.map(score, todo))
        return bool(todo)

    def _read(self, key: BlockKey) -> BlockFeatures:
        """Compute the features of a block."""
        reader, block_px = self._readers[key.image], self._settings.block_px
        return read_features(reader, self._features, key.level, self._extent_of(key, block_px))

    def _extent_of(self, key: BlockKey, block_px: int) -> Extent:
        height, width = self._readers[key.image].size(key.level)
        top, left = key.row * block_px, key.col * block_px
        return Extent(top, left, min(block_px, height - top), min(block_px, width - left))

    def _keep(self, key: BlockKey, block: BlockFeatures, shown: Sequence[BlockKey]) -> None:
        """Keep a block, and forget the longest unused ones beyond the memory that is allowed."""
        self._blocks[key] = block
        for one in shown:
            if one in self._blocks:
                self._blocks.move_to_end(one)
        total = sum(one.mib for one in self._blocks.values())
        for old in list(self._blocks):
            if total <= self._settings.cache_mib or old in shown:
                break
            total -= self._blocks.pop(old).mib
            with self._lock:
                self._scored.pop(old, None)

    def _publish(
        self, wanted: Wanted, keys: Sequence[BlockKey], classifier: LiveClassifier | None
    ) -> None:
        """Join the blocks of the view to the map that the page shows."""
        view = wanted.view
        assert view is not None
        if classifier is None:
            return
        block_px = self._settings.block_px
        extents = {key: self._extent_of(key, block_px) for key in keys}
        scored = {key: self._scored[key] for key in keys if key in self._scored}
        if not scored:
            return
        top, left = min(e.top for e in extents.values()), min(e.left for e in extents.values())
        height = max(e.top + e.height for e in extents.values()) - top
        width = max(e.left + e.width for e in extents.values()) - left
        ids = np.full((height, width), IGNORE_INDEX, np.uint8)
        confidence = np.zeros((height, width), np.uint8)
        for key, found in scored.items():
            extent = extents[key]
            place = (
                slice(extent.top - top, extent.top - top + extent.height),
                slice(extent.left - left, extent.left - left + extent.width),
            )
            valid = self._blocks[key].valid
            highest, best = found.mean.max(dim=0)
            ids[place] = np.where(valid, _enlarge(best, found.step, extent), IGNORE_INDEX)
            percent = (highest.exp() * 100).round()
            confidence[place] = np.where(valid, _enlarge(percent, found.step, extent), 0)
        self._latest += 1
        made = ViewMap(
            self._latest,
            view.image,
            view.level,
            Extent(top, left, height, width),
            ids,
            confidence,
            self._names,
            self._labels,
            wanted.changes,
            time.monotonic() - wanted.since,
        )
        self._page.take_map(made)


@dataclass(frozen=True)
class _Points:
    """The labelled pixels of the project at a level: points, and pixels of polygons."""

    level: int
    records: tuple[Record, ...]
    """The label of each pixel."""
    places: tuple[Place, ...]
    classes: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    def count(self, is_known: Callable[[Place], bool]) -> LabelCount:
        """Count the labels whose features are known."""
        pairs = zip(self.records, self.places, strict=True)
        known = [one for one, place in pairs if is_known(place)]
        of_polygons = [one.id for one in known if one.shape]
        return LabelCount(len(known) - len(of_polygons), len(set(of_polygons)), len(of_polygons))


def _enlarge(values: Tensor, step: int, extent: Extent) -> npt.NDArray[np.uint8]:
    """Repeat values to the pixels of an extent."""
    small = values.to(torch.uint8).numpy()
    if step == 1:
        return small
    return small.repeat(step, axis=0).repeat(step, axis=1)[: extent.height, : extent.width]
