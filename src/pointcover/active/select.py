"""The next clicks: the most uncertain pixels of all images, apart from each other."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pointcover.active.uncertainty import MOST, Uncertainties
from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.sliding_window import (
    Plan,
    Score,
    Source,
    plan_windows,
    stream_strips,
)
from pointcover.prediction.windows import usual_window_px
from pointcover.raster.raster_io import RasterInfo

OVERLAP: Final = 0.25
CELLS: Final = 4
"""Squares of which one pixel each is kept, along the distance that clicks have."""
BORDER_PX: Final = 4
"""No click lies so near to an image's edge. There the network sees half of what is around, and is
uncertain for that: of 80 queries on a synthetic dataset, 13 lay on the outermost pixels."""


@dataclass(frozen=True)
class Candidates:
    """Pixels of one image that may be suggested, each the most uncertain of its surroundings."""

    rows: npt.NDArray[np.int32]
    cols: npt.NDArray[np.int32]
    uncertainties: npt.NDArray[np.float32]
    """0 to 1, with a little chance added, which decides between equals."""
    class_ids: npt.NDArray[np.uint8]
    """What the network takes them for."""
    turns: npt.NDArray[np.float32]
    """The greater, the sooner it is a candidate's turn to be chosen."""

    def take(self, chosen: npt.NDArray[np.intp]) -> "Candidates":
        """Return some of them, by their places."""
        return Candidates(
            self.rows[chosen],
            self.cols[chosen],
            self.uncertainties[chosen],
            self.class_ids[chosen],
            self.turns[chosen],
        )

    def split(self, *, by_class: bool) -> list[npt.NDArray[np.intp]]:
        """Return the places of all of them, or of those of each class."""
        if not by_class:
            return [np.arange(len(self.rows))]
        return [np.flatnonzero(self.class_ids == one) for one in np.unique(self.class_ids)]


def find_candidates(
    source: Source,
    plan: Plan,
    score: Score,
    classes: int,
    *,
    cell_px: int,
    by_class: bool,
    generator: np.random.Generator,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int], object],
) -> Candidates:
    """Look at a whole image, and keep the most uncertain pixel of each square of cell_px.

    Args:
        source: the image.
        plan: the windows over it.
        score: of `make_acquisition`.
        classes: how many it tells apart.
        cell_px: side of the squares.
        by_class: keep one for each class that the network sees in a square, so that one which is
            sure beside what is uncertain has candidates, too.
        generator: decides between pixels of equal uncertainty.
        batch_size: windows at a time.
        device: where the networks compute.
        progress: is told of rows as they are done.
    """
    found = []
    height = plan.rows.length
    strips = stream_strips(
        source, plan, score, classes + 1, Uncertainties(), batch_size=batch_size, device=device
    )
    with closing(strips):
        for number, strip in strips:
            top = plan.cuts[number]
            inner = _without_border(strip, top, height)
            found.append(_of_strip(inner, top, cell_px, generator, by_class=by_class))
            progress(strip.shape[1])
    parts = zip(*found, strict=True)
    rows, cols, values, class_ids = (np.concatenate(part) for part in parts)
    return Candidates(rows, cols, values, class_ids, turns=values)


def draw_turns(
    found: Candidates, top_fraction: float, generator: np.random.Generator, *, by_class: bool
) -> Candidates:
    """Shuffle the most uncertain candidates; the others follow in their order.

    The greatest uncertainties of one network lie side by side, often where nobody can tell:
    Shin et al. 2021 (All you need are a few pixels: semantic segmentation with PixelPick) draw from
    the most uncertain twentieth of an image.

    Args:
        found: candidates of one image.
        top_fraction: of them, from which is drawn; with 0 the most uncertain one comes first.
        generator: of chance.
        by_class: that fraction of each class.
    """
    turns = found.uncertainties.copy()
    for places in found.split(by_class=by_class):
        count = math.ceil(top_fraction * len(places))
        drawn = places[np.argsort(-found.uncertainties[places], kind="stable")[:count]]
        turns[drawn] = 2 + generator.random(
            count, np.float32
        )  # before all uncertainties, 1 at most
    return replace(found, turns=turns)


def _without_border(strip: npt.NDArray[np.uint8], top: int, height: int) -> npt.NDArray[np.uint8]:
    """Let no click lie near the edge of an image, of which a strip begins at row `top`."""
    width = strip.shape[2]
    border_px = min(BORDER_PX, (min(height, width) - 1) // 2)  # a tiny image keeps its middle
    rows = top + np.arange(strip.shape[1])
    is_row = (rows >= border_px) & (rows < height - border_px)
    is_col = np.zeros(width, bool)
    is_col[border_px : width - border_px] = True
    uncertainties = np.where(is_row[:, np.newaxis] & is_col, strip[1], IGNORE_INDEX)
    return np.stack([strip[0], uncertainties.astype(np.uint8)])


def _of_strip(
    strip: npt.NDArray[np.uint8],
    top: int,
    cell_px: int,
    generator: np.random.Generator,
    *,
    by_class: bool,
) -> tuple[npt.NDArray[Any], ...]:
    """Return row, column, uncertainty, class of the most uncertain pixel of each square.

    With `by_class` that of each class in each square, the classes one after the other.
    """
    class_ids, uncertainties = strip
    values = (uncertainties + generator.random(uncertainties.shape, np.float32)) / (MOST + 1)
    values[uncertainties == IGNORE_INDEX] = -1
    kinds = [class_ids == one for one in np.unique(class_ids)] if by_class else [values >= 0]
    best = [_best_of_squares(np.where(kind, values, -1), top, cell_px) for kind in kinds]
    rows, cols = (np.concatenate(part) for part in zip(*best, strict=True))
    places = (rows + top).astype(np.int32), cols.astype(np.int32)
    return *places, values[rows, cols], class_ids[rows, cols]


def _best_of_squares(
    values: npt.NDArray[np.float32], top: int, cell_px: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the greatest value of each square, without those below 0.

    Args:
        values: (H, W), whose first row is row `top` of the image: squares lie on one grid over all
            of it.
        top: see there.
        cell_px: side of the squares.
    """
    height, width = values.shape
    first = -top % cell_px  # where the next row of squares begins
    cuts = [0, *range(first or cell_px, height, cell_px), height]
    found = []
    for begin, end in pairwise(cuts):
        # A row of squares at a time: padding it to whole squares costs little.
        band = np.pad(values[begin:end], ((0, 0), (0, -width % cell_px)), constant_values=-1)
        cells = band.reshape(end - begin, -1, cell_px).swapaxes(0, 1)
        squares = cells.reshape(len(cells), -1)
        best = squares.argmax(axis=1)
        some = np.flatnonzero(squares[np.arange(len(best)), best] >= 0)
        down, across = np.divmod(best[some], cell_px)
        found.append((begin + down, some * cell_px + across))
    rows, cols = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, cols


class Image(Source, Protocol):
    """What can be read by whole rows, and the grid that it lies on."""

    @property
    def grid(self) -> RasterInfo:
        """The grid."""


def look_at_images(
    images: Sequence[Image],
    score: Score,
    classes: int,
    *,
    tile_px: int,
    count: int,
    distance_px: float,
    by_class: bool,
    top_fraction: float,
    seed: int,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int], object] = lambda rows: None,
    leave_out: Callable[[RasterInfo, Candidates], Candidates] | None = None,
) -> list[Candidates]:
    """Find the candidates of each image: as many as may be chosen, if all are of this one.

    They are the best of those of small squares (see `side_of_squares`). So memory grows with the
    squares of one image, and for the others with `count`.

    Args:
        images: what to look at.
        score: of `make_acquisition`.
        classes: how many it tells apart.
        tile_px: side of a tile in training.
        count: see `choose`.
        distance_px: see there, too.
        by_class: see there, too.
        top_fraction: see `draw_turns`.
        seed: decides between pixels of equal uncertainty, and draws.
        batch_size: windows at a time.
        device: where the networks compute.
        progress: is told of rows as they are done.
        leave_out: gives the candidates of an image without those that must not be chosen.
    """
    window_px = usual_window_px(tile_px)
    grids = [image.grid for image in images]
    kept = []
    for number, (image, grid) in enumerate(zip(images, grids, strict=True)):
        generator = np.random.default_rng([seed, number])
        found = find_candidates(
            image,
            plan_windows(grid.height, grid.width, window_px, OVERLAP, blend=False),
            score,
            classes,
            cell_px=side_of_squares(distance_px, grid),
            by_class=by_class,
            generator=generator,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
        allowed = leave_out(grid, found) if leave_out else found
        drawn = draw_turns(allowed, top_fraction, generator, by_class=by_class)
        kept.append(thin(drawn, count, distance_px, by_class=by_class))
    return kept


def side_of_squares(distance_px: float, grid: RasterInfo) -> int:
    """Return the side of the squares of which one pixel each is kept: the image's own at most.

    A quarter of the distance. Squares as large as that hold one candidate where often another
    pixel would have fitted: of 133 clicks that greedily fit 32 px apart on 400 × 450 px of noise
    83 came; with a quarter 119 do, with a third 112.
    """
    return math.ceil(min(distance_px / CELLS, max(grid.height, grid.width)))


@dataclass(frozen=True)
class Suggestion:
    """One place to click at."""

    image: int
    """Which of the images."""
    row: int
    col: int
    uncertainty: float
    class_id: int


def choose(
    candidates: Sequence[Candidates],
    count: int,
    distance_px: float,
    *,
    by_class: bool,
    grids: Sequence[RasterInfo] = (),
) -> list[Suggestion]:
    """Choose candidates by their turns, from one image after the other, no two near each other.

    Args:
        candidates: of each image.
        count: how many to choose; fewer come where there are not so many.
        distance_px: the least distance of two in one image.
        by_class: in turn from each class of each image, too, as the network sees them.
        grids: of the images, where they have a place: then clicks on two of one CRS keep the
            distance, too, in pixels of the coarser one.

    Returns:
        The first one of each image before the second ones, and so on.
    """
    chosen = []
    picked = _pick(candidates, count, distance_px, by_class=by_class, grids=grids)
    for image, place in picked:
        found = candidates[image]
        row, col = int(found.rows[place]), int(found.cols[place])
        uncertainty = min(1.0, float(found.uncertainties[place]))
        chosen.append(Suggestion(image, row, col, uncertainty, int(found.class_ids[place])))
    return chosen


def thin(found: Candidates, count: int, distance_px: float, *, by_class: bool) -> Candidates:
    """Leave of one image's candidates those that `choose` would take if it were the only one.

    Whatever other images there are, it takes no others, unless these are near.
    """
    picked = _pick([found], count, distance_px, by_class=by_class)
    return found.take(np.array([place for _, place in picked], np.intp))


def _pick(
    candidates: Sequence[Candidates],
    count: int,
    distance_px: float,
    *,
    by_class: bool,
    grids: Sequence[RasterInfo] = (),
) -> list[tuple[int, int]]:
    """Return which candidates `choose` takes: the image, and the place among its candidates."""
    groups = []
    for image, found in enumerate(candidates):
        for members in found.split(by_class=by_class):
            in_turn = members[np.argsort(-found.turns[members], kind="stable")]
            groups.append((image, iter(in_turn)))
    beside = _find_beside(grids, distance_px) if grids else [[] for _ in candidates]
    greatest = max([distance_px, *(near.distance_px for part in beside for near in part)])
    taken = [_Taken(greatest) for _ in candidates]
    picked: list[tuple[int, int]] = []
    while groups and len(picked) < count:
        for group in list(groups):
            image, places = group
            found = candidates[image]
            for place in places:
                row, col = int(found.rows[place]), int(found.cols[place])
                if taken[image].is_free(row, col):
                    break
            else:
                groups.remove(group)
                continue
            taken[image].add(row, col, distance_px)
            for near in beside[image]:
                x, y = near.transform * (col + 0.5, row + 0.5)  # its centre
                taken[near.image].add(y - 0.5, x - 0.5, near.distance_px)
            picked.append((image, int(place)))
            if len(picked) == count:
                break
    return picked


class _Taken:
    """Where clicks were taken on one image, or beside it on others, in its rows and columns."""

    def __init__(self, side_px: float) -> None:
        """Begin with none.

        Args:
            side_px: the greatest distance that any of them keeps: the side of the cells in which
                they are looked up.
        """
        self._side_px = side_px
        self._cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}

    def add(self, row: float, col: float, distance_px: float) -> None:
        """Take a place, from which others keep a distance."""
        self._cells.setdefault(self._cell(row, col), []).append((row, col, distance_px**2))

    def is_free(self, row: int, col: int) -> bool:
        """Return whether a place is near to none that was taken."""
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
    """Another image that lies on the one it is beside, or so near that clicks might meet."""

    image: int
    transform: Any
    """From the pixels of the one to those of this other image (affine)."""
    distance_px: float
    """That clicks keep, in pixels of this other image."""


def _find_beside(grids: Sequence[RasterInfo], distance_px: float) -> list[list[_Beside]]:
    """Find for each image what other ones of its CRS lie on it, or nearer than the distance.

    The distance is counted in pixels of the coarser image of two.
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
            transform = ~to.transform * grid.transform
            apart = distance_px * max(1, sides[one] / sides[other])
            corners = ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
            x, y = zip(*(transform * corner for corner in corners), strict=True)
            if (
                -apart < max(x)
                and min(x) < to.width + apart
                and -apart < max(y)
                and min(y) < to.height + apart
            ):
                found[one].append(_Beside(other, transform, apart))
    return found
