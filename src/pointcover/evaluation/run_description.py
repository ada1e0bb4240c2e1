"""Describe an evaluated run in Markdown, which MLflow shows above its metrics."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

MOST_CLASSES: Final = 12
"""Classes in the table, those of the most pixels; a description has at most 8000 letters."""


def describe_run(
    result: dict[str, Any], labels: dict[str, Any], run_id: str, panels: Sequence[str]
) -> str:
    """Return a table of the scores, the IoU of each class, and panels of test tiles.

    Args:
        result: contents of metrics/evaluate.json.
        labels: of the train split, in metrics/annotate.json.
        run_id: of the run that has the panels.
        panels: paths of pictures among its artifacts.
    """
    interval = result["miou_interval"]["regions"]
    low, high = interval["low"], interval["high"]
    rows = [
        ("test mIoU", _shown(result["miou"])),
        *([("95 % interval over regions", f"{low:.3f} to {high:.3f}")] if low is not None else []),
        ("accuracy", _shown(result["accuracy"])),
        ("scored on", result["scored_on"]),
        ("point labels", str(labels["clicks"])),
    ]
    by_class = sorted(result["by_class"].items(), key=lambda item: -item[1]["pixels"])
    rows += [(f"IoU {name}", _shown(each["iou"])) for name, each in by_class[:MOST_CLASSES]]
    lines = ["| | |", "|---|---:|", *(_row(name, value) for name, value in rows)]
    pictures = [f"![test tile]({picture_address(run_id, path)})" for path in panels]
    return "\n".join([*lines, "", *pictures])


def picture_address(run_id: str, path: str) -> str:
    """Return the address of an artifact, relative to that of the MLflow server."""
    return f"get-artifact?{urlencode({'path': path, 'run_uuid': run_id})}"


def _row(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
