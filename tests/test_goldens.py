"""The bytes that a small pipeline run leaves stay the same when code is moved or renamed.

tests/goldens.json holds SHA-256 digests. Names inside JSON and CSV files do not count, values do.
After a change that is meant to change results: WRITE_GOLDENS=1 pytest tests/test_goldens.py
"""

import csv
import hashlib
import json
import os
import platform
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.study.conducting import rewrite_report
from tests.imagery import ROOT, Project

GOLDENS = ROOT / "tests" / "goldens.json"
SYNTHETIC = {
    "dataset": "synthetic",
    "source": "sources",
    "synthetic.orthophotos": 5,
    "synthetic.size_px": 128,
    "tile.size_px": 64,
    "train.crop_px": 64,
    "train.epochs": 2,
    "train.batch_size": 4,
    "points": 30,
}
LABELS = {
    "link": {"annotate.propagator": "link"},
    "nearest": {"annotate.propagator": "nearest", "annotate.sampler": "spread"},
    "superpixel": {"annotate.propagator": "superpixel", "annotate.sampler": "boundary"},
    "geodesic": {"annotate.propagator": "geodesic", "annotate.sampler": "interior"},
    "random_walker": {"annotate.propagator": "random_walker", "annotate.unit": "per_class"},
    "noise": {
        "annotate.position_noise_px": 3,
        "annotate.label_noise_rate": 0.2,
        "annotate.sampler": "equal",
    },
    "scribbles": {"annotate.sampler": "scribbles", "annotate.unit": "total"},
    "dense": {"annotate.sampler": "dense", "annotate.propagator": "none"},
}
TRAININGS = {
    "default": {},
    "all_terms": {
        "train.consistency.weight": 1,
        "train.crf.weight": 0.01,
        "train.self_training.rounds": 1,
        "train.self_training.threshold": 0.3,
        "train.propagated_loss_fraction": 0.5,
        "train.class_weighting": "balanced",
        "train.schedule": "cosine",
        "evaluate.crf.iterations": 2,
        "evaluate.views": "d4",
    },
    "scratch": {
        "train.model": "unet_scratch",
        "train.encoder": "none",
        "train.width": 0.25,
        "train.loss": "focal",
        "train.optimiser": "sgd",
        "train.balance": "class",
    },
}


def values_of(node: object) -> list[str]:
    """Return the values of a JSON document without the names that hold them, sorted."""
    if isinstance(node, dict):
        return sorted(value for part in node.values() for value in values_of(part))
    if isinstance(node, list):
        return [value for part in node for value in values_of(part)]
    return [repr(node)]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file: of its values, where it is JSON or CSV."""
    data = path.read_bytes()
    if path.suffix == ".json":
        data = "\n".join(values_of(json.loads(data))).encode()
    elif path.suffix == ".csv":
        data = repr(list(csv.reader(data.decode().splitlines()))[1:]).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def digest_tree(*places: str) -> dict[str, str]:
    """Return the digest of every file below the places, but for pictures' and maps' asides."""
    files = [path for place in places for path in sorted(Path(place).rglob("*"))]
    kept = (".tif", ".csv", ".json", ".pt", ".png")
    return {
        str(path): digest(path) for path in files if path.is_file() and path.suffix in kept
    } or dict.fromkeys(places, "nothing")


def check(name: str, found: dict[str, str]) -> None:
    """Compare digests with the stored ones, or store them where WRITE_GOLDENS is set."""
    known = json.loads(GOLDENS.read_text(encoding="utf-8")) if GOLDENS.exists() else {}
    if os.environ.get("WRITE_GOLDENS"):
        known[name] = found
        GOLDENS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert found == known[name]


def this_processor() -> str:
    """Return what the bits of a network depend on beside its code."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.fixture
def synthetic(project: Project) -> Project:
    """Return a project of five small orthophotos of the synthetic dataset."""
    project.set(SYNTHETIC)
    return project


def test_tiles_are_the_same(synthetic):
    synthetic.run("download", "tile")
    check("tiles", digest_tree("data/tiles", "metrics"))


@pytest.mark.parametrize("name", LABELS)
def test_sparse_masks_are_the_same(name, synthetic, blank_pictures):
    synthetic.run_once("download", "tile")
    synthetic.set({"annotate.propagator": "none"} | LABELS[name])
    synthetic.run("annotate")
    check(f"labels {name}", digest_tree("data/sparse", "metrics/annotate.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["default", *(pytest.param(one, marks=pytest.mark.slow) for one in ("all_terms", "scratch"))],
)
def test_models_scores_and_maps_are_the_same(
    name, synthetic, one_deterministic_thread, blank_pictures
):
    if platform.machine() != "x86_64":
        pytest.skip("goldens of networks are of x86-64 processors")
    synthetic.set(TRAININGS[name])
    synthetic.run("download", "tile", "annotate", "train", "evaluate")
    image = next(Path("data/dataset").rglob("images/*.tif"))
    done = CliRunner().invoke(
        app, ["predict", "models", str(image), "--out", "maps", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    found = digest_tree("models", "metrics/evaluate.json", "metrics/confusion.csv")
    found |= digest_tree("metrics/curves.csv", "metrics/evaluation")
    found |= {str(path): digest(path) for path in sorted(Path("maps").glob("*.tif"))}
    key = f"training {name}, {this_processor()}"
    known = json.loads(GOLDENS.read_text(encoding="utf-8")) if GOLDENS.exists() else {}
    if key not in known and not os.environ.get("WRITE_GOLDENS"):
        pytest.skip(f"no goldens for {this_processor()}: networks' bits are of one processor")
    check(key, found)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["full", "small"])
def test_a_study_report_is_the_same(scale, tmp_path):
    name = {"full": "rounds", "small": "d_spread"}[scale]
    folder = ROOT / "docs" / "studies" / (name + ("-small" if scale == "small" else ""))
    out = tmp_path / "report"
    out.mkdir()
    (out / "results.csv").write_bytes((folder / "results.csv").read_bytes())
    rewrite_report(ROOT / "studies" / f"{name}.yaml", out, scale)
    found = {path.name: digest(path) for path in sorted(out.rglob("*.csv"))}
    check(f"report {scale}", found)
