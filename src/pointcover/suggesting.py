"""The next clicks: where a network's doubt is greatest, apart from each other, over all images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.devices import Fabric
from pointcover.inference import each_view, score_once
from pointcover.labels import IGNORE_INDEX
from pointcover.mapping import make_score, usual_window_px
from pointcover.models.references import NamedModel
from pointcover.orthophotos import Orthophoto, ReadingSettings, open_orthophoto
from pointcover.streaming import Plan, Score, Source, entropy_of, plan_windows, stream_strips

Measure = Literal["margin", "entropy", "disagreement"]
OVERLAP: Final = 0.25
MOST: Final = 254
"""The greatest doubt, as a byte: the value above says that there is no data."""


@dataclass(frozen=True)
class Doubts:
    """What is kept of a pixel's scores: its class, and the doubt about it."""

    measure: Measure
    classes: int

    def count(self, classes: int) -> int:
        """Count the layers: the class and the doubt."""
        return 2

    def describe(self, scores: Tensor) -> Tensor:
        """Give class ids and doubts, from 0 to MOST.

        `margin` is 1 less how far the likeliest class is ahead of the next one, `entropy` that of
        the probabilities, `disagreement` is computed before windows are put together.

        Args:
            scores: (B, C, H, W) float32 probabilities; with `disagreement`, (B, C + 1, H, W).

        Returns:
            (B, 2, H, W) uint8.
        """
        probabilities = scores[:, : self.classes]
        if self.measure == "margin":
            likeliest = probabilities.topk(2, dim=1).values
            doubt = 1 - (likeliest[:, :1] - likeliest[:, 1:])
        elif self.measure == "entropy":
            doubt = entropy_of(probabilities)
        else:
            doubt = scores[:, self.classes :]
        ids = probabilities.argmax(dim=1, keepdim=True).to(torch.uint8)
        return torch.cat([ids, (doubt * MOST).round().clamp(0, MOST).to(torch.uint8)], dim=1)


def score_disagreement(networks: Sequence[Callable[[Tensor], Any]], *, by_views: bool) -> Score:
    """Give the mean probabilities of networks or views, and how much these disagree.

    That is the entropy of the mean less the mean entropy (the mutual information that Houlsby et
    al. 2011, Bayesian active learning for classification, call BALD), as a share of the greatest
    entropy: high where each is sure of something else, low where all are unsure alike.

    Args:
        networks: two at least, or one with `by_views`.
        by_views: take eight turned and flipped views of each.

    Returns:
        Images (B, bands, H, W) → (B, C + 1, H, W) float32.
    """

    def members(images: Tensor) -> Iterator[Tensor]:
        for network in networks:
            if by_views:
                yield from each_view(network, images)
            else:
                yield score_once(network, images)

    def score(images: Tensor) -> Tensor:
        count = 0
        total: Any = 0.0
        entropies: Any = 0.0
        for scores in members(images):
            count += 1
            total = total + scores
            entropies = entropies + entropy_of(scores)
        mean = total / count
        return torch.cat([mean, (entropy_of(mean) - entropies / count).clamp(0, 1)], dim=1)

    return torch.inference_mode()(score)


@dataclass(frozen=True)
class Candidates:
    """Pixels of one image that may be suggested, each the most doubtful of its surroundings."""

    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]
    doubts: npt.NDArray[np.float64]
    """0 to 1, with a little chance added, which decides between equals."""
    class_ids: npt.NDArray[np.uint8]
    """What the network takes them for."""


def find_candidates(
    source: Source, plan: Plan, score: Score, doubts: Doubts, *, cell_px: int,
    generator: np.random.Generator, batch_size: int, device: torch.device,
    progress: Callable[[int], object],
) -> Candidates:  # fmt: skip
    """Look at a whole image, and keep the most doubtful pixel of each square of cell_px.

    Args:
        source: the image.
        plan: the windows over it.
        score: the networks.
        doubts: what is kept of their scores.
        cell_px: side of the squares.
        generator: decides between pixels of equal doubt.
        batch_size: windows at a time.
        device: where the networks compute.
        progress: is told of rows as they are done.
    """
    found = []
    channels = doubts.classes + (doubts.measure == "disagreement")
    strips = stream_strips(
        source, plan, score, channels, doubts, batch_size=batch_size, device=device
    )
    with closing(strips):
        for number, strip in strips:
            found.append(_of_strip(strip, plan.cuts[number], cell_px, generator))
            progress(strip.shape[1])
    parts = zip(*found, strict=True)
    rows, cols, values, class_ids = (np.concatenate(part) for part in parts)
    return Candidates(rows, cols, values, class_ids.astype(np.uint8))


def _of_strip(
    strip: npt.NDArray[np.uint8], top: int, cell_px: int, generator: np.random.Generator
) -> tuple[npt.NDArray[Any], ...]:
    """Give row, column, doubt and class of the most doubtful pixel of each square in a strip."""
    class_ids, doubts = strip
    height, width = doubts.shape
    values = (doubts + generator.random(doubts.shape, np.float32)) / (MOST + 1)
    values[doubts == IGNORE_INDEX] = -1
    above = top % cell_px  # squares lie on one grid over all strips
    around = ((above, -(above + height) % cell_px), (0, -width % cell_px))
    padded = np.pad(values, around, constant_values=-1)
    down, across = padded.shape[0] // cell_px, padded.shape[1] // cell_px
    squares = (
        padded.reshape(down, cell_px, across, cell_px).swapaxes(1, 2).reshape(down, across, -1)
    )
    best = squares.argmax(axis=2)
    chosen = np.take_along_axis(squares, best[:, :, None], axis=2)[:, :, 0]
    some = np.nonzero(chosen >= 0)
    rows = some[0] * cell_px + best[some] // cell_px - above
    cols = some[1] * cell_px + best[some] % cell_px
    return rows + top, cols, chosen[some].astype(np.float64), class_ids[rows, cols]


@dataclass(frozen=True)
class Suggestion:
    """One place to click at."""

    image: int
    """Which of the images."""
    row: int
    col: int
    doubt: float
    class_id: int


def choose(
    candidates: Sequence[Candidates], count: int, distance_px: float, *, by_class: bool
) -> list[Suggestion]:
    """Choose the most doubtful candidates, in turn from each image, no two near each other.

    Args:
        candidates: of each image.
        count: how many to choose; fewer come where there are not so many.
        distance_px: the least distance of two in one image.
        by_class: in turn from each class of each image, too, as the network sees them.

    Returns:
        The first one of each image before the second ones, and so on.
    """
    groups = []
    for image, found in enumerate(candidates):
        order = np.argsort(-found.doubts, kind="stable")
        ids = np.unique(found.class_ids) if by_class else [None]
        for class_id in ids:
            of_class = order if class_id is None else order[found.class_ids[order] == class_id]
            groups.append((image, iter(of_class.tolist())))
    taken: list[dict[tuple[int, int], list[tuple[int, int]]]] = [{} for _ in candidates]
    chosen: list[Suggestion] = []
    while groups and len(chosen) < count:
        for group in list(groups):
            image, places = group
            found = candidates[image]
            place = next(
                (
                    p
                    for p in places
                    if _is_free(taken[image], found.rows[p], found.cols[p], distance_px)
                ),
                None,
            )
            if place is None:
                groups.remove(group)
                continue
            row, col = int(found.rows[place]), int(found.cols[place])
            taken[image].setdefault(_cell(row, col, distance_px), []).append((row, col))
            doubt = min(1.0, float(found.doubts[place]))
            chosen.append(Suggestion(image, row, col, doubt, int(found.class_ids[place])))
            if len(chosen) == count:
                break
    return chosen


def _cell(row: int, col: int, side: float) -> tuple[int, int]:
    return int(row // side), int(col // side)


def _is_free(
    taken: dict[tuple[int, int], list[tuple[int, int]]], row: int, col: int, distance_px: float
) -> bool:
    """Say whether nothing that was taken lies within the distance."""
    down, across = _cell(row, col, distance_px)
    return all(
        (row - other) ** 2 + (col - beside) ** 2 >= distance_px**2
        for y in range(down - 1, down + 2)
        for x in range(across - 1, across + 2)
        for other, beside in taken.get((y, x), ())
    )


@dataclass(frozen=True)
class SuggestSettings:
    """How clicks are chosen."""

    measure: Measure = "margin"
    average_views: bool = False
    by_class: bool = False
    distance_px: float = 32
    batch_size: int = 4
    seed: int = 1


class Suggester:
    """Models on a device, ready to look for the next clicks."""

    def __init__(
        self, fabric: Fabric, models: Sequence[NamedModel], settings: SuggestSettings,
        reading: ReadingSettings,
    ) -> None:  # fmt: skip
        """Bring models to a device.

        Args:
            fabric: device and precision.
            models: which fit each other.
            settings: how clicks are chosen.
            reading: what a user says of the images.

        Raises:
            ValueError: one view of one model is to disagree with itself.
        """
        if settings.measure == "disagreement" and len(models) < 2 and not settings.average_views:
            raise ValueError(
                "one model alone cannot disagree: give others with --also, or its eight views with "
                "--tta, or choose margin or entropy"
            )
        self._tile_sets = [model.tile_set for model in models]
        self._settings, self._reading, self._device = settings, reading, fabric.device
        networks = [fabric.setup_module(model.segmenter).eval() for model in models]
        if settings.measure == "disagreement":
            self._score = score_disagreement(networks, by_views=settings.average_views)
        else:
            self._score = make_score(networks, average_views=settings.average_views)

    def prepare(self, images: Sequence[Path], out: Path) -> list[Orthophoto]:
        """Check images before any work, and where the file goes.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image does not fit the model, or has no CRS; two have one name; the file
                is called otherwise than .gpkg.
        """
        if out.suffix != ".gpkg":
            raise ValueError(f"{out} does not end in .gpkg: points are written as a GeoPackage")
        stems = [path.stem for path in images]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise ValueError(
                f"several images are called {', '.join(twice)}, and a point could not say on which "
                f"it lies: rename them, or look at them one after the other"
            )
        found = [open_orthophoto(path, self._tile_sets, self._reading) for path in images]
        lost = [str(o.reader.path) for o in found if o.grid.crs is None]
        if lost:
            raise ValueError(
                f"{', '.join(lost)}: no CRS, so a click would be nowhere on the map. Give the "
                f"image its CRS (in QGIS: Raster > Projections > Assign projection)"
            )
        return found

    def suggest(
        self, orthophotos: Sequence[Orthophoto], count: int, progress: Callable[[int], object]
    ) -> list[Suggestion]:
        """Choose the clicks that are worth most.

        Args:
            orthophotos: of `prepare`.
            count: how many clicks.
            progress: is told of rows as they are done.

        Raises:
            ValueError: an image is damaged, or none holds data.
        """
        settings, tile_set = self._settings, self._tile_sets[0]
        doubts = Doubts(settings.measure, len(tile_set.classes))
        window_px = usual_window_px(tile_set)
        candidates = []
        for number, orthophoto in enumerate(orthophotos):
            grid = orthophoto.grid
            plan = plan_windows(grid.height, grid.width, window_px, OVERLAP, blend=False)
            candidates.append(
                find_candidates(
                    orthophoto, plan, self._score, doubts, progress=progress,
                    cell_px=max(1, round(settings.distance_px)), batch_size=settings.batch_size,
                    generator=np.random.default_rng([settings.seed, number]), device=self._device,
                )
            )  # fmt: skip
        if not any(len(found.rows) for found in candidates):
            raise ValueError(
                "the images have no pixel with data, so there is nothing to click on: look at "
                "their nodata value and alpha band"
            )
        return choose(candidates, count, settings.distance_px, by_class=settings.by_class)
