"""Score the model on the test split, and draw what it gets right and wrong."""

from pointcover.config.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pointcover.config.params import Params
from pointcover.config.run_summary import run_name
from pointcover.evaluation.accumulate import ScoredTiles, Tally, tally_tiles
from pointcover.evaluation.panels import draw_figures, draw_scored_tiles, draw_train_tiles
from pointcover.evaluation.settings import EvaluateSettings
from pointcover.evaluation.summary import (
    CONFUSION_HEADER,
    confusion_rows,
    describe_oracle,
    describe_protocol,
    summarise,
    write_tables,
)
from pointcover.figures import spread_evenly
from pointcover.metrics.scores import check_left_out
from pointcover.networks.checkpoint import Member, load_checkpoint, load_ensemble
from pointcover.prediction.mean_field import MeanField
from pointcover.prediction.predict import Correct, Predicted, predict
from pointcover.prediction.priors import Priors
from pointcover.runtime.atomic_files import (
    digest_values,
    publish_csv,
    publish_folder,
    publish_json,
    read_json,
)
from pointcover.runtime.devices import be_deterministic, count_readers, make_fabric
from pointcover.runtime.signals import entered_whole
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.tileset.tiles import Tile, read_index
from pointcover.tracking import runs as tracking
from pointcover.tracking.metric_names import cost_of, test_metrics_of
from pointcover.tracking.store import project_root

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
MODELS = Path("models")
ANNOTATION = Path("metrics/annotate.json")
METRICS = Path("metrics/evaluate.json")
CONFUSION = Path("metrics/confusion.csv")
TABLES = Path("metrics/evaluation")
PANELS = Path("metrics/panels")
MLFLOW_PANELS = 8  # of each kind
BOOTSTRAP_SEED = 0  # of its own, so that all experiments draw the same tiles and regions
logger = logging.getLogger(__name__)


def evaluate(params: Params) -> None:
    """Write metrics/evaluate.json, tables, the confusion matrix and panels; end the MLflow run.

    Scored are the dense masks; where the dataset has none, the real annotations of the test split,
    which no training has seen.
    """
    settings = params.evaluate
    model, checkpoint, digest = load_checkpoint(MODELS)
    others = load_ensemble(Path(settings.ensemble), checkpoint.tile_set)
    classes, size_px = checkpoint.tile_set.classes, checkpoint.tile_set.size_px
    left_out = settings.leave_out
    check_left_out(left_out, classes.names)
    tiles, is_dense = tiles_to_score(settings)
    oracle_tiles = tiles_of_oracle() if settings.oracle else []
    members = [Member(MODELS, model, checkpoint), *others]
    corrections = corrections_of(settings, members)
    refine = MeanField(**settings.crf.model_dump()) if settings.crf.iterations else None
    fabric = make_fabric(settings.device, settings.precision)
    readers = count_readers(params.machine.readers, fabric)
    be_deterministic()
    scored = partial(
        ScoredTiles,
        images=TILES / "images",
        size_px=size_px,
        erode_px=settings.erode_px,
        masks=TILES / "masks" if is_dense else SPARSE / "clicks",
        left_out=[classes.names.index(name) for name in left_out],
    )

    def predict_tiles(dataset: TileDataset) -> Iterator[Predicted]:
        return predict(
            fabric,
            [member.segmenter for member in members],
            tile_loader(dataset, settings.batch_size, readers),
            average_views=settings.views == "d4",
            corrections=corrections,
            refine=refine,
        )

    def tally(tiles: Sequence[Tile]) -> Tally:
        return tally_tiles(
            predict_tiles(scored(tiles)),
            tiles,
            len(classes),
            with_boundaries=is_dense and not settings.erode_px,
        )

    test = tally(tiles)
    tallies = [test, *([tally(oracle_tiles)] if oracle_tiles else [])]
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    summary = summarise(test, classes.names, left_out, generator)
    protocol = describe_protocol(is_dense, settings.erode_px, left_out)
    result = protocol | {"model_count": 1 + len(others)} | summary
    for oracle in tallies[1:]:
        result |= {"oracle_val": describe_oracle(oracle, classes.names, left_out)}
    if corrections:
        result |= {"priors": settings.priors, "prior_strength": settings.prior_strength}
    if refine:
        result |= {"crf": asdict(refine)}
    with publish_folder(TABLES) as out:
        write_tables(out, tallies, classes.names, left_out)
    with publish_folder(PANELS) as out:
        draw_figures(out, test, classes.names, left_out)
        shown = spread_evenly(range(len(tiles)), settings.panels)
        for kind, places in (("fixed", shown), ("worst", test.worst(settings.worst))):
            predicted = predict_tiles(scored([tiles[place] for place in places]))
            draw_scored_tiles(out, kind, test, places, predicted, classes, left_out, is_dense)
        draw_train_tiles(out, settings.train_panels, TILES, SPARSE, size_px, classes, predict_tiles)
    publish_json(METRICS, result)
    rows = confusion_rows(test.confusions.sum(axis=0), classes.names)
    publish_csv(CONFUSION, CONFUSION_HEADER, rows)
    split = digest_values([[asdict(tile) for tile in tiles], protocol])
    record(params, result, digest, checkpoint.training["kept_epoch"], len(others), split)
    logger.info(
        "test mIoU %.3f, accuracy %.3f, on %s",
        result["miou"] or 0,
        result["accuracy"] or 0,
        result["scored_on"],
    )


def tiles_to_score(settings: EvaluateSettings) -> tuple[list[Tile], bool]:
    """Return the tiles of the test split, and whether dense masks say what is there.

    Raises:
        ValueError: the test split has no labels, or only annotations and those are to be eroded.
    """
    tiles = [tile for tile in read_index(TILES / "index.csv") if tile.split == "test"]
    if any(sum(tile.pixels) for tile in tiles):
        return tiles, True
    tiles = [tile for tile in read_index(SPARSE / "index.csv") if tile.split == "test"]
    if not any(sum(tile.pixels) for tile in tiles):
        raise ValueError(
            "the test split has neither dense masks nor real annotations to score on: annotate "
            "test orthophotos too, or mend `split` in the card"
        )
    if settings.erode_px or settings.oracle:
        key = "erode_px" if settings.erode_px else "oracle"
        raise ValueError(
            f"evaluate.{key} is {getattr(settings, key)}, which takes dense masks, and the test "
            f"split has none: set it to {0 if settings.erode_px else 'false'}"
        )
    return tiles, False


def tiles_of_oracle() -> list[Tile]:
    """Return the tiles of the validation split.

    Raises:
        ValueError: they have no dense masks.
    """
    tiles = [tile for tile in read_index(TILES / "index.csv") if tile.split == "val"]
    if not any(sum(tile.pixels) for tile in tiles):
        raise ValueError(
            "evaluate.oracle is true, but dense masks of the validation split have no labelled "
            "pixel: set it to false"
        )
    return tiles


def corrections_of(settings: EvaluateSettings, members: Sequence[Member]) -> list[Correct]:
    """Return what takes the logits of each model from the shares that it learned to the land's.

    Raises:
        ValueError: priors name other classes than there are, or a model's shares are not known.
    """
    if not settings.priors:
        return []
    priors = Priors(settings.priors, settings.prior_strength)
    return [
        priors.correction(
            str(member.folder),
            member.checkpoint.tile_set.classes.names,
            member.checkpoint.label_shares,
        )
        for member in members
    ]


def record(
    params: Params, result: dict[str, Any], digest: str, kept_epoch: int, others: int, split: str
) -> None:
    """Record scores, figures and tables in the MLflow run that trained the model."""

    def open_run() -> tracking.Run:
        """Go on with the run that trained the model."""
        return tracking.resume_training_run(
            project_root(),
            digest,
            run_name(params, datetime.now()),
            tags={"ensemble": f"{1 + others} models"} if others else {},
            apart=bool(others),
        )

    with entered_whole(open_run) as run:
        run.log_metrics(test_metrics_of(result) | cost_of(read_json(ANNOTATION)["train"]))
        run.log_file(ANNOTATION)
        run.log_dict(result, "test.json")
        for name in ("confusion", "classes", "reliability"):
            run.log_file(PANELS / f"{name}.png", "figures")
        for kind in ("fixed", "worst", "train"):
            for picture in sorted(PANELS.glob(f"{kind}_*.png"))[:MLFLOW_PANELS]:
                run.log_file(picture, "panels")
        for table in sorted(TABLES.glob("*.csv")):
            run.log_file(table, "evaluation")
        name = Path(params.dataset).stem
        run.log_dataset(name, split, TILES.as_posix(), "evaluation")
        if not others:
            run.log_model(MODELS, kept_epoch)
            if result["miou"] is not None:
                run.register_champion(name, result["miou"], split)


if __name__ == "__main__":
    run_stage(evaluate)
