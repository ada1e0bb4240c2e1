"""Record an evaluation in the MLflow run that trained the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pointcover.evaluation.evaluator import Evaluator
from pointcover.evaluation.run_description import describe_run
from pointcover.runtime.atomic_files import own_file, read_json
from pointcover.runtime.signals import entered_whole
from pointcover.tracking.logged_models import ScoredOn
from pointcover.tracking.metric_names import cost_of, test_metrics_of
from pointcover.tracking.runs import ModelNotes, Run, resume_training_run
from pointcover.tracking.store import project_root

SHOWN_PANELS: Final = 2
"""Number of panels in the description of a run."""

MOST_PANELS: Final = 8
"""Maximum number of panels of each kind that are recorded."""


@dataclass(frozen=True)
class EvaluationFiles:
    """Files and folders that are recorded in MLflow."""

    annotation: Path
    """metrics/annotate.json."""
    panels: Path
    tables: Path
    tiles: Path
    models: Path


def record_evaluation(
    evaluator: Evaluator, result: dict[str, Any], files: EvaluationFiles, name: str, dataset: str
) -> None:
    """Record scores, figures and tables; register the model if it is the best one.

    Args:
        evaluator: of the model.
        result: contents of metrics/evaluate.json.
        files: further files to record.
        name: of a new run, if no run trained this model.
        dataset: name of the dataset.
    """
    others = evaluator.other_models

    def open_run() -> Run:
        """Resume the run that trained the model."""
        return resume_training_run(
            project_root(),
            evaluator.model_sha256,
            name,
            models=1 + others,
        )

    split = evaluator.split_digest
    with own_file(files.annotation):
        labels = read_json(files.annotation)["train"]
        cost = cost_of(labels)
    with entered_whole(open_run) as run:
        run.log_dataset(dataset, split, files.tiles.as_posix(), "evaluation")
        if others:
            run.log_metrics(test_metrics_of(result) | cost)
        else:
            run.log_model(files.models, evaluator.checkpoint.training["kept_epoch"])
            run.log_scores(test_metrics_of(result), ScoredOn(dataset, split))
            run.log_metrics(cost)
        run.log_file(files.annotation)
        run.log_dict(result, "test.json")
        for figure in ("confusion", "classes", "reliability"):
            run.log_file(files.panels / f"{figure}.png", "figures")
        shown: list[str] = []
        for kind in ("fixed", "worst", "train"):
            for picture in sorted(files.panels.glob(f"{kind}_*.png"))[:MOST_PANELS]:
                run.log_file(picture, "panels")
                shown.append(f"panels/{picture.name}")
        about = describe_run(result, labels, run.id, shown[:SHOWN_PANELS])
        run.describe(about)
        for table in sorted(files.tables.glob("*.csv")):
            run.log_file(table, "evaluation")
        if not others and result["miou"] is not None:
            run.register_champion(
                dataset, result["miou"], split, ModelNotes(about, version_tags(evaluator, labels))
            )


def version_tags(evaluator: Evaluator, labels: dict[str, Any]) -> dict[str, str]:
    """Return tags of a registered version: classes, number of labels, digest of the weights."""
    return {
        "classes": ", ".join(evaluator.classes.names),
        "clicks": str(labels["clicks"]),
        "model_sha256": evaluator.model_sha256,
    }
