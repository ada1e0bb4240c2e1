"""Processor seconds of the stages train and evaluate, for each method of a study.

Run it with ``python benchmarks/costs.py studies/rivals.yaml /data/dubai [--points 10]``, with
``PYTHONPATH=src``. In a temporary folder it runs all stages like DVC with the settings of one
experiment of each method, on one thread, without a cache of features. The axes of the study have
their first values, unless --axis names others.

Seconds are of the user and the system. They include four to six seconds in which a stage starts.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from pointcover.study.plan import DENSE, Member, members_of, override, read_study
from pointcover.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
STAGES = ("download", "tile", "annotate", "train", "evaluate")


def run_stage(folder: Path, name: str) -> float:
    """Run a stage; return its processor seconds."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages" / f"{name}.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    after = os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system


def choose(members: list[Member], axis: str | None) -> list[Member]:
    """Return one member of each method: of the first seed and values of axes, or the named one."""
    chosen: dict[str, Member] = {}
    for member in members:
        if member.method != DENSE and (axis is None or axis in dict(member.axes).values()):
            chosen.setdefault(member.method, member)
    return list(chosen.values())


def measure(folder: Path, member: Member, study: Path, source: Path) -> dict[str, object]:
    """Run the stages of an experiment in a new folder; return what the last two took."""
    values = override(member, read_yaml(ROOT / "params.yaml"), study)
    values["source"] = str(source.resolve())
    values["machine"] |= {"feature_cache": None, "workers": 1}
    shutil.copytree(ROOT / "sources", folder / "sources")
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    seconds = {name: run_stage(folder, name) for name in STAGES}
    metrics = json.loads((folder / "metrics/evaluate.json").read_text())
    tiles = json.loads((folder / "metrics/tile.json").read_text())["test"]["tiles"]
    return {
        "method": member.method,
        "points": member.points,
        "fit_cpu_s": round(seconds["train"], 1),
        "evaluate_cpu_s": round(seconds["evaluate"], 1),
        "test_mpx": round(tiles * values["tile"]["size_px"] ** 2 / 1e6, 2),
        "miou": round(metrics["miou"], 3),
    }


def main() -> None:
    """Print a CSV row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("source", type=Path, help="folder of the dataset")
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--axis", help="value of an axis, such as 'other regions'")
    parser.add_argument("--methods", nargs="+", help="by default all")
    arguments = parser.parse_args()
    members = [
        one for one in members_of(read_study(arguments.study)) if one.points == arguments.points
    ]
    writer = None
    for member in choose(members, arguments.axis):
        if arguments.methods and member.method not in arguments.methods:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(Path(folder), member, arguments.study, arguments.source)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
