"""Results of small pipeline runs stay the same when code is moved or renamed.

tests/goldens.json holds SHA-256 digests of tiles and labels, and losses and scores of networks.
Names inside JSON and CSV files do not count, values do.
After a change that is meant to change results: WRITE_GOLDENS=1 pytest tests/test_goldens.py
"""

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

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


def stored(name: str, found: Any) -> Any:
    """Return what is stored under a name, after storing `found` where WRITE_GOLDENS is set."""
    known = json.loads(GOLDENS.read_text(encoding="utf-8")) if GOLDENS.exists() else {}
    if os.environ.get("WRITE_GOLDENS"):
        known[name] = found
        GOLDENS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return known[name]


def check(name: str, found: dict[str, str]) -> None:
    """Compare digests with the stored ones."""
    assert found == stored(name, found)


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
@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_have_the_same_losses_and_scores(
    name, synthetic, one_deterministic_thread, blank_pictures
):
    """Processors round differently, and steps enlarge it: the tolerances are of four of them."""
    synthetic.set(TRAININGS[name])
    synthetic.run("download", "tile", "annotate", "train", "evaluate")
    with Path("metrics/curves.csv").open(encoding="utf-8", newline="") as file:
        curves = list(csv.DictReader(file))
    scores = json.loads(Path("metrics/evaluate.json").read_text(encoding="utf-8"))
    found = {
        "train_loss": [float(epoch["train_loss"]) for epoch in curves],
        "val_loss": [float(epoch["val_loss"]) for epoch in curves],
        "val_miou": [float(epoch["val_miou"]) for epoch in curves],
        "miou": scores["miou"],
        "pixels": scores["pixels"],
    }
    known = stored(f"training {name}", found)
    assert found["train_loss"][0] == pytest.approx(known["train_loss"][0], rel=0.01)
    assert found["val_loss"][0] == pytest.approx(known["val_loss"][0], rel=0.01)
    assert found["train_loss"] == pytest.approx(known["train_loss"], rel=0.06)
    assert found["val_loss"] == pytest.approx(known["val_loss"], rel=0.06)
    assert found["val_miou"] == pytest.approx(known["val_miou"], abs=0.05)
    assert found["miou"] == pytest.approx(known["miou"], abs=0.05)
    assert found["pixels"] == known["pixels"]
