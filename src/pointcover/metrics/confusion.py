"""Scores of a split, from ONE confusion matrix; rows are true classes, columns predicted ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX

Confusion = npt.NDArray[np.int64]


def confusion_matrix(prediction: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Count pixels by true and predicted class, leaving out the unlabelled ones.

    Args:
        prediction: (B, H, W) class ids, any integer type.
        mask: (B, H, W) uint8 class ids, IGNORE_INDEX where unlabelled.
        classes: how many classes there are.

    Returns:
        (classes, classes) int64 on the device of `mask`; rows true, columns predicted.

    Raises:
        ValueError: a labelled pixel has or is given an id that is no class.
    """
    # Every pixel is counted, at a row for each id a mask can hold and a column for each class, one
    # for ids below and one for ids above: choosing the labelled ones takes ten times as long.
    columns = classes + 2
    cells = mask.int() * columns + prediction.int().clamp(-1, classes) + 1
    counts = torch.bincount(cells.flatten(), minlength=(IGNORE_INDEX + 1) * columns)
    labelled = counts.reshape(IGNORE_INDEX + 1, columns)[:IGNORE_INDEX]
    confusion = labelled[:classes, 1:-1].clone()
    strange = int(labelled.sum() - confusion.sum())
    if strange:
        raise ValueError(
            f"{strange} labelled pixels have, or are given, an id that is no class: wanted 0 to "
            f"{classes - 1}. Tiles and model are of different class tables: run `dvc repro`"
        )
    return confusion


def scores(confusion: Confusion, names: Sequence[str]) -> dict[str, Any]:
    """Compute scores by class and over all classes from a confusion matrix.

    A ratio with nothing in its denominator is None: the IoU of a class that is neither true nor
    predicted anywhere, the recall of one that is never true, the precision of one that is never
    predicted. Means leave such classes out, and `absent_classes` counts the missing IoUs (a
    common library gives an absent class 1.0, which flatters).

    Args:
        confusion: (C, C) int64; rows true, columns predicted.
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
    """Average the values that are not None; None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
