import json

import pytest
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.cli.report import format_scores

BY_CLASS = {
    "water": {"iou": 0.5, "precision": 0.75, "recall": 0.6, "f1": 2 / 3, "pixels": 10},
    "road": {"iou": None, "precision": None, "recall": None, "f1": None, "pixels": 0},
}
FILES = {
    "annotate": {
        "train": {"clicks": 40, "tiles": 4, "propagated_pixels": 60, "labelled_fraction": 0.01}
    },
    "train": {"kept_epoch": 3, "val_miou": 0.25},
    "evaluate": {
        "scored_on": "dense masks",
        "miou": 0.5,
        "accuracy": 0.9,
        "by_class": BY_CLASS,
        "kappa": 0.75,
        "boundary_f1": {"1px": 0.1, "3px": None},
        "ece": 0.0625,
        "miou_interval": {
            "tiles": {"low": 0.25, "high": 0.625},
            "regions": {"low": None, "high": None, "reason": "1 region"},
        },
    },
}


def write(folder, files):
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))


def test_the_report_has_cost_scores_and_every_class(tmp_path):
    write(tmp_path, FILES)
    text = format_scores(tmp_path)
    assert "40 point labels in 4 train tiles, 60 pixels by label propagation: 1.00% of the" in text
    assert "best epoch 3: mIoU 0.250 on sparse" in text
    assert "mIoU 0.500, accuracy 0.900 on dense" in text
    assert "95 % bootstrap interval: mIoU 0.250 to 0.625 over tiles, - over regions" in text
    assert "kappa 0.750, boundary F1 at 3 px -, expected calibration error 0.062" in text
    assert "  water      0.500      0.750      0.600      0.667" in text
    assert "  road           -          -          -          -" in text


def test_an_unfinished_pipeline_is_an_error_with_the_command(tmp_path):
    write(tmp_path, {"annotate": FILES["annotate"]})
    with pytest.raises(FileNotFoundError, match=r"train\.json does not exist: run `dvc repro`"):
        format_scores(tmp_path)


def test_the_command_prints_the_report_or_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 1
    assert done.stderr.startswith("\npointcover report: metrics/annotate.json does not exist: run")
    (tmp_path / "metrics").mkdir()
    write(tmp_path / "metrics", FILES)
    done = CliRunner().invoke(app, ["report"])
    assert (done.exit_code, done.stdout) == (0, format_scores(tmp_path / "metrics"))
