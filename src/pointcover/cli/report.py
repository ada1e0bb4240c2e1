"""`pointcover report`: print the scores of the last run, and the paths of its files."""

from pathlib import Path
from typing import Any

import typer

from pointcover.runtime.atomic_files import own_file, read_json

METRICS = Path("metrics")
COLUMNS = ("iou", "precision", "recall", "f1")


def report() -> None:
    """Print the scores of the last run, and the paths of figures, model and MLflow runs.

    It is what `make run` prints at its end; run it in the project's root.
    """
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover report"):
        typer.echo(format_scores(METRICS), nl=False)


def format_scores(metrics: Path) -> str:
    """Return the scores of the last pipeline run as text.

    Args:
        metrics: the folder with the stages' JSON files.

    Raises:
        FileNotFoundError: a stage has not run.
        ValueError: a file is damaged.
    """
    values: dict[str, Any] = {}
    for stage in ("annotate", "train", "evaluate"):
        values[stage] = read_json(metrics / f"{stage}.json")
    with own_file(metrics):
        return _format(values)


def _format(values: dict[str, Any]) -> str:
    labels, training, test = values["annotate"]["train"], values["train"], values["evaluate"]
    width = max(len(name) for name in test["by_class"])
    lines = [
        "",
        f"Labels    {labels['clicks']} point labels in {labels['tiles']} train tiles, "
        f"{labels['propagated_pixels']} pixels by label propagation: "
        f"{_percent(labels['labelled_fraction'])} of the pixels",
        f"Training  best epoch {training['kept_epoch']}: mIoU {_shown(training['val_miou'])} on "
        f"sparse validation labels",
        f"Test      mIoU {_shown(test['miou'])}, accuracy {_shown(test['accuracy'])} on "
        f"{test['scored_on']}",
        f"          95 % bootstrap interval: mIoU {_interval(test, 'tiles')} over tiles, "
        f"{_interval(test, 'regions')} over regions",
        f"          kappa {_shown(test['kappa'])}, boundary F1 at 3 px "
        f"{_shown(test['boundary_f1']['3px'])}, expected calibration error {_shown(test['ece'])}",
        "",
        f"  {'class':{width}}  " + "  ".join(f"{column:>9}" for column in COLUMNS),
        *(
            f"  {name:{width}}  " + "  ".join(f"{_shown(scores[c]):>9}" for c in COLUMNS)
            for name, scores in test["by_class"].items()
        ),
        "",
        "Numbers   metrics/*.json, metrics/evaluation; dvc metrics show, dvc exp show",
        "Figures   metrics/panels, metrics/annotate, metrics/curves.png",
        "Model     models/model.pt, described in models/model.json",
        "Runs      source .venv/bin/activate, then pointcover ui, then open the address it prints",
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
