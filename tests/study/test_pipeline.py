"""A study through DVC and MLflow, stopped, gone on with, and found again."""

import os
import signal
import time

import pytest
import yaml
from mlflow import MlflowClient

from pointcover.study.records import read_records
from tests.clones import Clone, group_members, start_study

pytestmark = pytest.mark.slow

PLAN = {
    "title": "Do rounds help?",
    "settings": {"train.epochs": 1, "annotate.propagator": "none", "annotate.unit": "per_tile"},
    "points": [3],
    "seeds": [1],
    "methods": {
        "clicks": {"seeds": [1, 2]},
        "asked": {"rounds": True, "points": [3, 6], "suggest.distance_px": 1},
        "both": {"ensemble_of": "clicks"},
        "broken": {"train.encoder": "resnet-eighteen"},
    },
    "dense": {"annotate.sampler": "dense", "annotate.propagator": "none"},
}


def test_a_study_is_stopped_resumed_reports_failures_and_is_found_again(tmp_path):
    clone = Clone(tmp_path)
    (clone.folder / "studies" / "links.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
    study = ["pointcover", "study", "studies/links.yaml"]
    out = clone.folder / "reports" / "links"

    # Stopped by Ctrl-C while the second experiment trains: the first one is in the report.
    command = start_study(clone, "links")
    time.sleep(5)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(120) == 130
    assert not group_members(command.pid)
    assert [record.method for record in read_records(out / "results.csv")] == ["dense"]
    assert "6 have not been run" in (out / "report.md").read_text()
    assert "RUNNING" not in {run.info.status for run in clone.runs().values()}

    # The same command does the rest, two at a time; what fails is told with its log.
    said = clone.run(*study, "--jobs", "2", fails=True)
    assert "1 of 7 experiments failed" in said
    assert "resnet18" in said, "the log's last lines say which encoders there are"
    assert "Traceback" not in said
    records = read_records(out / "results.csv")
    assert [(record.method, record.points) for record in records] == [
        ("dense", 3),
        ("clicks", 3),
        ("clicks", 3),
        ("asked", 3),
        ("asked", 6),
        ("both", 3),
    ]
    clicks = {record.points: record.numbers["clicks"] for record in records if record.seed == 1}
    assert clicks[6] == 2 * clicks[3], "all of the first round, and as many asked for"
    runs = clone.runs()
    for record in records:
        run = runs[record.experiment]
        assert run.info.status == "FINISHED"
        assert run.data.tags["study"] == "links"
        assert run.data.tags["method"] == record.method
        assert run.data.metrics["test/miou"] == pytest.approx(record.numbers["miou"])
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    report = [
        file.path for file in client.list_artifacts(runs["study links"].info.run_id, "report")
    ]
    assert report == ["report/report.html", "report/report.md", "report/results.csv"]
    assert clone.run("git", "status", "--short") == "?? studies/links.yaml\n"

    # Known to DVC, the study is found again though its records are gone, and nothing is run.
    PLAN["methods"].pop("broken")
    (clone.folder / "studies" / "links.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
    for file in out.glob("records/*"):
        file.unlink()
    before = len(clone.runs())
    began = os.times()
    clone.run(*study)
    after = os.times()
    assert read_records(out / "results.csv") != []
    assert after.children_user - began.children_user < 30
    assert len(clone.runs()) <= before + 1  # a report of other results is another run
    clone.run(*study)
    assert len(clone.runs()) <= before + 1
