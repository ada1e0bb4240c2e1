"""Precision and recall of `pointcover check-labels` on labels whose truth is known.

Run it with ``PYTHONPATH=src python benchmarks/label_errors.py`` (half an hour on two cores), or on
your own dataset with ``--dataset dubai --source FOLDER``. Clicks are simulated on dense masks with
`annotate.label_noise_rate`; a label is wrong where it differs from the dense mask. Clicks of one
seed lie on the same pixels at all rates, so features are computed once a seed.

Each row is a filter, with mean and range over the seeds: how many labels are doubted, which part of
them is wrong (precision), and which part of the wrong ones is found (recall). The row `best
possible` is a list of as many labels as are wrong, by rank alone.
"""
# ruff: noqa: T201

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from pointcover.config.params import load_params
from pointcover.label_errors.check import CheckedLabels, LabelCheck
from pointcover.label_errors.confident_learning import Flags, Ids
from pointcover.label_errors.cross_validation import classifier_of
from pointcover.label_errors.filters import FILTERS, find_doubted
from pointcover.label_errors.labels import Labels
from pointcover.label_errors.settings import LabelErrorSettings
from pointcover.label_errors.workspace import find_workspace_labels
from pointcover.raster.raster_io import RasterReader
from pointcover.tileset.tiles import raster_path

ROOT = Path(__file__).parents[1]
BY_RANK = "ranked, as many as are wrong"


def set_params(folder: Path, changes: dict[str, object]) -> None:
    """Write params.yaml of the project with changes, by dotted key."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *steps, last = key.split(".")
        section = values
        for step in steps:
            section = section[step]
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def run_stage(folder: Path, name: str) -> None:
    """Run a stage of the pipeline in a folder."""
    (folder / "sources").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages" / f"{name}.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


def read_truth(tiles: Path, labels: Labels, check: LabelCheck) -> Ids:
    """Return the class of the dense mask at each label."""
    truth = np.zeros(len(labels.class_ids), np.int64)
    masks: dict[Path, np.ndarray] = {}  # type: ignore[type-arg]
    for number, place in enumerate(labels.tiles):
        tile = check.source.tiles[place]
        path = raster_path(tiles / "masks", tile.split, tile.image)
        if path not in masks:
            dataset = RasterReader(path).dataset
            masks[path] = dataset.read(1)
        truth[number] = masks[path][labels.rows[number], labels.cols[number]]
    return truth


def score(checked: CheckedLabels, wrong: Flags) -> dict[str, tuple[float, float, float]]:
    """Return the number of doubted labels, precision and recall of each filter."""
    known = np.flatnonzero(checked.is_known)
    probabilities, given = checked.probabilities[known], checked.labels.class_ids[known]
    lists = {name: known[find_doubted(probabilities, given, name)] for name in FILTERS}
    lists[BY_RANK] = np.argsort(checked.margins, kind="stable")[: int(wrong.sum())]
    return {
        name: (len(found), float(wrong[found].mean()), float(wrong[found].sum() / wrong.sum()))
        for name, found in lists.items()
        if len(found)
    }


def measure(folder: Path, seed: int, args: argparse.Namespace, points: int, group_by: str) -> None:
    """Print one table for each rate and seed."""
    labels: Labels | None = None
    for rate in args.rates:
        changes = {"points": points, "seed": seed, "annotate.label_noise_rate": rate}
        set_params(folder, args.changes | changes)
        run_stage(folder, "annotate")
        source = find_workspace_labels(folder / "data/tiles", folder / "data/sparse")
        settings = LabelErrorSettings(group_by=group_by, seed=seed, rounds=args.rounds)
        train = classifier_of(load_params(folder / "params.yaml").train)
        check = LabelCheck.prepare(source, train, settings)
        if labels is None:
            labels = check.read()
            truth = read_truth(folder / "data/tiles", labels, check)
        given = class_ids_at(source.tiles, labels)
        noisy = replace(
            labels,
            class_ids=given,
            pixels=replace(labels.pixels, classes=given[labels.numbers]),
        )
        wrong = given != truth
        for name, (count, precision, recall) in score(check.judge(noisy), wrong).items():
            values = f"{count},{precision:.4f},{recall:.4f}"
            print(f"{points},{group_by},{rate},{seed},{name},{len(given)},{values}", flush=True)


def class_ids_at(tiles: Sequence, labels: Labels) -> Ids:  # type: ignore[type-arg]
    """Return the given class of each label, in tiles with the same clicks at another rate."""
    found = np.zeros(len(labels.class_ids), np.int64)
    for number, place in enumerate(labels.tiles):
        tile = tiles[place]
        row, col = labels.rows[number] - tile.row_off, labels.cols[number] - tile.col_off
        found[number] = tile.clicks[row, col]
    return found


def main() -> None:
    """Measure all combinations."""
    parser = argparse.ArgumentParser(description="Precision and recall of check-labels.")
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--source", default="sources", help="folder of the dataset")
    parser.add_argument("--points", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=LabelErrorSettings().rounds)
    parser.add_argument("--group-by", nargs="+", default=["tile"])
    args = parser.parse_args()
    args.changes = {"dataset": args.dataset, "source": args.source}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_params(folder, args.changes)
        for stage in ("download", "tile"):
            run_stage(folder, stage)
        print("points,group_by,rate,seed,filter,labels,doubted,precision,recall")
        for points in args.points:
            for group_by in args.group_by:
                for seed in args.seeds:
                    measure(folder, seed, args, points, group_by)


if __name__ == "__main__":
    main()
