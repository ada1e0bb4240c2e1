"""Processor seconds of the stages train and evaluate, for each method of a study.

Run it with ``python benchmarks/costs.py studies/rivals.yaml /data/dubai [--points 10]``, with
``PYTHONPATH=src``. It copies the project to a temporary folder, makes tiles and clicks there, and
runs both stages with the settings of one experiment of each method, on one thread, without a cache
of features. The axes of the study have their first values, unless --axis names others.

Seconds are of the user and the system. They include four to six seconds in which a stage starts.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from pointcover.study.plan import DENSE, Member, members_of, override, read_study
from pointcover.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
COPIED = ("src", "stages", "sources", "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore")


def run(command: list[str], folder: Path) -> float:
    """Run a command in the copy; return its processor seconds."""
    folders = {"PYTHONPATH": str(folder / "src"), "DVC_ROOT": str(folder)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | folders | {"OMP_NUM_THREADS": "1", "PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def copy_project(folder: Path) -> None:
    """Copy what stages need, and make the copy a project of DVC."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        run(command, folder)


def choose(members: list[Member], axis: str | None) -> list[Member]:
    """Return one member of each method: of the first seed and values of axes, or the named one."""
    chosen: dict[str, Member] = {}
    for member in members:
        if member.method != DENSE and (axis is None or axis in dict(member.axes).values()):
            chosen.setdefault(member.method, member)
    return list(chosen.values())


def measure(folder: Path, member: Member, study: Path, source: Path) -> dict[str, object]:
    """Run the stages of an experiment; return what they took."""
    values = override(member, read_yaml(ROOT / "params.yaml"), study)
    values["source"] = str(source.resolve())
    values["machine"] |= {"feature_cache": None, "workers": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    run(["dvc", "repro", "-q", "annotate"], folder)
    fit, scored = (
        run([sys.executable, f"stages/{name}.py"], folder) for name in ("train", "evaluate")
    )
    metrics = json.loads((folder / "metrics/evaluate.json").read_text())
    tiles = json.loads((folder / "metrics/tile.json").read_text())["test"]["tiles"]
    return {
        "method": member.method,
        "points": member.points,
        "fit_cpu_s": round(fit, 1),
        "evaluate_cpu_s": round(scored, 1),
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        for member in choose(members, arguments.axis):
            if arguments.methods and member.method not in arguments.methods:
                continue
            row = measure(folder, member, arguments.study, arguments.source)
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
