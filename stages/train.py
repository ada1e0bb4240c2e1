"""Fit the network on sparse masks; no dense mask is read, not even to choose an epoch."""

from pointcover.config.stage import run_stage  # first: says which package is missing

# isort: split
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pointcover.config.params import Params
from pointcover.config.run_summary import describe, run_name
from pointcover.figures import draw_curves
from pointcover.networks import Segmenter, build_model
from pointcover.networks.checkpoint import Checkpoint, save_checkpoint
from pointcover.runtime.atomic_files import digest_values, publish_csv, publish_folder, publish_json
from pointcover.runtime.code_closure import code_files
from pointcover.runtime.devices import Fabric, be_deterministic, count_readers, make_fabric
from pointcover.runtime.fingerprint import environment_of, fingerprint
from pointcover.runtime.signals import entered_whole
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.tileset.tiles import Tile, TileSet, read_index, read_tile_set
from pointcover.tracking import runs as tracking
from pointcover.tracking.metric_names import HEADLINE, kept_metrics_of
from pointcover.tracking.store import project_root
from pointcover.training.augmentation import STRENGTHS
from pointcover.training.crops import train_loader
from pointcover.training.fit import EpochResult, Fitted, Watch, fit
from pointcover.training.label_shares import expect_labels, loss_shares
from pointcover.training.losses import PartialLoss, make_loss
from pointcover.training.losses.consistency import ConsistencySettings
from pointcover.training.losses.gated_crf import CrfSettings
from pointcover.training.previews import Previews
from pointcover.training.resume import Resumption
from pointcover.training.self_training import Labels, fit_in_rounds, label_tiles
from pointcover.training.settings import TrainSettings
from pointcover.training.step import Cast, FitSettings
from pointcover.training.strong_augmentation import StrongColours

IMAGES = Path("data/tiles/images")
TILE_SET = Path("data/tiles/tiles.json")
SPARSE = Path("data/sparse")
PSEUDO_LABELS = Path(".pointcover/pseudo_labels")
MODELS = Path("models")
METRICS = Path("metrics/train.json")
CURVES = Path("metrics/curves.csv")
FIGURE = Path("metrics/curves.png")
PREVIEWS = 4  # val tiles that MLflow shows after each epoch

logger = logging.getLogger(__name__)


def train(params: Params) -> None:
    """Write models/model.pt and model.json, and record the run in MLflow."""
    settings = params.train
    tile_set = read_tile_set(TILE_SET)
    tiles = read_index(SPARSE / "index.csv")
    train_tiles = [tile for tile in tiles if tile.split == "train"]
    fabric = make_fabric(settings.device, settings.precision, settings.devices)
    fabric.launch()  # with several devices: from here on this runs in as many processes
    be_deterministic()
    previews = Previews(val_set_of(tiles, tile_set), tile_set.classes, PREVIEWS)
    fit_network = partial(
        fit_in_rounds,
        settings.self_training.rounds,
        Labels(train_tiles, SPARSE / "masks", has_propagated=params.annotate.propagator != "none"),
        partial(fit_round, fabric, params, tile_set, tiles, previews.watch),
        partial(relabel, fabric, params, tile_set, train_tiles),
    )
    if not fabric.is_global_zero:
        fit_network(report=lambda _: None, saved=fabric.broadcast(None))
        return
    described = describe(params) | {"precision": fabric.strategy.precision.precision}
    root = project_root()
    with Resumption(root, fingerprint_of(params, described, fabric.device.type)) as resumption:
        saved = resumption.load()
        with entered_whole(partial(open_run, root, params, resumption)) as run:
            run.log_params(described)
            run.announce_metric(HEADLINE)
            run.log_file(Path("params.yaml"))
            data = digest_values([tile_set.to_json(), [asdict(tile) for tile in tiles]])
            run.log_dataset(Path(params.dataset).stem, data, SPARSE.as_posix(), "training")
            recorded = run.logged_steps("train/loss")
            rows: list[dict[str, Any]] = []

            def report(result: EpochResult) -> None:
                """Record an epoch, in MLflow and for the curves."""
                rows.append(result.row())
                if result.epoch not in recorded:
                    run.log_metrics(result.metrics(), step=result.epoch)
                    run.log_images(previews.take(), step=result.epoch)

            fitted, labels = fit_network(
                report=report, saved=fabric.broadcast(saved), save=resumption.save
            )
            shares = shares_of(settings, tile_set, labels)
            write_outcome(run, settings, tile_set, tiles, fitted, shares, rows)
        resumption.remove()
    shutil.rmtree(PSEUDO_LABELS, ignore_errors=True)
    logger.info("kept epoch %d, sparse val mIoU %.3f", fitted.kept.epoch, fitted.kept.val_miou or 0)


def fit_round(
    fabric: Fabric,
    params: Params,
    tile_set: TileSet,
    tiles: Sequence[Tile],
    watch: Watch,
    labels: Labels,
    report: Callable[[EpochResult], None],
    saved: dict[str, Any] | None,
    save: Callable[[int, dict[str, Any]], None] | None,
) -> Fitted:
    """Fit a new network on labels of train tiles; `watch`, `report` and so on are as in `fit`."""
    settings, size_px = params.train, tile_set.size_px
    readers = count_readers(params.machine.readers, fabric)
    strength, how = STRENGTHS[settings.augmentation], fit_settings(settings, labels)
    crops = train_loader(
        TileDataset(
            labels.labelled,
            IMAGES,
            labels.masks,
            size_px,
            SPARSE / "clicks" if how.needs_clicks else None,
        ),
        crop_px=settings.crop_px,
        zoom=settings.zoom or strength.zoom,
        strength=strength,
        bands=len(tile_set.mean),
        batch_size=settings.batch_size,
        workers=readers,
        seed=params.seed,
        balance=settings.balance,
    )
    val = tile_loader(val_set_of(tiles, tile_set), max(1, settings.batch_size // 2), readers)
    if saved:
        logger.info("going on after epoch %d of %d", len(saved["results"]), settings.epochs)
    loss = loss_of(settings, labels, tile_set)
    return fit(
        fabric,
        new_network(params, tile_set),
        crops,
        val,
        loss,
        tile_set.classes.names,
        how,
        report,
        saved,
        save,
        watch,
    )


def loss_of(settings: TrainSettings, labels: Labels, tile_set: TileSet) -> PartialLoss:
    """Return the loss of a round, weighted by the pixels that its labels have of each class."""
    labelled = [sum(counts) for counts in zip(*(one.pixels for one in labels.tiles), strict=True)]
    return make_loss(
        settings.loss,
        tile_set.classes.names,
        gamma=settings.gamma,
        class_weights=settings.class_weights,
        label_smoothing=settings.label_smoothing,
        balance=labelled if settings.class_weighting == "balanced" else None,
    )


def val_set_of(tiles: Sequence[Tile], tile_set: TileSet) -> TileDataset:
    """Return the val tiles that have a sparse label."""
    labelled = [tile for tile in tiles if tile.split == "val" and sum(tile.pixels) > 0]
    return TileDataset(labelled, IMAGES, SPARSE / "masks", tile_set.size_px)


def relabel(
    fabric: Fabric,
    params: Params,
    tile_set: TileSet,
    tiles: Sequence[Tile],
    weights: dict[str, Tensor],
) -> Labels:
    """Add to the labels of train tiles what a network with these weights is sure of."""
    settings = params.train.self_training
    labelled: Any = None
    if fabric.is_global_zero:  # the others wait for its files
        model = new_network(params, tile_set)
        model.load_state_dict(weights)
        labelled = label_tiles(
            Cast(fabric.to_device(model), fabric).eval(),
            fabric.device,
            tiles,
            IMAGES,
            SPARSE / "masks",
            PSEUDO_LABELS,
            size_px=tile_set.size_px,
            classes=tile_set.classes,
            threshold=settings.threshold,
            top_fraction=settings.top_fraction,
            batch_size=max(1, params.train.batch_size // 2),
        )
    return Labels(fabric.broadcast(labelled), PSEUDO_LABELS, has_propagated=True)


def shares_of(settings: TrainSettings, tile_set: TileSet, labels: Labels) -> tuple[float, ...]:
    """Return each class's share of the loss of a round, by which priors correct its network."""
    tiles, weights = labels.labelled, loss_of(settings, labels, tile_set).class_weights
    how = fit_settings(settings, labels)
    in_crops = expect_labels(
        tiles,
        labels.masks,
        SPARSE / "clicks" if how.needs_clicks else None,
        size_px=tile_set.size_px,
        crop_px=settings.crop_px,
    )
    return loss_shares(
        tiles,
        in_crops,
        weights,
        crop_px=settings.crop_px,
        balance=settings.balance,
        shares=how.shares,
    )


def new_network(params: Params, tile_set: TileSet) -> Segmenter:
    """Build the network with its first weights, the same each time."""
    settings = params.train
    return build_model(
        settings.model,
        settings.encoder,
        weights=settings.weights,
        bands=len(tile_set.mean),
        classes=len(tile_set.classes),
        mean=tile_set.mean,
        std=tile_set.std,
        seed=params.seed,
        width=settings.width,
    )


def fit_settings(settings: TrainSettings, labels: Labels) -> FitSettings:
    """Return what `fit` takes of the settings, for a round with such labels."""
    consistency, crf = settings.consistency, settings.crf
    jitter = consistency.colour_jitter
    colours = StrongColours(
        brightness=jitter,
        contrast=jitter,
        saturation=jitter,
        gain=jitter / 3,
        blur_px=consistency.blur_px,
        cutout=consistency.cutout,
    )
    return FitSettings(
        epochs=settings.epochs,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        ema_decay=settings.ema_decay,
        keep=settings.keep,
        optimiser=settings.optimiser,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        schedule=settings.schedule,
        drop_factor=settings.drop_factor,
        drop_epochs=settings.drop_epochs,
        clip_norm=settings.clip_norm,
        accumulate=settings.accumulate,
        patience=settings.patience,
        propagated_loss_fraction=settings.propagated_loss_fraction
        if labels.has_propagated
        else None,
        consistency=ConsistencySettings(consistency.weight, consistency.threshold, colours),
        crf=CrfSettings(crf.weight, crf.radius_px, crf.sigma_px, crf.sigma_colour, crf.scale),
    )


def open_run(root: Path, params: Params, resumption: Resumption) -> tracking.Run:
    """Begin a run in MLflow, or go on with the one that the killed attempt began."""
    run = tracking.start_run(
        root,
        run_name(params, datetime.now()),
        tags={"dataset": params.dataset},
        resume_id=resumption.run_id,
    )
    resumption.run_id = run.id
    return run


def write_outcome(
    run: tracking.Run,
    settings: TrainSettings,
    tile_set: TileSet,
    tiles: Sequence[Tile],
    fitted: Fitted,
    label_shares: tuple[float, ...],
    rows: Sequence[dict[str, Any]],
) -> None:
    """Write the model, its scores and the curves, and record them."""
    kept = fitted.kept
    outcome = {
        "kept_epoch": kept.epoch,
        "val_miou": kept.val_miou,
        "val_loss": kept.val_loss,
        "val_iou": kept.val_iou,
        "train_loss": kept.train_loss,
        "tiles_without_labels": len([tile for tile in tiles if not sum(tile.pixels)]),
    }
    with publish_folder(MODELS) as out:
        checkpoint = Checkpoint(
            settings.model, settings.encoder, tile_set, outcome, settings.width, label_shares
        )
        digest = save_checkpoint(out, checkpoint, fitted.weights)
    publish_json(METRICS, outcome)
    publish_csv(CURVES, list(rows[0]), [list(row.values()) for row in rows])
    draw_curves(FIGURE, rows)
    run.log_metrics(kept_metrics_of(outcome))
    for file in (MODELS / "model.pt", MODELS / "model.json"):
        run.log_file(file, "model")
    run.log_file(FIGURE, "figures")
    run.set_tags({tracking.MODEL_TAG: digest})


def fingerprint_of(params: Params, described: dict[str, Any], device: str) -> str:
    """Name all that shapes this training; another one never goes on from its state.

    Args:
        params: of the experiment.
        described: what MLflow keeps of them, which cannot change in a run that goes on.
        device: cpu or cuda.
    """
    settings = params.train.model_dump()
    files = {
        path.as_posix(): path
        for path in (IMAGES / "train", IMAGES / "val", TILE_SET, SPARSE, Path(settings["weights"]))
        if path.exists()
    }
    shaping = {"seed": params.seed, "train": settings, "described": described}
    return fingerprint(shaping | environment_of(device), files | code_files(Path(__file__)))


if __name__ == "__main__":
    run_stage(train)
