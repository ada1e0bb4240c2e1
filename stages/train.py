"""Fit the network on sparse masks; no dense mask is read, not even to choose an epoch."""

from pointcover.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pointcover import tracking
from pointcover.augmentation import STRENGTHS
from pointcover.devices import be_deterministic, make_fabric
from pointcover.figures import draw_curves
from pointcover.loading import TileDataset, tile_loader, train_loader
from pointcover.losses import LOSSES
from pointcover.models import build_model
from pointcover.models.checkpoint import Checkpoint, save_checkpoint
from pointcover.params import Params, describe, run_name
from pointcover.publishing import publish_csv, publish_folder, publish_json
from pointcover.resumption import Resumption, fingerprint, loaded_code
from pointcover.stage import entered_whole
from pointcover.tiles import read_index, read_tile_set
from pointcover.training import EpochResult, FitSettings, fit

IMAGES = Path("data/tiles/images")
TILE_SET = Path("data/tiles/tiles.json")
SPARSE = Path("data/sparse")
MODELS = Path("models")
METRICS = Path("metrics/train.json")
CURVES = Path("metrics/curves.csv")
FIGURE = Path("metrics/curves.png")
DECIDING_LIBRARIES = (
    "torch", "lightning-fabric", "segmentation-models-pytorch", "timm", "albumentations", "numpy",
)  # fmt: skip
"""Whose other version may give other bits."""

logger = logging.getLogger(__name__)


def train(params: Params) -> None:
    """Write models/model.pt and model.json, and record the run in MLflow."""
    settings = params.train
    tile_set = read_tile_set(TILE_SET)
    annotated = read_index(SPARSE / "index.csv")
    labelled = [tile for tile in annotated if sum(tile.pixels)]
    train_set, val_set = (
        TileDataset(
            [tile for tile in labelled if tile.split == split], IMAGES, SPARSE / "masks",
            tile_set.size_px,
        )
        for split in ("train", "val")
    )  # fmt: skip
    fabric = make_fabric(settings.device, settings.precision, settings.devices)
    fabric.launch()  # with several devices: from here on this runs in as many processes
    be_deterministic()
    bands = len(tile_set.mean)
    model = build_model(
        settings.model, settings.encoder, weights=settings.weights, bands=bands,
        classes=len(tile_set.classes), mean=tile_set.mean, std=tile_set.std, seed=params.seed,
        width=settings.width,
    )  # fmt: skip
    strength = STRENGTHS[settings.augmentation]
    crops = train_loader(
        train_set, crop_px=settings.crop_px, zoom=settings.zoom or strength.zoom,
        strength=strength, bands=bands, batch_size=settings.batch_size,
        workers=settings.workers, seed=params.seed, balance=settings.balance,
    )  # fmt: skip
    how = FitSettings(
        epochs=settings.epochs, lr=settings.lr, weight_decay=settings.weight_decay,
        warmup=settings.warmup, ema_decay=settings.ema_decay, keep=settings.keep,
        optimiser=settings.optimiser, momentum=settings.momentum, nesterov=settings.nesterov,
        schedule=settings.schedule, drop_factor=settings.drop_factor,
        drop_epochs=settings.drop_epochs, clip_norm=settings.clip_norm,
        accumulate=settings.accumulate, patience=settings.patience,
    )  # fmt: skip
    fit_network = partial(
        fit, fabric, model, crops, tile_loader(val_set, max(1, settings.batch_size // 2)),
        LOSSES["cross_entropy"], tile_set.classes.names, how,
    )  # fmt: skip
    if not fabric.is_global_zero:
        fit_network(report=lambda _: None, saved=fabric.broadcast(None))
        return
    described = describe(params) | {"precision": fabric.strategy.precision.precision}
    root = tracking.project_root()
    with Resumption(root, fingerprint_of(params, described, fabric.device.type)) as resumption:
        saved = resumption.load()

        def open_run() -> tracking.Run:
            """Begin a run in MLflow, or go on with the one that the killed attempt began."""
            run = tracking.start_run(
                root, run_name(params, datetime.now()), tags={"dataset": params.dataset},
                resume_id=resumption.run_id,
            )  # fmt: skip
            resumption.run_id = run.id
            return run

        with entered_whole(open_run) as run:
            run.log_params(described)
            run.log_file(Path("params.yaml"))
            recorded = run.logged_steps("train/loss")
            rows: list[dict[str, Any]] = []
            if saved:
                done = len(saved["results"])
                logger.info("going on after epoch %d of %d", done, settings.epochs)

            def report(result: EpochResult) -> None:
                """Record an epoch, in MLflow and for the curves."""
                rows.append(row_of(result))
                if result.epoch not in recorded:
                    run.log_metrics(metrics_of(result), step=result.epoch)

            fitted = fit_network(report=report, saved=fabric.broadcast(saved), save=resumption.save)
            kept = fitted.kept
            outcome = {
                "kept_epoch": kept.epoch,
                "val_miou": kept.val_miou,
                "val_loss": kept.val_loss,
                "val_iou": kept.val_iou,
                "train_loss": kept.train_loss,
                "tiles_without_labels": len(annotated) - len(labelled),
            }
            with publish_folder(MODELS) as out:
                checkpoint = Checkpoint(
                    settings.model, settings.encoder, tile_set, outcome, settings.width
                )
                digest = save_checkpoint(out, checkpoint, fitted.weights)
            publish_json(METRICS, outcome)
            publish_csv(CURVES, list(rows[0]), [list(row.values()) for row in rows])
            draw_curves(FIGURE, rows)
            run.log_metrics({"kept/val_miou": kept.val_miou, "kept/epoch": kept.epoch})
            for file in (MODELS / "model.pt", MODELS / "model.json"):
                run.log_file(file, "model")
            run.log_file(FIGURE, "figures")
            run.set_tags({tracking.MODEL_TAG: digest})
        resumption.remove()
    logger.info("kept epoch %d, sparse val mIoU %.3f", kept.epoch, kept.val_miou or 0)


def fingerprint_of(params: Params, described: dict[str, Any], device: str) -> str:
    """Name all that shapes this training; another one never goes on from its state.

    Args:
        params: of the experiment.
        described: what MLflow keeps of them, which cannot change in a run that goes on.
        device: cpu or cuda.
    """
    settings = params.train.model_dump(exclude={"workers"})  # who reads tiles has no say
    machine = {
        "device": device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    versions = {name: version(name) for name in DECIDING_LIBRARIES}
    files = {
        path.as_posix(): path
        for path in (IMAGES / "train", IMAGES / "val", TILE_SET, SPARSE, Path(settings["weights"]))
        if path.exists()
    }
    return fingerprint(
        {
            "seed": params.seed, "train": settings, "described": described, "machine": machine,
            "versions": versions,
        },
        files | loaded_code() | {"stage": Path(__file__)},
    )  # fmt: skip


def metrics_of(result: EpochResult) -> dict[str, float | None]:
    """Name an epoch's numbers as MLflow shows them."""
    by_class = {f"val/iou/{name}": iou for name, iou in result.val_iou.items()}
    return {
        "train/loss": result.train_loss,
        "val/loss": result.val_loss,
        "val/miou": result.val_miou,
        "train/lr": result.lr,
        "train/images_per_s": result.images_per_s,
        "train/batches_without_labels": result.batches_without_labels,
        "train/grad_norm": result.grad_norm,
        "train/seconds": result.seconds,
        "train/waited_share": result.waited_share,
        "train/peak_memory_mib": result.peak_memory_mib,
        **by_class,
    }


def row_of(result: EpochResult) -> dict[str, Any]:
    """Give a row of curves.csv: what the same params bring again, so no times."""
    return {
        "epoch": result.epoch,
        "train_loss": result.train_loss,
        "val_loss": result.val_loss,
        "val_miou": result.val_miou,
        **{f"val_iou_{name}": iou for name, iou in result.val_iou.items()},
    }


if __name__ == "__main__":
    run_stage(train)
