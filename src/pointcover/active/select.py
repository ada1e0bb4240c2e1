"""Select queries: the most uncertain pixels of all images, at a distance from each other."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pointcover.active.acquisitions import ACQUISITIONS
from pointcover.active.settings import QuerySettings
from pointcover.active.uncertainty import MOST, Networks, Uncertainties, away_from_edges
from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.sliding_window import Plan, Source, stream_strips
from pointcover.prediction.window_inference import Score, WindowInference
from pointcover.prediction.windows import WindowNeeds, lay_axis, usual_window_px
from pointcover.raster.raster_io import RasterInfo
from pointcover.tileset.tiles import TileSet

OVERLAP: Final = 0.25
CELLS: Final = 4
"""Side of a square as a fraction (1 / CELLS) of the distance; one pixel of each square is kept."""
BORDER_PX: Final = 4
"""Minimum distance of queries from an image's edge, where predictions are uncertain for lack of
context: of 80 queries on a synthetic dataset, 13 lay on the outermost pixels."""

MOST_CANDIDATES: Final = 2_000_000
"""Squares of all images together, if queries are drawn: of more, the candidates of random ones are
kept (34 MB; with `by_class` up to that for each class)."""

Progress = Callable[[int], object]
"""Called with the number of finished rows."""
Permits = Callable[[int, int, npt.NDArray[np.uint8]], npt.NDArray[np.bool_]]
"""From the index of an image, the first row of a strip and the strip's predicted classes (h, W):
whether each pixel may be queried, (h, W)."""


@dataclass(frozen=True)
class Candidates:
    """Pixels of one image that may be queried, the most uncertain ones of their squares."""

    rows: npt.NDArray[np.int32]
    """(n,)."""
    cols: npt.NDArray[np.int32]
    """(n,)."""
    uncertainties: npt.NDArray[np.float32]
    """(n,) from 0 to 1, with a small random part to break ties."""
    class_ids: npt.NDArray[np.uint8]
    """(n,) predicted classes."""
    priorities: npt.NDArray[np.float32]
    """(n,); candidates are chosen in descending order of these."""

    def take(self, chosen: npt.NDArray[np.intp]) -> "Candidates":
        """Return the candidates at (k,) indices."""
        return Candidates(
            self.rows[chosen],
            self.cols[chosen],
            self.uncertainties[chosen],
            self.class_ids[chosen],
            self.priorities[chosen],
        )

    def split(self, *, by_class: bool) -> list[npt.NDArray[np.intp]]:
        """Return the indices of all candidates; with `by_class`, those of each class apart."""
        if not by_class:
            return [np.arange(len(self.rows))]
        return [np.flatnonzero(self.class_ids == one) for one in np.unique(self.class_ids)]


def join(candidates: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several images, or parts of one, in their order."""
    return Candidates(
        *(
            np.concatenate([getattr(one, each.name) for one in candidates])
            for each in fields(Candidates)
        )
    )


def make_score_of_queries(networks: Networks, acquisition: str, settings: QuerySettings) -> Score:
    """Return a function from images to class probabilities and uncertainty.

    Args:
        networks: one network or an ensemble.
        acquisition: a key of ACQUISITIONS.
        settings: with the number of views, and the distance of queries from other classes.

    Returns:
        images (B, bands, H, W) → (B, C + 1, H, W) float32: probabilities, and uncertainty from 0 to
        1, or -1 where queries are not allowed.

    Raises:
        ValueError: there is no such acquisition function, or it needs several models or views.
    """
    if acquisition not in ACQUISITIONS:
        raise ValueError(
            f"acquisition: got {acquisition!r}, wanted one of {', '.join(ACQUISITIONS)}"
        )
    score = ACQUISITIONS[acquisition](networks, settings.views == "d4")
    return away_from_edges(score, settings.edge_px) if settings.edge_px else score


class Image(Source, Protocol):
    """A raster that can be read by whole rows, with its grid."""

    @property
    def grid(self) -> RasterInfo:
        """Size, CRS and transform."""


@dataclass(frozen=True)
class QuerySearch:
    """How queries are searched and chosen."""

    score: Score
    """From `make_score_of_queries`."""
    settings: QuerySettings
    tile_set: TileSet
    """The tile set that the networks were trained on."""
    seed: int
    """Breaks ties, and draws queries."""
    batch_size: int
    """Windows at a time."""
    needs: WindowNeeds = field(default_factory=WindowNeeds)
    """Of the networks."""
    permits: Permits | None = None
    """Which pixels of an image may be queried; by default all."""

    def find(
        self,
        images: Sequence[Image],
        count: int,
        device: torch.device,
        progress: Progress = lambda rows: None,
        leave_out: Callable[[RasterInfo, Candidates], Candidates] | None = None,
    ) -> list[Candidates]:
        """Find the candidates of each image.

        They are those that would be chosen from this image alone; if queries are drawn, all, or a
        random part of them.

        Only the most uncertain pixel of each small square is considered (see `side_of_squares`). So
        memory holds the squares of one image, and at most `count` candidates of each of the others.
        If queries are drawn, it holds those of MOST_CANDIDATES squares of all images.

        Args:
            images: to choose from.
            count: number of queries, over all images; not used if they are drawn.
            device: of the networks.
            progress: called after each strip.
            leave_out: removes candidates of an image that must not be chosen.
        """
        settings = self.settings
        inference = WindowInference(
            self.score, len(self.tile_set.classes) + 1, Uncertainties(), self.batch_size, device
        )
        window_px = usual_window_px(self.tile_set.size_px, self.needs)
        sides = [side_of_squares(settings.distance_px, image.grid) for image in images]
        squares_of_all = sum(
            -(-image.grid.height // side) * -(-image.grid.width // side)
            for image, side in zip(images, sides, strict=True)
        )
        kept = []
        for number, image in enumerate(images):
            grid, generator = image.grid, np.random.default_rng([self.seed, number])
            squares = Squares(
                sides[number],
                settings.by_class,
                generator,
                partial(self.permits, number) if self.permits else None,
            )
            rows, columns = (
                lay_axis(length, window_px, OVERLAP, self.needs)
                for length in (grid.height, grid.width)
            )
            plan = Plan(rows, columns, blend=False)
            found = find_candidates(image, plan, inference, squares, progress)
            allowed = leave_out(grid, found) if leave_out else found
            if settings.top_fraction:
                is_kept = generator.random(len(allowed.rows)) * squares_of_all < MOST_CANDIDATES
                kept.append(allowed.take(np.flatnonzero(is_kept)))
            else:
                kept.append(thin(allowed, count, settings.distance_px, by_class=settings.by_class))
        return kept

    def choose(
        self, candidates: Sequence[Candidates], count: int, grids: Sequence[RasterInfo] = ()
    ) -> list["Suggestion"]:
        """Choose among the candidates of all images; see `choose`.

        Queries that are drawn are drawn from the most uncertain candidates of all images together,
        so that an image has as many as it has uncertain places. Others alternate between images.
        """
        settings = self.settings
        if settings.top_fraction:
            generator = np.random.default_rng([self.seed, len(candidates)])
            candidates = draw_from_all(
                candidates, settings.top_fraction, generator, by_class=settings.by_class
            )
        return choose(
            candidates,
            count,
            settings.distance_px,
            Turns(classes=settings.by_class, images=not settings.top_fraction),
            grids,
        )


@dataclass(frozen=True)
class Squares:
    """A grid of squares over an image, with one candidate a square, or one of each class."""

    side_px: int
    by_class: bool
    """Keep one candidate of each class that is predicted in a square, so that classes with certain
    predictions have candidates, too."""
    generator: np.random.Generator
    """Breaks ties."""
    permits: Callable[[int, npt.NDArray[np.uint8]], npt.NDArray[np.bool_]] | None = None
    """From the first row of a strip and its predicted classes (h, W): whether each pixel may be
    queried."""


def find_candidates(
    source: Source,
    plan: Plan,
    inference: WindowInference,
    squares: Squares,
    progress: Progress,
) -> Candidates:
    """Predict a whole image, and keep the most uncertain pixel of each square.

    Args:
        source: the image.
        plan: the windows over it.
        inference: of class and uncertainty.
        squares: over the image.
        progress: called after each strip.
    """
    found = []
    height = plan.rows.length
    with closing(stream_strips(source, plan, inference)) as strips:
        for number, strip in strips:
            top = plan.cuts[number]
            strip = _without_border(strip, top, height)
            if squares.permits:
                strip[1][~squares.permits(top, strip[0])] = IGNORE_INDEX
            found.append(best_of_strip(strip, top, squares))
            progress(strip.shape[1])
    parts = zip(*found, strict=True)
    rows, cols, values, class_ids = (np.concatenate(part) for part in parts)
    return Candidates(rows, cols, values, class_ids, priorities=values)


def draw_priorities(
    found: Candidates, top_fraction: float, generator: np.random.Generator, *, by_class: bool
) -> Candidates:
    """Shuffle the most uncertain candidates; the others follow in order of uncertainty.

    The highest uncertainties are often clustered where annotators cannot tell the class. Therefore
    Shin et al. 2021 (All you need are a few pixels: semantic segmentation with PixelPick) draw from
    the most uncertain 5 % of an image.

    Args:
        found: candidates.
        top_fraction: fraction of the candidates that is shuffled; 0 shuffles none.
        generator: of the draws.
        by_class: shuffle this fraction of each class, instead of all candidates.
    """
    priorities = found.uncertainties.copy()
    for members in found.split(by_class=by_class):
        count = math.ceil(top_fraction * len(members))
        drawn = members[np.argsort(-found.uncertainties[members], kind="stable")[:count]]
        # Greater than all uncertainties, which are at most 1.
        priorities[drawn] = 2 + generator.random(count, np.float32)
    return replace(found, priorities=priorities)


def draw_from_all(
    candidates: Sequence[Candidates],
    top_fraction: float,
    generator: np.random.Generator,
    *,
    by_class: bool,
) -> list[Candidates]:
    """Return the candidates of each image with priorities from `draw_priorities` over all images.

    Args:
        candidates: of each image.
        top_fraction: fraction of all candidates that is shuffled.
        generator: of the draws.
        by_class: shuffle this fraction of each class.
    """
    drawn = draw_priorities(join(candidates), top_fraction, generator, by_class=by_class)
    ends = np.cumsum([len(found.rows) for found in candidates])
    parts = np.split(drawn.priorities, ends[:-1])
    return [replace(found, priorities=part) for found, part in zip(candidates, parts, strict=True)]


def _without_border(strip: npt.NDArray[np.uint8], top: int, height: int) -> npt.NDArray[np.uint8]:
    """Set pixels near an image's edge to IGNORE_INDEX; `top` is the strip's first row."""
    width = strip.shape[2]
    border_px = min(BORDER_PX, (min(height, width) - 1) // 2)  # keeps the middle of tiny images
    rows = top + np.arange(strip.shape[1])
    is_row = (rows >= border_px) & (rows < height - border_px)
    is_col = np.zeros(width, bool)
    is_col[border_px : width - border_px] = True
    uncertainties = np.where(is_row[:, np.newaxis] & is_col, strip[1], IGNORE_INDEX)
    return np.stack([strip[0], uncertainties.astype(np.uint8)])


def best_of_strip(
    strip: npt.NDArray[np.uint8], top: int, squares: Squares
) -> tuple[npt.NDArray[Any], ...]:
    """Return rows, columns, uncertainties and classes of the most uncertain pixel of each square.

    With `by_class`, return that of each class in each square, ordered by class.
    """
    class_ids, uncertainties = strip
    values = (uncertainties + squares.generator.random(uncertainties.shape, np.float32)) / (
        MOST + 1
    )
    values[uncertainties == IGNORE_INDEX] = -1
    kinds = (
        [class_ids == one for one in np.unique(class_ids)] if squares.by_class else [values >= 0]
    )
    best = [_best_of_squares(np.where(kind, values, -1), top, squares.side_px) for kind in kinds]
    rows, cols = (np.concatenate(part) for part in zip(*best, strict=True))
    places = (rows + top).astype(np.int32), cols.astype(np.int32)
    return *places, values[rows, cols], class_ids[rows, cols]


def _best_of_squares(
    values: npt.NDArray[np.float32], top: int, cell_px: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the greatest value of each square, if it is not below 0.

    Args:
        values: (H, W) of a strip.
        top: row of the image at which the strip begins; squares lie on one grid over the image.
        cell_px: side of the squares.
    """
    height, width = values.shape
    first = -top % cell_px  # beginning of the next row of squares
    cuts = [0, *range(first or cell_px, height, cell_px), height]
    found = []
    for begin, end in pairwise(cuts):
        # One row of squares at a time, so that little memory is needed for padding.
        band = np.pad(values[begin:end], ((0, 0), (0, -width % cell_px)), constant_values=-1)
        cells = band.reshape(end - begin, -1, cell_px).swapaxes(0, 1)
        squares = cells.reshape(len(cells), -1)
        best = squares.argmax(axis=1)
        some = np.flatnonzero(squares[np.arange(len(best)), best] >= 0)
        down, across = np.divmod(best[some], cell_px)
        found.append((begin + down, some * cell_px + across))
    rows, cols = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, cols


def side_of_squares(distance_px: float, grid: RasterInfo) -> int:
    """Return the side of the squares: a quarter of the distance, at most that of the image.

    With larger squares fewer queries are found: of 133 queries that a greedy search finds 32 px
    apart in 400 × 450 px of noise, squares of a quarter of the distance find 119, of a third 112,
    and of the whole distance 83.
    """
    return math.ceil(min(distance_px / CELLS, max(grid.height, grid.width)))


@dataclass(frozen=True)
class Suggestion:
    """A query: a pixel that the annotator is to label."""

    image: int
    """Index of the image."""
    row: int
    col: int
    uncertainty: float
    """From 0 to 1."""
    class_id: int
    """The predicted class."""


@dataclass(frozen=True)
class Turns:
    """What queries alternate between."""

    classes: bool
    """The predicted ones; with `images` those of each image."""
    images: bool = True


def choose(
    candidates: Sequence[Candidates],
    count: int,
    distance_px: float,
    turns: Turns,
    grids: Sequence[RasterInfo] = (),
) -> list[Suggestion]:
    """Choose candidates by priority, with a minimum distance.

    Args:
        candidates: of each image.
        count: number of queries; fewer are returned if there are not enough candidates.
        distance_px: minimum distance of two queries in one image.
        turns: what queries alternate between.
        grids: of the images, if they are georeferenced. Then queries on two images of one CRS keep
            the distance, too, in pixels of the coarser one.

    Returns:
        the first query of each image or class, then the second of each, and so on.
    """
    chosen = []
    picked = _pick(candidates, count, distance_px, turns, grids)
    for image, place in picked:
        found = candidates[image]
        row, col = int(found.rows[place]), int(found.cols[place])
        uncertainty = min(1.0, float(found.uncertainties[place]))
        chosen.append(Suggestion(image, row, col, uncertainty, int(found.class_ids[place])))
    return chosen


def thin(found: Candidates, count: int, distance_px: float, *, by_class: bool) -> Candidates:
    """Return the candidates that `choose` would take from this image alone.

    With further images it takes no other candidates, unless these images are near.
    """
    picked = _pick([found], count, distance_px, Turns(classes=by_class))
    return found.take(np.array([place for _, place in picked], np.intp))


def _pick(
    candidates: Sequence[Candidates],
    count: int,
    distance_px: float,
    turns: Turns,
    grids: Sequence[RasterInfo] = (),
) -> list[tuple[int, int]]:
    """Return the candidates that `choose` takes: index of the image, and of its candidate."""
    numbers = range(len(candidates))
    groups = []
    for images in [[image] for image in numbers] if turns.images else [numbers]:
        found = join([candidates[image] for image in images])
        counts = [len(candidates[image].rows) for image in images]
        image_of = np.repeat(images, counts)
        place_of = np.concatenate([np.arange(count) for count in counts])
        for members in found.split(by_class=turns.classes):
            ordered = members[np.argsort(-found.priorities[members], kind="stable")]
            groups.append(zip(image_of[ordered], place_of[ordered], strict=True))
    beside = _find_beside(grids, distance_px) if grids else [[] for _ in candidates]
    greatest = max([distance_px, *(near.distance_px for part in beside for near in part)])
    taken = [_Taken(greatest) for _ in candidates]
    picked: list[tuple[int, int]] = []
    while groups and len(picked) < count:
        for group in list(groups):
            for image, place in group:
                found = candidates[image]
                row, col = int(found.rows[place]), int(found.cols[place])
                if taken[image].is_free(row, col):
                    break
            else:
                groups.remove(group)
                continue
            taken[image].add(row, col, distance_px)
            for near in beside[image]:
                x, y = near.transform @ (col + 0.5, row + 0.5)  # its centre
                taken[near.image].add(y - 0.5, x - 0.5, near.distance_px)
            picked.append((int(image), int(place)))
            if len(picked) == count:
                break
    return picked


class _Taken:
    """Pixels chosen on one image, or on others that overlap it, in its rows and columns."""

    def __init__(self, side_px: float) -> None:
        """Start without pixels.

        Args:
            side_px: side of the lookup table's cells, at least the maximum of all distances.
        """
        self._side_px = side_px
        self._cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}

    def add(self, row: float, col: float, distance_px: float) -> None:
        """Add a pixel, and the distance that others must keep from it."""
        self._cells.setdefault(self._cell(row, col), []).append((row, col, distance_px**2))

    def is_free(self, row: int, col: int) -> bool:
        """Return whether a pixel keeps the distance from all that were added."""
        down, across = self._cell(row, col)
        return all(
            (row - other) ** 2 + (col - beside) ** 2 >= apart
            for y in range(down - 1, down + 2)
            for x in range(across - 1, across + 2)
            for other, beside, apart in self._cells.get((y, x), ())
        )

    def _cell(self, row: float, col: float) -> tuple[int, int]:
        return int(row // self._side_px), int(col // self._side_px)


@dataclass(frozen=True)
class _Beside:
    """Another image that overlaps an image, or lies within the distance of queries."""

    image: int
    """Index of the other image."""
    transform: Any
    """Affine transform from pixels of the image to pixels of the other one."""
    distance_px: float
    """Minimum distance of two queries, in pixels of the other image."""


def _find_beside(grids: Sequence[RasterInfo], distance_px: float) -> list[list[_Beside]]:
    """Return for each image the others of its CRS that overlap it or lie within the distance.

    The distance is in pixels of the coarser of two images.
    """
    kinds: list[RasterInfo] = []  # one of each CRS
    for grid in grids:
        if all(grid.crs != kind.crs for kind in kinds):
            kinds.append(grid)
    crs = [next(n for n, kind in enumerate(kinds) if kind.crs == grid.crs) for grid in grids]
    sides = [math.sqrt(abs(grid.transform.determinant)) for grid in grids]
    found: list[list[_Beside]] = [[] for _ in grids]
    for one, grid in enumerate(grids):
        for other, to in enumerate(grids):
            if one == other or crs[one] != crs[other] or grid.crs is None:
                continue
            transform = ~to.transform @ grid.transform
            apart = distance_px * max(1, sides[one] / sides[other])
            corners = ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
            x, y = zip(*(transform @ corner for corner in corners), strict=True)
            if (
                -apart < max(x)
                and min(x) < to.width + apart
                and -apart < max(y)
                and min(y) < to.height + apart
            ):
                found[one].append(_Beside(other, transform, apart))
    return found
