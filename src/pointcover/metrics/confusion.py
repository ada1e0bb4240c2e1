"""Compute scores from a confusion matrix: rows are true classes, columns predicted classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX

Confusion = npt.NDArray[np.int64]


def confusion_matrix(prediction: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Count labelled pixels by true and predicted class.

    Args:
        prediction: (B, H, W) class ids, any integer type.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
        classes: number of classes.

    Returns:
        (classes, classes) int64 on the device of `mask`; rows are true classes, columns predicted.

    Raises:
        ValueError: a labelled pixel has, or is predicted as, an id that is not a class.
    """
    # All pixels are counted, since selecting the labelled ones takes ten times as long. There is a
    # row for each possible id of a mask, and a column for each class, for ids below and above.
    columns = classes + 2
    cells = mask.int() * columns + prediction.int().clamp(-1, classes) + 1
    counts = torch.bincount(cells.flatten(), minlength=(IGNORE_INDEX + 1) * columns)
    labelled = counts.reshape(IGNORE_INDEX + 1, columns)[:IGNORE_INDEX]
    confusion = labelled[:classes, 1:-1].clone()
    unknown = int(labelled.sum() - confusion.sum())
    if unknown:
        raise ValueError(
            f"{unknown} labelled pixels have, or are predicted as, an id that is not a class: "
            f"wanted 0 to {classes - 1}. Tiles and model have different class tables: run "
            f"`dvc repro`"
        )
    return confusion


def scores(confusion: Confusion, names: Sequence[str]) -> dict[str, Any]:
    """Return scores by class and over all classes.

    A ratio with a denominator of 0 is None: the IoU of a class that is neither true nor predicted
    anywhere, the recall of one that is never true, the precision of one that is never predicted.
    Means leave such classes out, and `absent_classes` counts the missing IoUs. (Some libraries give
    an absent class an IoU of 1, which raises the mean.)

    Args:
        confusion: (C, C) int64; rows are true classes, columns predicted.
        names: the C class names.

    Returns:
        `miou`, `accuracy`, `mean_f1`, `absent_classes`, `pixels`, and `by_class` with `iou`,
        `precision`, `recall`, `f1`, `pixels` (true ones).
    """
    hits = np.diag(confusion)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    by_class = {
        name: {
            "iou": _ratio(hits[i], true[i] + predicted[i] - hits[i]),
            "precision": _ratio(hits[i], predicted[i]),
            "recall": _ratio(hits[i], true[i]),
            "f1": _ratio(2 * hits[i], true[i] + predicted[i]),
            "pixels": int(true[i]),
        }
        for i, name in enumerate(names)
    }
    ious = [entry["iou"] for entry in by_class.values()]
    return {
        "miou": mean_of_known(ious),
        "accuracy": _ratio(hits.sum(), confusion.sum()),
        "mean_f1": mean_of_known([entry["f1"] for entry in by_class.values()]),
        "absent_classes": sum(iou is None for iou in ious),
        "pixels": int(confusion.sum()),
        "by_class": by_class,
    }


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
