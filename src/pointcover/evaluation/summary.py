"""Summarise the scores of a split, and write them as tables by region, class and confidence.

Rows of a table have the columns of its header; None is an empty cell.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pointcover.evaluation.accumulate import SplitCounts
from pointcover.evaluation.tile_confusions import write_tile_confusions
from pointcover.metrics.boundaries import DISTANCES_PX, BoundaryCounts, boundary_f1
from pointcover.metrics.calibration import Bin, expected_calibration_error, reliability
from pointcover.metrics.confusion import Confusion, mean_of_known
from pointcover.metrics.scores import are_scored, interval_of, split_scores, spread_of
from pointcover.runtime.atomic_files import publish_csv

Row = tuple[object, ...]
CONFUSION_HEADER: Final = ("true", "predicted", "pixels", "fraction")
ORACLE: Final = "scored on dense masks of the val split, which had no part in choosing the model"
DENSE, HELD_OUT = "dense masks", "held-out annotations"
_SCORES: Final = ("pixels", "miou", "accuracy", "mean_f1", "kappa", "fwiou", "absent_classes")
_BY_CLASS: Final = ("pixels", "iou", "precision", "recall", "f1")


def summarise(
    counts: SplitCounts,
    names: Sequence[str],
    left_out: Sequence[str],
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Return the scores of a split with the keys of metrics/evaluate.json.

    Args:
        counts: of the split.
        names: of all classes.
        left_out: names of the classes that are not scored.
        generator: draws tiles and regions for the intervals of mIoU.
    """
    by_region = np.array([counts.confusions[p].sum(axis=0) for p in counts.regions().values()])
    scores = split_scores(counts.confusions.sum(axis=0), names, left_out)
    by_class = scores.pop("by_class")
    scored = are_scored(names, left_out)
    boundary = mean_boundary_f1(counts.boundaries.sum(axis=0), names, left_out)
    mious = [split_scores(confusion, names, left_out)["miou"] for confusion in by_region]
    return {
        **scores,
        "boundary_f1": {f"{px}px": value for px, value in zip(DISTANCES_PX, boundary, strict=True)},
        "ece": expected_calibration_error(reliability(counts.confidences)),
        "miou_interval": {
            "tiles": interval_of(counts.confusions, scored, "tile", generator),
            "regions": interval_of(by_region, scored, "region", generator),
        },
        "regions": spread_of(mious),
        "by_class": by_class,
    }


def protocol_of(is_dense: bool, erode_px: int, left_out: Sequence[str]) -> dict[str, Any]:
    """Return the kind of labels, and the pixels and classes that are left out."""
    protocol: dict[str, Any] = {"scored_on": DENSE if is_dense else HELD_OUT}
    if erode_px:
        protocol["erode_px"] = erode_px
    if left_out:
        protocol["left_out"] = list(left_out)
    if erode_px or not is_dense:
        what = "eroded masks" if erode_px else HELD_OUT
        protocol["no_boundary_f1"] = f"{what} do not show where boundaries are"
    return protocol


def oracle_scores(
    counts: SplitCounts, names: Sequence[str], left_out: Sequence[str]
) -> dict[str, Any]:
    """Return the scores on dense validation masks, with a note that they choose no model."""
    scores = split_scores(counts.confusions.sum(axis=0), names, left_out)
    return {"note": ORACLE} | {key: scores[key] for key in _SCORES}


def write_tables(
    folder: Path, splits: Sequence[SplitCounts], names: Sequence[str], left_out: Sequence[str]
) -> None:
    """Write the tables of regions, classes, reliability and tiles.

    Args:
        folder: of the tables.
        splits: the test split, then others, of which only regions and tiles are written.
        names: of all classes.
        left_out: names of the classes that are not scored.
    """
    test = splits[0]
    by_class = split_scores(test.confusions.sum(axis=0), names, left_out)["by_class"]
    publish_csv(
        folder / "regions.csv",
        region_header(list(by_class)),
        [row for split in splits for row in region_rows(split, names, left_out)],
    )
    boundaries = test.boundaries.sum(axis=0)
    publish_csv(folder / "classes.csv", class_header(), class_rows(by_class, boundaries, names))
    publish_csv(folder / "reliability.csv", Bin._fields, reliability(test.confidences))
    write_tile_confusions(
        folder / "tiles.csv",
        [tile for split in splits for tile in split.tiles],
        np.concatenate([split.confusions for split in splits]),
        names,
    )


def region_header(scored: Sequence[str]) -> list[str]:
    """Return the columns of `region_rows`."""
    return [
        "split",
        "region",
        "tiles",
        *_SCORES,
        *(f"boundary_f1_{px}px" for px in DISTANCES_PX),
        *(f"iou {name}" for name in scored),
    ]


def region_rows(
    counts: SplitCounts, names: Sequence[str], left_out: Sequence[str]
) -> Iterator[Row]:
    """Yield the scores of each region, from its own confusion matrix and boundary counts."""
    for region, places in counts.regions().items():
        scores = split_scores(counts.confusions[places].sum(axis=0), names, left_out)
        yield (
            counts.tiles[places[0]].split,
            region,
            len(places),
            *(scores[key] for key in _SCORES),
            *mean_boundary_f1(counts.boundaries[places].sum(axis=0), names, left_out),
            *(entry["iou"] for entry in scores["by_class"].values()),
        )


def mean_boundary_f1(
    counts: BoundaryCounts, names: Sequence[str], left_out: Sequence[str]
) -> list[float | None]:
    """Return for each distance the mean boundary F1 of the scored classes that have a value."""
    kept = [place for place, name in enumerate(names) if name not in left_out]
    return [mean_of_known([row[place] for place in kept]) for row in boundary_f1(counts)]


def class_header() -> list[str]:
    """Return the columns of `class_rows`."""
    return ["class", *_BY_CLASS, *(f"boundary_f1_{px}px" for px in DISTANCES_PX)]


def class_rows(
    by_class: dict[str, dict[str, Any]], counts: BoundaryCounts, names: Sequence[str]
) -> Iterator[Row]:
    """Yield the scores of each scored class.

    Args:
        by_class: from `split_scores`.
        counts: (distances, C, 4) int64.
        names: of all classes.
    """
    by_distance = boundary_f1(counts)
    for place, name in enumerate(names):
        if name in by_class:
            values = [by_class[name][key] for key in _BY_CLASS]
            yield (name, *values, *(row[place] for row in by_distance))


def confusion_rows(
    confusion: Confusion, names: Sequence[str]
) -> Iterator[tuple[str, str, int, float]]:
    """Yield a confusion matrix as rows of CONFUSION_HEADER; `fraction` is of the row."""
    totals = np.asarray(confusion).sum(axis=1).tolist()
    for i, true in enumerate(names):
        for j, predicted in enumerate(names):
            pixels = int(confusion[i, j])
            yield true, predicted, pixels, round(pixels / totals[i], 6) if totals[i] else 0
