"""Collect the results of experiments in flat records, and store them as CSV."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointcover.runtime.atomic_files import publish_csv

_HEAD = ("method", "axes", "points", "seed", "experiment")
_NUMBERS = (
    "miou",
    "accuracy",
    "val_miou",
    "clicks",
    "tiles",
    "clicks_per_tile",
    "labelled_fraction",
    "label_error",
    "area_km2",
    "seconds",
)
_IOU = "iou/"


@dataclass(frozen=True)
class Record:
    """Results of one finished experiment; None is a value that does not exist."""

    method: str
    axes: tuple[tuple[str, Any], ...]
    points: int
    seed: int
    experiment: str
    """Name of the DVC experiment and of the MLflow run."""
    numbers: Mapping[str, float | None]
    """Values of `_NUMBERS`: scores, and number, coverage and error of the train split's labels."""
    iou: Mapping[str, float | None] = field(default_factory=dict)
    """Test IoU by class."""


def numbers_of(
    tiling: Mapping[str, Any],
    annotation: Mapping[str, Any],
    training: Mapping[str, Any],
    test: Mapping[str, Any],
    seconds: float | None,
) -> dict[str, float | None]:
    """Select the numbers of a record from the stages' metrics.

    Args:
        tiling: metrics/tile.json.
        annotation: metrics/annotate.json.
        training: metrics/train.json.
        test: metrics/evaluate.json.
        seconds: duration of the experiment; None if its result existed already.
    """
    labels = annotation["train"]
    return {
        "miou": test["miou"],
        "accuracy": test["accuracy"],
        "val_miou": training["val_miou"],
        "clicks": labels["clicks"],
        "tiles": labels["tiles"],
        "clicks_per_tile": labels["clicks_per_tile"],
        "labelled_fraction": labels["labelled_fraction"],
        "label_error": labels["error"],
        "area_km2": tiling["train"]["km2"],
        "seconds": seconds,
    }


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a CSV with all values that a report needs, one row for each experiment."""
    records = list(records)
    classes = list(dict.fromkeys(name for record in records for name in record.iou))
    rows = [
        [
            record.method,
            json.dumps(dict(record.axes)),
            record.points,
            record.seed,
            record.experiment,
            *(record.numbers.get(name) for name in _NUMBERS),
            *(record.iou.get(name) for name in classes),
        ]
        for record in records
    ]
    publish_csv(path, [*_HEAD, *_NUMBERS, *(f"{_IOU}{name}" for name in classes)], rows)


def read_records(path: Path) -> list[Record]:
    """Read records that `write_records` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or another table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_read_row(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist: run the study, which writes it, or name the folder with --out"
        ) from None
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not a table of a study's results ({error!r}): wanted the columns "
            f"{', '.join((*_HEAD, *_NUMBERS))}. Run the study again, which writes it"
        ) from None


def _read_row(row: Mapping[str, str]) -> Record:
    iou = {key.removeprefix(_IOU): _number(row[key]) for key in row if key.startswith(_IOU)}
    return Record(
        row["method"],
        tuple(json.loads(row["axes"]).items()),
        int(row["points"]),
        int(row["seed"]),
        row["experiment"],
        {name: _number(row[name]) for name in _NUMBERS},
        iou,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def scores_by_seed(records: Sequence[Record]) -> dict[int, float]:
    """Return test mIoU by seed, without seeds that have none."""
    return {
        record.seed: record.numbers["miou"]
        for record in records
        if record.numbers["miou"] is not None
    }
