"""Reports: one offline page, tables, numbers for programs, and a run in MLflow."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from pointcover.assessment.assess import assess
from pointcover.assessment.record import metrics_of, model_of, record
from pointcover.assessment.report import check_folder, write_report
from pointcover.assessment.tables import sentence_of
from pointcover.tracking.runs import MODEL_TAG, reopen_model_run, start_run
from pointcover.tracking.store import connect, tracking_uri
from tests.assessment.maps import draw_ids, write_map
from tests.assessment.test_assess import sample_of


@pytest.fixture
def found(tmp_path):
    path = write_map(tmp_path / "a_classes.tif", draw_ids(200, 200), names=("land", "a|b", "<i>"))
    maps, sample = sample_of(
        [path], lambda d: [p.stratum if p.id % 5 else 0 for p in d.points], points=150
    )
    sample.labels[0] = 255
    return assess(maps, sample)


def test_a_report_has_all_its_parts(found, tmp_path):
    folder = tmp_path / "report"
    write_report(folder, found)
    assert {path.name for path in folder.iterdir()} == {
        *("report.html", "report.md", "report.json", "matrix.png", "areas.png"),
        *("areas.csv", "accuracy.csv", "matrix_counts.csv", "matrix_proportions.csv", "strata.csv"),
    }
    for name in ("matrix.png", "areas.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300


def test_the_page_needs_nothing_else_and_escapes_names(found, tmp_path):
    write_report(tmp_path / "report", found)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|<script|<link|url\(", page)
    assert page.count("data:image/png;base64,") == 2
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert "1 of 150 points have no class" in page
    assert sentence_of(found, 0) in page


def test_tables_and_numbers_agree(found, tmp_path):
    write_report(tmp_path / "report", found)
    values = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    with (tmp_path / "report" / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        area = values["classes"][row["class"]]["area_ha"]
        assert float(row["ha"]) == pytest.approx(area["value"], rel=1e-3)
        assert float(row["± ha"]) == pytest.approx(area["half_width_95"], rel=1e-3)
        mapped = values["classes"][row["class"]]["mapped_ha"]
        assert float(row["bias ha"]) == pytest.approx(mapped - area["value"], rel=1e-2)
    assert np.sum(values["matrix"]["proportions"]) == pytest.approx(1)
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "| a\\|b |" in markdown
    assert f"- {sentence_of(found, 0)}" in markdown


def test_a_sentence_has_two_digits_of_its_interval(found):
    assert re.fullmatch(r"land \d+\.?\d* ± \d\d ha \(95 %\)", sentence_of(found, 0))


def test_a_report_replaces_nothing_unasked(found, tmp_path):
    write_report(tmp_path / "report", found)
    with pytest.raises(FileExistsError, match="holds a report: choose another name, or say"):
        check_folder(tmp_path / "report", force=False)
    check_folder(tmp_path / "report", force=True)
    (tmp_path / "mine").mkdir()
    check_folder(tmp_path / "mine", force=False)
    (tmp_path / "mine" / "photo").write_text("")
    with pytest.raises(FileExistsError, match="is there and is no report"):
        check_folder(tmp_path / "mine", force=True)


# MLflow


def say_model(path, *digests):
    models = [{"reference": "models", "sha256": digest} for digest in digests]
    path.write_text(json.dumps({"models": models}))


def test_maps_say_which_one_model_made_them(found, tmp_path):
    (path,) = found.maps
    assert model_of([path]) is None
    say_model(tmp_path / "a.json", "abc")
    assert model_of([path]) == "abc"
    assert model_of([path, tmp_path / "other.tif"]) is None
    say_model(tmp_path / "a.json", "abc", "def")
    assert model_of([path]) is None
    (tmp_path / "a.json").write_text("[")
    assert model_of([path]) is None


@pytest.mark.slow
def test_numbers_go_into_the_run_of_the_model(found, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_report(tmp_path / "report", found)
    say_model(tmp_path / "a.json", "abc")
    assert record(tmp_path, found, tmp_path / "report", "s") is None
    assert not (tmp_path / "mlflow.db").exists()
    with start_run(tmp_path, "training", tags={MODEL_TAG: "abc"}) as run:
        assert reopen_model_run(tmp_path, "abc") is None  # it is open
    assert record(tmp_path, found, tmp_path / "report", "s") == run.id
    stored = connect(tracking_uri(tmp_path)).get_run(run.id)
    assert stored.info.status == "FINISHED"
    assert stored.data.metrics["assessed/s/overall_accuracy"] == found.estimates.overall.value
    named = {name for name, value in metrics_of(found, "s").items() if value is not None}
    assert set(stored.data.metrics) == named
    assert "assessed/s/area_ha/a_b" in named
    assert len(list((tmp_path / "mlruns").rglob("assessment/s/report.html"))) == 1
    # A second sample of the same map stands beside the first.
    assert record(tmp_path, found, tmp_path / "report", "new/é: 2%") == run.id
    stored = connect(tracking_uri(tmp_path)).get_run(run.id)
    assert set(stored.data.metrics) == named | {
        name.replace("/s/", "/new_é: 2_/") for name in named
    }
    assert len(list((tmp_path / "mlruns").rglob("assessment/*/report.html"))) == 2
