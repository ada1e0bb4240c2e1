"""The whole pipeline as its users run it: through DVC, in a clone, with MLflow beside it."""

import contextlib
import copy
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
import torch
import yaml
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
from tests.prediction.test_sliding_window import Picture

ROOT = Path(__file__).parents[1]
STAGES = ["download", "tile", "annotate", "train", "evaluate"]
SMALL = {
    "points": 10,
    "annotate": {"unit": "per_class", "propagator": "link"},
    "synthetic": {"orthophotos": 5, "size_px": 160, "seed": 3},
    "tile": {"size_px": 64, "downsample": 1},
    "train": {
        "model": "unet",
        "encoder": "tu-regnetx_002",
        "weights": "none",
        "class_weighting": "none",
        "epochs": 2,
        "crop_px": 64,
        "batch_size": 4,
    },
    "evaluate": {"panels": 2},
}
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


class Clone:
    """A clone of the repository with small settings, and commands run in it."""

    def __init__(self, folder: Path, settings: dict = SMALL) -> None:
        self.folder = folder
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for name in tracked:
            if (ROOT / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.set(settings)
        self.run("git", "init", "-q")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@localhost")
        self.commit()

    @property
    def environment(self) -> dict[str, str]:
        own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        unset = {
            "DVC_ROOT",
            "DVC_EXP_NAME",
            "MLFLOW_TRACKING_URI",
            "POINTCOVER_DEBUG",
            "PYTHONDONTWRITEBYTECODE",  # users have bytecode beside the modules
        }
        return {k: v for k, v in os.environ.items() if k not in unset} | own

    def set(self, changes: dict) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            params[key] = params[key] | value if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(params))

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "a state", "--allow-empty")

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def runs(self) -> dict[str, object]:
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name("pointcover")
        found = client.search_runs([experiment.experiment_id])
        return {run.info.run_name: run for run in found}


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return re.findall(r"^Running stage '(\w+)'", output, flags=re.MULTILINE)


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


@pytest.mark.alone
def test_experiments_in_temporary_copies_and_queue_workers_land_in_one_store(tmp_path):
    clone = Clone(tmp_path)
    clone.set({"train": {"epochs": 1}})
    clone.commit()
    clone.run("dvc", "exp", "run", "--queue", "-n", "five", "-S", "points=5")
    clone.run("dvc", "exp", "run", "--queue", "-n", "six", "-S", "points=6")
    # The workers go on after the command: pipes to us would stay open with them.
    subprocess.run(
        ["dvc", "queue", "start", "-j", "2"],
        cwd=clone.folder,
        env=clone.environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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


def group_members(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):  # they come and go
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and os.getpgid(process.pid) == group:
                found.append(process)
    return found


@pytest.mark.alone
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])  # DVC runs a stage through $SHELL
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_training_is_redone_and_its_run_does_not_stay_running(number, shell, tmp_path):
    clone = Clone(tmp_path)
    clone.set({"train": {"epochs": 300}})
    command = subprocess.Popen(
        ["dvc", "repro"],
        cwd=clone.folder,
        env=clone.environment | {"SHELL": shell},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (clone.folder / "mlflow.db").exists():
            time.sleep(0.2)
        time.sleep(4)
        command.send_signal(number)
        command.wait()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and group_members(command.pid):
            time.sleep(0.1)
        assert not group_members(command.pid)
    finally:  # what a failure leaves behind would starve every later test
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
    clone.set({"train": {"epochs": 1}})
    output = clone.run("dvc", "repro")
    assert ran(output)[-2:] == ["train", "evaluate"]
    statuses = sorted(run.info.status for run in clone.runs().values())
    assert statuses == ["FINISHED", "KILLED"]


def stage_process(command: subprocess.Popen) -> psutil.Process | None:
    """The train stage below a `dvc`, once it is there."""
    for process in group_members(command.pid):
        with contextlib.suppress(psutil.Error):
            if "stages/train.py" in process.cmdline():
                return process
    return None


def saved_epoch(folder: Path) -> int:
    """The last epoch whose state a training has saved, 0 before that."""
    states = (folder / ".pointcover/resume").glob("*/*-*.pt")
    return max((int(path.name.partition("-")[0]) for path in states), default=0)


def start_and_kill(clone: Clone, number: signal.Signals, target: str, epoch: int, delay_s: float):
    """Start training, wait until an epoch is saved, then a moment more, and send a signal."""
    command = subprocess.Popen(
        ["dvc", "repro", "train"],
        cwd=clone.folder,
        env=clone.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        stage = None
        while time.monotonic() < deadline and (stage is None or saved_epoch(clone.folder) < epoch):
            stage = stage or stage_process(command)
            assert command.poll() is None, "training ended before it was killed"
            time.sleep(0.01 if stage else 0.1)
        assert stage is not None
        time.sleep(delay_s)
        assert command.poll() is None, "training ended before it was killed"
        if target == "group":
            os.killpg(command.pid, number)
        else:
            (stage if target == "stage" else command).send_signal(number)
        command.wait(60)
        while time.monotonic() < deadline and group_members(command.pid):
            time.sleep(0.02)
        assert not group_members(command.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


@pytest.mark.alone
def test_a_training_killed_again_and_again_ends_as_one_that_was_not_in_one_run(tmp_path):
    """Killed in its start, in epochs and between them; DVC, the stage, or both as by Ctrl-C."""
    epochs = 30  # enough, too, where not each is saved
    clone = Clone(tmp_path / "killed")
    clone.set({"train": {"epochs": epochs, "encoder": "mobilenet_v2"}})
    clone.run("dvc", "repro", "annotate")
    shutil.copytree(clone.folder, tmp_path / "whole")
    draws = np.random.default_rng(20)
    attempts = [
        (signal.SIGTERM, "group", 0),
        (signal.SIGKILL, "stage", 1),
        (signal.SIGINT, "group", 3),
        (signal.SIGTERM, "dvc", 5),
        (signal.SIGKILL, "stage", 7),
    ]
    for number, target, epoch in attempts:
        before = saved_epoch(clone.folder)
        start_and_kill(clone, number, target, epoch, delay_s=draws.uniform(0, 0.5))
        assert saved_epoch(clone.folder) >= max(before, epoch)
        if (clone.folder / "mlflow.db").exists() and (number, target) != (signal.SIGKILL, "stage"):
            assert "RUNNING" not in {run.info.status for run in clone.runs().values()}
    output = clone.run("dvc", "repro", "train")
    assert re.search(r"resuming after epoch ([789]|[12]\d) of 30", output)
    whole = copy.copy(clone)
    whole.folder = tmp_path / "whole"
    whole.run("dvc", "repro", "train")
    for name in (
        "models/model.pt",
        "models/model.json",
        "metrics/curves.csv",
        "metrics/train.json",
    ):
        ours, theirs = (one.folder / name for one in (clone, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    (run,) = clone.runs().values()
    assert run.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    for name in ("train/loss", "val/miou", "train/images_per_s"):
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted(one.step for one in history) == list(range(1, epochs + 1))
    assert not saved_epoch(clone.folder)


@pytest.mark.alone
def test_training_in_two_processes_is_killed_as_one_and_goes_on_in_one_run(tmp_path):
    clone = Clone(tmp_path)
    clone.set({"train": {"epochs": 4, "encoder": "mobilenet_v2", "device": "cpu", "devices": 2}})
    start_and_kill(clone, signal.SIGTERM, "dvc", epoch=1, delay_s=0)
    (run,) = clone.runs().values()
    assert run.info.status == "KILLED"
    output = clone.run("dvc", "repro", "train")
    assert output.count("resuming after epoch") == output.count("kept epoch") == 1
    (run,) = clone.runs().values()
    assert run.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(one.step for one in history) == [1, 2, 3, 4]


@pytest.mark.alone
def test_other_params_do_not_go_on_from_what_was_killed(tmp_path):
    clone = Clone(tmp_path)
    clone.set({"train": {"epochs": 50, "encoder": "mobilenet_v2"}})
    start_and_kill(clone, signal.SIGTERM, "dvc", epoch=2, delay_s=0)
    killed = saved_epoch(clone.folder)
    assert killed >= 2
    clone.set({"train": {"epochs": 1}})
    output = clone.run("dvc", "repro", "train")
    assert "resuming after" not in output
    assert saved_epoch(clone.folder) == killed  # it stays for the params that it belongs to
    assert sorted(run.info.status for run in clone.runs().values()) == ["FINISHED", "KILLED"]


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
