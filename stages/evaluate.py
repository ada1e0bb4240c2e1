"""Score the model on the test split, and draw predictions and errors."""

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.config.stage import run_stage

if TYPE_CHECKING:
    from pointcover.config.params import Params

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
MODELS = Path("models")
ANNOTATION = Path("metrics/annotate.json")
METRICS = Path("metrics/evaluate.json")
SCORES = Path("metrics/scores.json")
CONFUSION = Path("metrics/confusion.csv")
TABLES = Path("metrics/evaluation")
PANELS = Path("metrics/panels")
logger = logging.getLogger(__name__)


def evaluate(params: "Params") -> None:
    """Write scores, tables, the confusion matrix and panels; end the MLflow run.

    The model is scored on dense masks. If the dataset has none, it is scored on the real
    annotations of the test split, which training has not used.
    """
    from pointcover.config.run_summary import run_name
    from pointcover.evaluation.compared import compared
    from pointcover.evaluation.evaluator import EvaluationFolders, Evaluator
    from pointcover.evaluation.record import EvaluationFiles, record_evaluation
    from pointcover.runtime.atomic_files import publish_json

    folders = EvaluationFolders(TILES, SPARSE, MODELS)
    evaluator = Evaluator(params.evaluate, folders, params.machine)
    splits = evaluator.count_splits()
    result = evaluator.summarise(splits)
    evaluator.write_tables(TABLES, splits)
    evaluator.draw(PANELS, splits[0])
    publish_json(METRICS, result)
    publish_json(SCORES, compared(result, evaluator.checkpoint.training, ANNOTATION))
    evaluator.write_confusion(CONFUSION, splits[0])
    files = EvaluationFiles(ANNOTATION, PANELS, TABLES, TILES, MODELS)
    name = run_name(params, datetime.now())
    record_evaluation(evaluator, result, files, name, Path(params.dataset).stem)
    logger.info(
        "test mIoU %.3f, accuracy %.3f, on %s",
        result["miou"] or 0,
        result["accuracy"] or 0,
        result["scored_on"],
    )


if __name__ == "__main__":
    run_stage(evaluate)
