"""Choose the next clicks on train tiles by the model, and answer them from the dense masks."""

from pointcover.config.stage import run_stage  # first: says which package is missing

# isort: split
import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np

from pointcover.active.answer import (
    HEADER,
    SPLIT,
    count_questions,
    open_questionable,
    rows_of,
    write_answered,
)
from pointcover.active.select import choose, look_at_images
from pointcover.active.uncertainty import Acquisition, make_acquisition
from pointcover.config.params import Params
from pointcover.networks.checkpoint import load_checkpoint
from pointcover.runtime.atomic_files import publish_csv, publish_folder
from pointcover.runtime.devices import be_deterministic, make_fabric
from pointcover.tileset.tiles import Tile, read_index

TILES = Path("data/tiles")
CLICKS = Path("data/sparse/clicks")
MODELS = Path("models")
NEXT = Path("data/next")
BATCH = 4  # windows at a time
TABLE = "suggestions.csv"
logger = logging.getLogger(__name__)


def suggest(acquisition: Acquisition, params: Params) -> None:
    """Write data/next/MEASURE: rasters of all clicks, and a table of the new ones.

    Raises:
        ValueError: the train tiles have no dense masks, which answer.
    """
    settings = params.suggest
    tiles: dict[str, list[Tile]] = {}
    for tile in read_index(TILES / "index.csv"):
        if tile.split == SPLIT:
            tiles.setdefault(tile.orthophoto, []).append(tile)
    if not any(sum(tile.pixels) for part in tiles.values() for tile in part):
        raise ValueError(
            "the dataset has no dense masks that could answer: set suggest.acquisitions to [], and "
            "use `pointcover suggest` to have an annotator answer"
        )
    model, checkpoint, _ = load_checkpoint(MODELS)
    tile_set = checkpoint.tile_set
    fabric = make_fabric(settings.device, settings.precision)
    be_deterministic()
    score = make_acquisition(
        [fabric.setup_module(model).eval()],
        acquisition,
        average_views=settings.views == "d4",
        edge_px=settings.edge_px,
    )
    orthophotos = {name: open_questionable(TILES, CLICKS, name) for name in tiles}
    wanted = count_questions(
        settings.points, params.annotate.unit, sum(len(part) for part in tiles.values())
    )
    candidates = look_at_images(
        list(orthophotos.values()),
        score,
        len(tile_set.classes),
        tile_px=tile_set.size_px,
        count=wanted,
        distance_px=settings.distance_px,
        by_class=settings.by_class,
        top_fraction=settings.top_fraction,
        seed=params.seed,
        batch_size=BATCH,
        device=fabric.device,
    )
    suggestions = choose(candidates, wanted, settings.distance_px, by_class=settings.by_class)
    places: dict[int, list[int]] = {}  # of an orthophoto's among all suggestions
    for place, asked in enumerate(suggestions):
        places.setdefault(asked.image, []).append(place)
    answers = np.empty(len(suggestions), np.uint8)
    with publish_folder(NEXT / acquisition) as out:
        for number, (name, part) in enumerate(tiles.items()):
            here = places.get(number, [])
            answers[here] = write_answered(
                out / CLICKS.name,
                TILES / "masks",
                CLICKS,
                part,
                [suggestions[place] for place in here],
                tile_set,
                orthophotos[name].grid,
            )
        rows = rows_of(suggestions, answers.tolist(), list(tiles), tile_set.classes)
        publish_csv(out / TABLE, HEADER, rows)
    wrong = sum(one.class_id != answer for one, answer in zip(suggestions, answers, strict=True))
    logger.info(
        "%d clicks asked for by %s in %d orthophotos; the model was wrong at %d of them",
        len(suggestions),
        acquisition,
        len(tiles),
        wrong,
    )
    if len(suggestions) < wanted:
        logger.warning(
            "%d clicks were wanted, but no more were found suggest.distance_px (%g) from each "
            "other and suggest.edge_px (%d) from other classes: lower one",
            wanted,
            settings.distance_px,
            settings.edge_px,
        )


if __name__ == "__main__":
    run_stage(partial(suggest, sys.argv[1]))  # type: ignore[arg-type]  # params.py names them
