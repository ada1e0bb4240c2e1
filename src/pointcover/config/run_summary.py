"""The settings that MLflow shows for an experiment."""

from datetime import datetime
from pathlib import Path

from pointcover.config.params import Params


def describe(params: Params) -> dict[str, str | int | float | None]:
    """Return the settings in which experiments usually differ, flat, as columns for the MLflow UI.

    They are only logged: no output of a stage may depend on them.
    """
    annotate, train = params.annotate, params.train
    return {
        "dataset": params.dataset,
        "points": params.points,
        "seed": params.seed,
        "sampler": annotate.sampler,
        "unit": annotate.unit,
        "propagator": annotate.propagator,
        "tile_size_px": params.tile.size_px,
        "downsample": params.tile.downsample,
        "model": train.model,
        "encoder": train.encoder,
        "weights": train.initial_weights,
        "width": train.width,
        "epochs": train.epochs,
        "batch_size": train.batch_size,
        "crop_px": train.crop_px,
        "lr": train.lr,
        "loss": train.loss,
        "propagated_loss_fraction": train.propagated_loss_fraction,
        "consistency": train.consistency.weight,
        "crf": train.crf.weight,
        "self_training": train.self_training.rounds,
    }


def run_name(params: Params, now: datetime) -> str:
    """Return a name for a run that has none from DVC: dataset, points and start time."""
    return f"{Path(params.dataset).stem}-{params.points}-{now:%Y%m%d-%H%M%S}"
