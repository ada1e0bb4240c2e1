"""The summary printed by `make run`: scores, and where figures, model and MLflow runs are.

Run it by itself with `python -m pointcover.cli.report` from the project's root.
"""

import sys
from pathlib import Path
from typing import Any

from pointcover.runtime.atomic_files import read_json

METRICS = Path("metrics")
COLUMNS = ("iou", "precision", "recall", "f1")


def format_scores(metrics: Path) -> str:
    """Return the scores of the last pipeline run as text.

    Args:
        metrics: the folder that stages write their JSON files to.

    Raises:
        FileNotFoundError: the pipeline has not run to its end.
        ValueError: a file is damaged.
    """
    values: dict[str, Any] = {}
    for stage in ("annotate", "train", "evaluate"):
        values[stage] = read_json(metrics / f"{stage}.json")
    labels, training, test = values["annotate"]["train"], values["train"], values["evaluate"]
    width = max(len(name) for name in test["by_class"])
    lines = [
        "",
        f"Labels    {labels['clicks']} clicks in {labels['tiles']} train tiles, "
        f"{labels['propagated_pixels']} pixels propagated from them: "
        f"{_percent(labels['labelled_fraction'])} of the pixels",
        f"Training  kept epoch {training['kept_epoch']}: mIoU {_shown(training['val_miou'])} on "
        f"sparse validation labels",
        f"Test      mIoU {_shown(test['miou'])}, accuracy {_shown(test['accuracy'])} on "
        f"{test['scored_on']}",
        f"          95 % of resamples: mIoU {_interval(test, 'tiles')} over tiles, "
        f"{_interval(test, 'regions')} over regions",
        f"          kappa {_shown(test['kappa'])}, boundary F1 at 3 px "
        f"{_shown(test['boundary_f1']['3px'])}, calibration error {_shown(test['ece'])}",
        "",
        f"  {'class':{width}}  " + "  ".join(f"{column:>9}" for column in COLUMNS),
        *(
            f"  {name:{width}}  " + "  ".join(f"{_shown(scores[c]):>9}" for c in COLUMNS)
            for name, scores in test["by_class"].items()
        ),
        "",
        "Numbers   metrics/*.json (also: dvc metrics show, dvc exp show), metrics/evaluation",
        "Figures   metrics/panels, metrics/annotate, metrics/curves.png",
        "Model     models/model.pt, described in models/model.json",
        "Runs      source .venv/bin/activate, then mlflow ui, then open http://127.0.0.1:5000",
        "",
    ]
    return "\n".join(lines)


def _percent(fraction: float | None) -> str:
    return "an unknown fraction" if fraction is None else f"{fraction:.2%}"


def _interval(test: dict[str, Any], units: str) -> str:
    interval = test["miou_interval"][units]
    low, high = interval["low"], interval["high"]
    return "-" if low is None else f"{low:.3f} to {high:.3f}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    try:
        sys.stdout.write(format_scores(METRICS))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"report: {error}")
