"""Simulate a round of active learning: a model queries train tiles, and dense masks answer."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from pointcover.active.oracle import SPLIT, Oracle, QueryRaster
from pointcover.active.select import QuerySearch, Suggestion, make_score_of_queries
from pointcover.active.settings import SuggestSettings
from pointcover.labels import ClassTable, Mask
from pointcover.networks.checkpoint import load_checkpoint
from pointcover.prediction.windows import needs_of
from pointcover.runtime.atomic_files import publish_csv
from pointcover.runtime.devices import be_deterministic, make_fabric
from pointcover.tileset.tiles import Tile, read_index

CLICKS: Final = "clicks"
TABLE: Final = "suggestions.csv"
HEADER: Final = ("orthophoto", "row", "col", "uncertainty", "predicted", "answer")
BATCH_SIZE: Final = 4
"""Windows that are predicted at a time."""

logger = logging.getLogger(__name__)


class SimulatedRound:
    """The train tiles by orthophoto, and how queries are chosen there."""

    def __init__(self, tiles: Path, clicks: Path, settings: SuggestSettings, seed: int) -> None:
        """Read the index of tiles.

        Args:
            tiles: the folder of the tile set.
            clicks: the folder of the existing point labels.
            settings: how queries are chosen.
            seed: breaks ties, and draws queries.

        Raises:
            ValueError: the train tiles have no dense masks.
        """
        self._folder, self._clicks = tiles, clicks
        self._settings, self._seed = settings, seed
        self._tiles: dict[str, list[Tile]] = {}
        for tile in read_index(tiles / "index.csv"):
            if tile.split == SPLIT:
                self._tiles.setdefault(tile.orthophoto, []).append(tile)
        if not any(sum(tile.pixels) for part in self._tiles.values() for tile in part):
            raise ValueError(
                "the dataset has no dense masks to answer queries: set suggest.acquisitions to [], "
                "and use `pointcover suggest` with an annotator"
            )

    def count_queries(self, unit: str) -> int:
        """Return the number of queries, with annotate.unit `per_tile` or `total`."""
        tiles = sum(len(part) for part in self._tiles.values())
        return self._settings.points * tiles if unit == "per_tile" else self._settings.points

    def run(self, acquisition: str, models: Path, count: int, out: Path) -> None:
        """Write rasters of all point labels, and a table of the new ones.

        Args:
            acquisition: a key of ACQUISITIONS.
            models: the folder of the model.
            count: number of queries.
            out: the folder to write to.
        """
        settings = self._settings
        model, checkpoint, _ = load_checkpoint(models)
        fabric = make_fabric(settings.device, settings.precision)
        be_deterministic()
        networks = [fabric.setup_module(model).eval()]
        score = make_score_of_queries(networks, acquisition, settings)
        oracle = Oracle(self._folder, self._clicks, checkpoint.tile_set)
        images = [oracle.open(name) for name in self._tiles]
        search = QuerySearch(
            score,
            settings,
            checkpoint.tile_set,
            self._seed,
            BATCH_SIZE,
            needs_of([checkpoint.classifier]),
        )
        queries = self._choose(search, images, count, fabric.device)
        answers = np.empty(len(queries), np.uint8)
        for number, part in enumerate(self._tiles.values()):
            here = [place for place, query in enumerate(queries) if query.image == number]
            answers[here] = oracle.answer(
                out / CLICKS, part, [queries[place] for place in here], images[number].grid
            )
        rows = rows_of(queries, answers.tolist(), list(self._tiles), checkpoint.tile_set.classes)
        publish_csv(out / TABLE, HEADER, rows)
        wrong = sum(
            query.class_id != answer for query, answer in zip(queries, answers, strict=True)
        )
        logger.info(
            "%d queries by %s in %d orthophotos; the model was wrong at %d of them",
            len(queries),
            acquisition,
            len(self._tiles),
            wrong,
        )
        if len(queries) < count:
            logger.warning(
                "wanted %d queries, but found no more at suggest.distance_px (%g) from each other "
                "and suggest.edge_px (%d) from other classes%s: lower one of these",
                count,
                settings.distance_px,
                settings.edge_px,
                " where the model is wrong" if settings.error_fraction == 1 else "",
            )

    def _choose(
        self,
        search: QuerySearch,
        images: Sequence[QueryRaster],
        count: int,
        device: torch.device,
    ) -> list[Suggestion]:
        """Choose anywhere, or a fraction where the model is wrong, the rest where it is right."""
        fraction, distance_px = self._settings.error_fraction, self._settings.distance_px
        if fraction is None:
            return search.choose(search.find(images, count, device), count)

        def is_wrong(number: int, top: int, class_ids: Mask) -> npt.NDArray[np.bool_]:
            return images[number].is_wrong(top, class_ids)

        def is_right(number: int, top: int, class_ids: Mask) -> npt.NDArray[np.bool_]:
            near = [query for query in queries if query.image == number]
            return ~is_wrong(number, top, class_ids) & is_away(near, distance_px, top, class_ids)

        queries: list[Suggestion] = []
        in_all = count if fraction < 1 else 0
        for permits, wanted in ((is_wrong, round(fraction * count)), (is_right, in_all)):
            missing = wanted - len(queries)
            if missing > 0:
                part = replace(search, permits=permits)
                queries += part.choose(part.find(images, missing, device), missing)
        return queries


def is_away(
    queries: Sequence[Suggestion], distance_px: float, top: int, strip: Mask
) -> npt.NDArray[np.bool_]:
    """Return which pixels of a strip keep a distance from queries, (h, W).

    Args:
        queries: in the image of the strip.
        distance_px: the minimum.
        top: the first row of the strip.
        strip: (h, W) of whole rows.
    """
    away = np.ones(strip.shape, bool)
    reach = math.ceil(distance_px)
    for query in queries:
        rows = np.arange(max(query.row - reach, top), min(query.row + reach + 1, top + len(strip)))
        cols = np.arange(max(query.col - reach, 0), min(query.col + reach + 1, strip.shape[1]))
        near = (rows[:, np.newaxis] - query.row) ** 2 + (cols - query.col) ** 2 < distance_px**2
        away[np.ix_(rows - top, cols)] &= ~near
    return away


def rows_of(
    queries: Sequence[Suggestion],
    answers: Sequence[int],
    orthophotos: Sequence[str],
    classes: ClassTable,
) -> list[tuple[str | int | float, ...]]:
    """Return the rows of a table with HEADER; rows and columns of pixels count from 0."""
    return [
        (
            orthophotos[query.image],
            query.row,
            query.col,
            round(query.uncertainty, 3),
            classes.names[query.class_id],
            classes.names[answer],
        )
        for query, answer in zip(queries, answers, strict=True)
    ]
