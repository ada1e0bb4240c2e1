"""A study that has run is reported and recorded."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from pointcover.study import conducting, sync
from pointcover.study.conducting import StudyRun, conduct
from pointcover.study.running import Ended, JobPool
from pointcover.tracking import runs as tracking
from pointcover.tracking.store import StoreUnreachableError
from tests.study.test_report import PLAN, SCORES, make_record


def run_study(folder: Path, root: Path, monkeypatch) -> None:
    """Run a study whose experiments have a score at once."""

    def run_jobs(jobs, root, out, extra, pool):
        for job in jobs:
            member = job.member
            miou = SCORES[member.method, member.points][member.seed - 1]
            record = make_record(member.method, member.points, member.seed, miou)
            yield Ended(job, replace(record, experiment=job.name), Path("x.log"))

    monkeypatch.setattr(conducting, "run_jobs", run_jobs)
    path = folder / "links.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    conduct(StudyRun(path), root, folder / "out", JobPool())


@pytest.mark.slow
def test_a_store_that_is_away_at_the_end_costs_no_report(tmp_path, project, monkeypatch, caplog):
    def away(*_args, **_named):
        raise StoreUnreachableError("no MLflow server answers")

    with monkeypatch.context() as without:
        without.setattr(sync, "sync", away)
        without.setattr(tracking, "start_run", away)
        run_study(tmp_path, project, monkeypatch)
    report, experiments = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    assert report.startswith(f"no MLflow server answers. The report is in {tmp_path / 'out'}, and")
    assert "`pointcover sync`" in experiments
    assert (tmp_path / "out" / "report.html").exists()

    monkeypatch.setattr(sync, "list_experiments", lambda _root: {})
    for _ in range(2):  # once is enough
        run_study(tmp_path, project, monkeypatch)
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("pointcover").experiment_id])
    assert run.info.run_name == "study links"
    files = {file.path for file in client.list_artifacts(run.info.run_id, "report")}
    assert files == {"report/report.html", "report/report.md", "report/results.csv"}
