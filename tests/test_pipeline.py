"""The whole pipeline as its users run it: through DVC, in a clone, with MLflow beside it."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from mlflow import MlflowClient
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import jaccard_score

from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.networks.checkpoint import load_checkpoint
from pointcover.prediction.predict import make_score
from pointcover.prediction.settings import LayerSettings
from pointcover.prediction.sliding_window import plan_windows, stream_strips
from pointcover.prediction.window_inference import MapLayers, WindowInference
from pointcover.prediction.windows import usual_window_px
from tests.clones import Clone, ran
from tests.prediction.test_sliding_window import Picture

ROOT = Path(__file__).parents[1]
STAGES = ["download", "tile", "annotate", "train", "evaluate"]
OWN_CARD = """\
title: Two kinds of ground
images: images/*.tif
masks: masks/*.tif
classes:
  - {name: dark, colour: "#000000"}
  - {name: bright, colour: "#FFFFFF"}
ignore: [255]
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """A clone in which `dvc repro` has run once; tests leave its params as they were."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    assert ran(clone.run("dvc", "repro")) == STAGES
    clone.commit()
    return clone


def test_a_repro_with_nothing_to_do_is_quick_and_imports_no_torch(clone):
    before = os.times()
    output = clone.run("dvc", "repro")
    after = os.times()
    assert ran(output) == []
    # The processor's time, not the clock's: other work on the machine must not fail this.
    spent_s = after.children_user + after.children_system
    assert spent_s - before.children_user - before.children_system < 3
    imported = clone.run(sys.executable, "-X", "importtime", "-m", "dvc", "repro")
    assert not re.search(r"\| +(torch|mlflow)\b", imported)


def test_the_run_is_in_mlflow_with_params_scores_and_checkpoint(clone):
    (run,) = [run for name, run in clone.runs().items() if name.startswith("synthetic-10-")]
    assert run.info.status == "FINISHED"
    assert run.data.params["points"] == "10"
    assert run.data.params["unit"] == "per_class"
    assert 0 <= run.data.metrics["test/miou"] <= 1
    assert next(iter(run.data.metrics)) == "test/miou"  # what MLflow's compare view draws
    assert "val/iou/building" in run.data.metrics
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    (model,) = run.outputs.model_outputs
    kept = {file.path for file in client.list_logged_model_artifacts(model.model_id)}
    assert kept == {"MLmodel", "model.json", "model.pt", "requirements.txt"}
    kinds = [file.path.split("_")[0] for file in client.list_artifacts(run.info.run_id, "panels")]
    assert kinds == ["panels/fixed"] * 2 + ["panels/train"] * 2 + ["panels/worst"] * 4
    figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    drawn = ("classes", "confusion", "curves", "reliability")
    assert figures == {f"figures/{name}.png" for name in drawn}
    assert len(client.list_artifacts(run.info.run_id, "evaluation")) == 4
    for name in (
        "test/kappa",
        "test/fwiou",
        "test/boundary_f1_3px",
        "test/ece",
        "test/miou_low_over_tiles",
    ):
        assert -1 <= run.data.metrics[name] <= 1
    assert len(client.get_metric_history(run.info.run_id, "val/miou")) == 2


def test_points_alone_run_annotate_train_and_evaluate_and_coming_back_runs_nothing(clone):
    before = len(clone.runs())
    output = clone.run("dvc", "exp", "run", "-n", "twenty", "-S", "points=20")
    assert ran(output) == ["annotate", "train", "evaluate"]
    runs = clone.runs()
    assert len(runs) == before + 1
    assert runs["twenty"].info.status == "FINISHED"
    assert runs["twenty"].data.params["points"] == "20"
    assert "test/miou" in runs["twenty"].data.metrics
    assert runs["twenty"].data.tags["dvc.exp_name"] == "twenty"
    back = clone.run("dvc", "exp", "run", "-S", "points=10")
    assert ran(back) == []
    assert len(clone.runs()) == before + 1
    clone.run("dvc", "exp", "run", "-n", "ten", "-S", "points=10", "-S", "seed=2")
    table = csv.DictReader(io.StringIO(clone.run("dvc", "exp", "show", "--csv")))
    miou = {row["Experiment"]: row["miou"] for row in table}
    for name in ("ten", "twenty"):
        recorded = clone.runs()[name].data.metrics["test/miou"]
        assert float(miou[name]) == pytest.approx(recorded, abs=1e-4)
    few = clone.run("dvc", "exp", "show", "--drop", ".*", "--keep", "Experiment|points$|miou$")
    assert "twenty" in few  # a metric called as a dependency is ends this with an error
    assert "accuracy" in clone.run("dvc", "metrics", "diff", "ten", "twenty")
    shown = clone.run("dvc", "metrics", "show")
    assert "null" not in shown
    assert max(map(len, shown.splitlines())) < 120
    headers = next(line for line in clone.run("dvc", "exp", "show").splitlines() if "miou" in line)
    assert "clicks" in headers[:120].split(), "what is compared is at the left"
    clone.run("dvc", "plots", "diff", "ten", "twenty", "-o", "dvc_plots")
    clone.run("dvc", "exp", "run", "-S", "points=10", "-S", "seed=1")


def test_an_experiment_that_came_from_the_cache_gets_its_run_by_sync(clone):
    output = clone.run("dvc", "exp", "run", "--temp", "-n", "again", "-S", "points=20")
    assert ran(output) == [] or "cached" in output
    assert "again" not in clone.runs()
    # Experiments without a name that came from the cache too may be recorded beside it.
    said = clone.run("pointcover", "sync")
    assert "again" in said.partition("recorded: ")[2].strip().split(", ")
    again, first = clone.runs()["again"], clone.runs()["twenty"]
    assert again.info.status == "FINISHED"
    assert again.data.tags["pointcover.training"] == "from cache"
    assert again.data.params.items() <= first.data.params.items()
    assert again.data.params["points"] == "20"
    shared = {k: v for k, v in first.data.metrics.items() if k.startswith(("test/", "labels/"))}
    assert {k: v for k, v in again.data.metrics.items() if not k.startswith("kept/")} == shared
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    models = [
        {
            file.path: file.file_size
            for output in run.outputs.model_outputs
            for file in client.list_logged_model_artifacts(output.model_id)
        }
        for run in (again, first)
    ]
    assert models[0] == models[1]
    assert "MLmodel" in models[0]
    assert "none was missing" in clone.run("pointcover", "sync")


def test_other_evaluate_settings_evaluate_the_same_model_in_a_child_run(clone):
    output = clone.run("dvc", "exp", "run", "-n", "more", "-S", "evaluate.batch_size=2")
    assert ran(output) == ["evaluate"]
    children = [run for run in clone.runs().values() if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 1
    assert "test/miou" in children[0].data.metrics
    clone.run("dvc", "exp", "run", "-S", "evaluate.batch_size=4")


def test_models_of_other_experiments_join_in_an_ensemble_and_get_a_run_of_its_own(clone):
    alone = json.loads((clone.folder / "metrics/evaluate.json").read_text())
    clone.run("dvc", "exp", "run", "-n", "other", "-S", "seed=7")
    clone.run("git", "checkout", "params.yaml", "dvc.lock")
    clone.run("dvc", "repro")
    clone.run("dvc", "get", ".", "models", "--rev", "other", "-o", "ensemble/other")
    output = clone.run("dvc", "exp", "run", "-n", "both", "-S", "evaluate.ensemble=ensemble")
    assert ran(output) == ["evaluate"]
    together = json.loads((clone.folder / "metrics/evaluate.json").read_text())
    assert (alone["model_count"], together["model_count"]) == (1, 2)
    assert together["miou"] != alone["miou"]
    run = clone.runs()["both"]
    assert run.data.tags["ensemble"] == "2 models"
    assert run.data.metrics["test/miou"] == pytest.approx(together["miou"])
    assert "mlflow.parentRunId" in run.data.tags
    clone.run("git", "checkout", "params.yaml", "dvc.lock")
    clone.run("dvc", "repro")


def test_a_misspelt_key_and_a_wrong_value_are_told_before_any_work(clone):
    unknown = clone.run("dvc", "exp", "run", "-S", "train.ephocs=3", fails=True)
    assert "train.ephocs" in unknown
    output = clone.run("dvc", "exp", "run", "-S", "points=many", fails=True)
    assert "points: got 'many', wanted a whole number" in output
    assert "Traceback" not in output
    clone.run("git", "checkout", "params.yaml")
    assert ran(clone.run("dvc", "repro")) == []


def test_experiments_in_temporary_copies_and_queue_workers_land_in_one_store(tmp_path):
    clone = Clone(tmp_path)
    clone.set({"train": {"epochs": 1}})
    clone.commit()
    clone.run("dvc", "exp", "run", "--queue", "-n", "five", "-S", "points=5")
    clone.run("dvc", "exp", "run", "--queue", "-n", "six", "-S", "points=6")
    # The workers go on after the command, so its output is not awaited.
    assert clone.start("dvc", "queue", "start", "-j", "2").wait() == 0
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        status = clone.run("dvc", "queue", "status")
        if len(re.findall("Success|Failed", status)) == 2:
            break
        time.sleep(5)  # each look takes seconds of a core
    assert status.count("Success") == 2, status + clone.run("dvc", "queue", "logs", "five")
    clone.run("dvc", "exp", "run", "--temp", "-n", "seven", "-S", "points=7")
    runs = clone.runs()
    assert set(runs) == {"five", "six", "seven"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert all("test/miou" in run.data.metrics for run in runs.values())
    assert not list((clone.folder / ".dvc/tmp/exps").rglob("mlflow.db"))


def test_a_second_clone_comes_to_the_same_bytes(clone, tmp_path):
    other = Clone(tmp_path)
    other.run("dvc", "repro")
    clone.run("git", "checkout", "-q", "params.yaml", "dvc.lock")
    assert (other.folder / "dvc.lock").read_text() == (clone.folder / "dvc.lock").read_text()


def test_training_runs_where_no_dense_mask_is(clone, tmp_path):
    for name in ("stages", "src", "params.yaml", "data", "metrics"):
        source, target = clone.folder / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    shutil.rmtree(tmp_path / "data/tiles/masks")
    (tmp_path / "data/tiles/index.csv").unlink()
    subprocess.run(
        [sys.executable, "stages/train.py"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env=clone.environment | {"PYTHONPATH": "src", "DVC_ROOT": str(tmp_path)},
    )
    assert (tmp_path / "models/model.pt").read_bytes() == (
        clone.folder / "models/model.pt"
    ).read_bytes()


def test_the_default_run_beats_a_classifier_of_colours_that_sees_every_training_label(tmp_path):
    """The network has 200 clicks a tile; the classifier dense masks, but one pixel at a time."""
    clone = Clone(tmp_path, settings={})
    threads = f"OMP_NUM_THREADS={os.cpu_count()}"  # the one long training among the tests
    assert ran(clone.run("env", threads, "dvc", "repro")) == STAGES
    pixels, labels = {}, {}
    for split in ("train", "test"):
        images, masks = (
            [rasterio.open(path).read() for path in sorted((tmp_path / folder / split).iterdir())]
            for folder in ("data/tiles/images", "data/tiles/masks")
        )
        pixels[split] = np.concatenate([image.reshape(3, -1).T for image in images])
        labels[split] = np.concatenate([mask.ravel() for mask in masks])
    some = np.random.default_rng(0).choice(len(labels["train"]), 100_000, replace=False)
    classifier = HistGradientBoostingClassifier(random_state=0)
    classifier.fit(pixels["train"][some], labels["train"][some])
    by_colour = jaccard_score(labels["test"], classifier.predict(pixels["test"]), average="macro")
    network = json.loads((tmp_path / "metrics/evaluate.json").read_text())["miou"]
    assert network > by_colour + 0.05
    assert by_colour < 0.5
    assert share_that_windows_decide(tmp_path / "models") <= 0.002


def share_that_windows_decide(model: Path) -> float:
    """The fraction of pixels within 16 px of a seam that one window over all sees otherwise."""
    segmenter, checkpoint, _ = load_checkpoint(model)
    drawn, _ = draw_orthophoto(2048, np.random.default_rng(7))
    image = drawn.reshape(3, 1024, 2, 1024, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    score = make_score([segmenter.eval()], average_views=False)
    usual_px = usual_window_px(checkpoint.tile_set.size_px)
    maps = {}
    for window_px in (1024, usual_px):
        plan = plan_windows(1024, 1024, window_px, 0.25, blend=False)
        count, layers = len(checkpoint.tile_set.classes), MapLayers(LayerSettings())
        inference = WindowInference(score, count, layers, 2, torch.device("cpu"))
        strips = stream_strips(Picture(image), plan, inference)
        maps[window_px] = np.concatenate([strip[0] for _, strip in strips])
    near = np.zeros((1024, 1024), bool)
    for cut in plan.rows.cuts[1:-1]:
        near[cut - 16 : cut + 16] = near[:, cut - 16 : cut + 16] = True
    assert near.any()
    return (maps[1024] != maps[usual_px])[near].mean()


def draw_folder(folder: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(4):
        mask = np.kron(generator.integers(0, 2, (4, 4)), np.ones((24, 24))).astype(np.uint8)
        image = np.where(mask, 200, 60) + generator.integers(-20, 20, (3, *mask.shape))
        for kind, values in (("images", image.astype(np.uint8)), ("masks", mask[np.newaxis])):
            with rasterio.open(
                folder / kind / f"{number}.tif",
                "w",
                driver="GTiff",
                dtype="uint8",
                width=96,
                height=96,
                count=len(values),
                crs="EPSG:2180",
                transform=rasterio.transform.from_origin(0, 96 * number, 1, 1),
            ) as dataset:
                dataset.write(values)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_folder_of_ones_own_runs_from_a_card_and_a_changed_file_is_noticed(tmp_path):
    (tmp_path / "clone").mkdir()
    clone, own = Clone(tmp_path / "clone"), tmp_path / "own images"
    draw_folder(own, seed=1)
    (clone.folder / "sources/mine.yaml").write_text(OWN_CARD)
    clone.set({"dataset": "sources/mine.yaml", "source": str(own), "train": {"epochs": 1}})
    assert ran(clone.run("dvc", "repro")) == STAGES
    assert not list((clone.folder / "data/dataset").rglob("*.tif")), "the images were copied"
    assert ran(clone.run("dvc", "repro")) == []
    with rasterio.open(own / "images/2.tif", "r+") as dataset:
        dataset.write(np.full((1, 1), 7, np.uint8), 1, window=((3, 4), (5, 6)))
    assert ran(clone.run("dvc", "repro"))[:2] == ["download", "tile"]
    assert str(tmp_path) not in (clone.folder / "data/dataset/dataset.json").read_text()
