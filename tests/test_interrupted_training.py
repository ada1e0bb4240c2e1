"""Trainings that are stopped or killed, and what the next `dvc repro` makes of them."""

import contextlib
import copy
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from mlflow import MlflowClient

from tests.clones import Clone, group_members, ran

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(  # DVC runs a stage through $SHELL
    ("number", "shell"), [(signal.SIGTERM, "/bin/sh"), (signal.SIGKILL, "/bin/bash")]
)
def test_a_killed_training_is_redone_and_its_run_does_not_stay_running(number, shell, tmp_path):
    clone = Clone(tmp_path)
    clone.set({"train": {"epochs": 300}})
    command = clone.start("dvc", "repro", SHELL=shell)
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
    command = clone.start("dvc", "repro", "train")
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
