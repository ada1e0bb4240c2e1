"""Fit the model on sparse masks; no dense mask is read, not even to choose an epoch."""

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.config.stage import run_stage

if TYPE_CHECKING:
    from pointcover.config.params import Params

IMAGES = Path("data/tiles/images")
TILE_SET = Path("data/tiles/tiles.json")
SPARSE = Path("data/sparse")
PSEUDO_LABELS = Path(".pointcover/pseudo_labels")
MODELS = Path("models")
METRICS = Path("metrics/train.json")
CURVES = Path("metrics/curves.csv")
FIGURE = Path("metrics/curves.png")

logger = logging.getLogger(__name__)


def train(params: "Params") -> None:
    """Write models/model.pt and model.json, and record the run in MLflow."""
    from pointcover.config.run_summary import describe, run_name
    from pointcover.tracking.store import project_root
    from pointcover.training.data import TrainingData
    from pointcover.training.outputs import TrainingOutputs
    from pointcover.training.record import TrainingRecord, open_run
    from pointcover.training.resume import Resumption
    from pointcover.training.run import TrainingRun

    outputs = TrainingOutputs(MODELS, METRICS, CURVES, FIGURE)
    propagates = params.annotate.propagator != "none"
    data = TrainingData.read(TILE_SET, IMAGES, SPARSE, PSEUDO_LABELS, has_propagated=propagates)
    training = TrainingRun.start(params.train, params.seed, data, params.machine)
    if not training.is_main_process:
        training.assist()
        return
    root, name = project_root(), run_name(params, datetime.now())
    settings = describe(params) | {"precision": training.precision}
    fingerprint = training.fingerprint(settings, TILE_SET, Path(__file__))
    with Resumption(root, fingerprint) as resumption:
        saved = resumption.load()  # first: after a damaged state a new run is opened
        with open_run(root, name, params.dataset, resumption) as run:
            record = TrainingRecord(run, data)
            record.begin(settings, Path("params.yaml"), Path(params.dataset).stem)
            fitted, labels = training.fit(record.callbacks(resumption), saved)
            checkpoint = training.checkpoint(fitted, labels)
            digest = outputs.write(checkpoint, fitted.weights, record.rows)
            record.end(checkpoint.training, outputs, digest)
        resumption.remove()
    training.remove_pseudo_labels()
    logger.info("kept epoch %d, sparse val mIoU %.3f", fitted.kept.epoch, fitted.kept.val_miou or 0)


if __name__ == "__main__":
    run_stage(train)
