"""Select the ten numbers of metrics/scores.json, by which experiments are compared in DVC's tables.

The table has one column a key, so keys are short, their number does not depend on the classes, and
those without a value are left out, which DVC shows as `-`.
"""

from pathlib import Path
from typing import Any

from pointcover.runtime.atomic_files import own_file, read_json


def compared(
    result: dict[str, Any], training: dict[str, Any], annotation: Path
) -> dict[str, float]:
    """Return the scores and the cost of an experiment, the most important ones first.

    Args:
        result: contents of metrics/evaluate.json.
        training: contents of metrics/train.json.
        annotation: metrics/annotate.json.

    Raises:
        ValueError: `annotation` is damaged.
    """
    with own_file(annotation):
        clicks = read_json(annotation)["train"]["clicks"]
    interval = result["miou_interval"]["regions"]
    ious = [scores["iou"] for scores in result["by_class"].values()]
    values = {
        "miou": result["miou"],
        "lowest_iou": min((iou for iou in ious if iou is not None), default=None),
        "accuracy": result["accuracy"],
        "mean_f1": result["mean_f1"],
        "clicks": clicks,
        "val_miou": training.get("val_miou"),  # a model from elsewhere may lack it
        "boundary_f1": result["boundary_f1"]["3px"],
        "ece": result["ece"],
        "miou_low": interval["low"],
        "miou_high": interval["high"],
    }
    return {name: value for name, value in values.items() if value is not None}
