"""Compute the reported scores of a split: with excluded classes, kappa, and spread of regions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcover.metrics.bootstrap import LEAST_UNITS, miou_interval
from pointcover.metrics.confusion import Confusion, mean_of_known, scores


def check_left_out(left_out: Sequence[str], names: Sequence[str]) -> None:
    """Check the classes that are left out of scoring.

    Raises:
        ValueError: a name is not a class, or fewer than two classes are left.
    """
    unknown = sorted(set(left_out) - set(names))
    if unknown:
        raise ValueError(
            f"evaluate.leave_out names {', '.join(unknown)}, wanted names among {', '.join(names)}"
        )
    if len(set(names) - set(left_out)) < 2:
        raise ValueError(
            f"evaluate.leave_out names {', '.join(left_out)}, so fewer than two classes of "
            f"{', '.join(names)} are scored: leave out fewer"
        )


def are_scored(names: Sequence[str], left_out: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return (C,) bool: whether a class is scored."""
    return np.array([name not in left_out for name in names])


def split_scores(
    confusion: Confusion, names: Sequence[str], left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the scores of a split, or of one of its regions, from its confusion matrix.

    True pixels of a class that is left out are ignored, so its row is 0. Other pixels that are
    predicted as such a class are wrong, and count against their true class. The class itself has no
    scores, and is not in the means.

    Args:
        confusion: (C, C) int64; rows are true classes, columns predicted.
        names: the C class names.
        left_out: names of classes that are not scored.

    Returns:
        the scores of `confusion.scores` for the scored classes, and `kappa` and `fwiou`.
    """
    result = scores(confusion, names)
    by_class = {name: entry for name, entry in result["by_class"].items() if name not in left_out}
    ious = [entry["iou"] for entry in by_class.values()]
    return {
        "miou": mean_of_known(ious),
        "accuracy": result["accuracy"],
        "mean_f1": mean_of_known([entry["f1"] for entry in by_class.values()]),
        "kappa": cohen_kappa(confusion),
        "fwiou": frequency_weighted_iou(by_class),
        "absent_classes": sum(iou is None for iou in ious),
        "pixels": result["pixels"],
        "by_class": by_class,
    }


def cohen_kappa(confusion: Confusion) -> float | None:
    """Return Cohen's kappa, the accuracy in excess of chance agreement.

    See Cohen (A coefficient of agreement for nominal scales, 1960). It is None without pixels, and
    if all pixels are of one class in truth and prediction, where chance agreement is 1.
    """
    total = int(confusion.sum())
    if not total:
        return None
    # In Python's integers, since products of pixel counts exceed 2⁶³.
    true, predicted = confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist()
    by_chance = sum(row * column for row, column in zip(true, predicted, strict=True))
    if by_chance == total**2:
        return None
    return float((int(np.trace(confusion)) * total - by_chance) / (total**2 - by_chance))


def frequency_weighted_iou(by_class: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the mean IoU weighted by true pixels (Long et al., CVPR 2015); None without pixels."""
    total = sum(entry["pixels"] for entry in by_class.values())
    if not total:
        return None
    weighted = sum(entry["iou"] * entry["pixels"] for entry in by_class.values() if entry["pixels"])
    return float(weighted / total)


def interval_of(
    confusions: Confusion, scored: npt.NDArray[np.bool_], unit: str, generator: np.random.Generator
) -> dict[str, Any]:
    """Return the 95 % bootstrap interval of mIoU over units, as `low` and `high`.

    If there are too few units, both are None, and `reason` says why.

    Args:
        confusions: (units, C, C) int64, one for each tile or region.
        scored: (C,) bool, the classes in the mean.
        unit: name of a unit in the singular.
        generator: draws the units.
    """
    interval = miou_interval(confusions, scored, generator)
    if interval is None:
        count = int((confusions.sum(axis=(1, 2)) > 0).sum())
        reason = f"{count} {unit}{'' if count == 1 else 's'} with labels, wanted {LEAST_UNITS}"
        return {"low": None, "high": None, "reason": reason}
    return {"low": interval[0], "high": interval[1]}


def spread_of(mious: Sequence[float | None]) -> dict[str, Any]:
    """Return the spread of regions' mIoUs; the sample standard deviation of one region is None."""
    known = [miou for miou in mious if miou is not None]
    return {
        "count": len(known),
        "miou_lowest": min(known, default=None),
        "miou_highest": max(known, default=None),
        "miou_std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }
