"""A study's report says what its records say, in a page that needs nothing but itself."""

import csv
import re
import warnings
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from pointcover.study.charts import draw_classes, draw_costs, draw_curves, draw_methods, look
from pointcover.study.conducting import Conducted, rewrite_report
from pointcover.study.plan import DENSE, read_study
from pointcover.study.records import Record, read_records, write_records
from pointcover.study.report import html, markdown, write_report
from pointcover.study.summary import Summary, exceeded_references, summarise

PLAN = {
    "title": "Do <links> help?",
    "about": "A question.\n\nAnd more & more.",
    "seconds_per_click": 36,
    "points": [10, 100],
    "seeds": [1, 2],
    "methods": {"clicks": {"annotate.propagator": "none"}, "link": {"annotate.propagator": "link"}},
    "dense": {"annotate.sampler": "dense"},
    "published": [{"method": "link", "points": 10, "miou": 0.834}],
    "questions": [{"better": "link", "than": "clicks", "text": "Links help"}],
}
SCORES = {
    (DENSE, 10): [0.80, 0.80],
    ("clicks", 10): [0.40, 0.50],
    ("clicks", 100): [0.60, 0.64],
    ("link", 10): [0.55, 0.65],
    ("link", 100): [0.79, 0.81],
}


def make_record(method: str, points: int, seed: int, miou: float | None, **numbers) -> Record:
    clicks = None if method == DENSE else 20 * points
    known = {
        "miou": miou,
        "accuracy": 0.9,
        "val_miou": 0.5,
        "clicks": clicks,
        "tiles": 20,
        "clicks_per_tile": clicks and clicks / 20,
        "labelled_fraction": 0.001,
        "label_error": None,
        "area_km2": 0.5,
        "seconds": 12.5,
    }
    iou = {"field": miou, "road": None}
    name = f"x-{method}-{points}-{seed}"
    return Record(method, (), points, seed, name, {**known, **numbers}, iou)


@pytest.fixture
def records() -> list[Record]:
    return [
        make_record(method, points, seed, miou)
        for (method, points), scores in SCORES.items()
        for seed, miou in enumerate(scores, 1)
    ]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "links.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return path


@pytest.fixture
def summary(plan, records) -> Summary:
    return summarise(read_study(plan), records)


def rows(summary: Summary, name: str) -> list[dict[str, str]]:
    (table,) = [table for table in summary.tables if table.name == name]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


@pytest.mark.parametrize(
    ("changes", "is_warned"),
    [
        ({}, True),
        ({"settings": {"dataset": "dubai"}}, False),
        ({"axes": {"images": {"near": {"dataset": "dubai"}, "far": {"dataset": "hill"}}}}, False),
        ({"axes": {"images": {"near": {"dataset": "dubai"}, "drawn": {"tile.size_px": 64}}}}, True),
        ({"methods": {"clicks": {"dataset": "dubai"}}, "questions": []}, True),  # dense is not
    ],
)
def test_a_study_on_synthetic_images_says_that_its_numbers_are_no_results(
    tmp_path, records, changes, is_warned
):
    path = tmp_path / "links.yaml"
    path.write_text(yaml.safe_dump(PLAN | {"published": []} | changes))
    summary = summarise(read_study(path), records)
    warned = " ".join(Conducted(len(records), records).warnings(summary))
    assert ("On the synthetic dataset" in warned) == is_warned


def test_a_study_without_a_dataset_has_that_of_the_project(records, tmp_path, monkeypatch):
    path = tmp_path / "bare.yaml"
    path.write_text(yaml.safe_dump(PLAN | {"published": []}))
    (tmp_path / "out").mkdir()
    write_records(tmp_path / "out" / "results.csv", records)
    monkeypatch.chdir(tmp_path)
    for dataset, is_warned in (("sources/mine.yaml", False), ("synthetic", True)):
        (tmp_path / "params.yaml").write_text(f"dataset: {dataset}\n")
        rewrite_report(path, tmp_path / "out")
        warned = (tmp_path / "out" / "report.md").read_text()
        assert ("On the synthetic dataset" in warned) == is_warned


def test_many_methods_at_one_budget_have_a_plot_of_their_own(tmp_path, records):
    names = [f"variant {number}" for number in range(6)]
    study = PLAN | {
        "methods": PLAN["methods"] | {name: {"train.epochs": 3, "points": [100]} for name in names},
        "published": [{"method": "variant 3", "points": 100, "miou": 0.97}],
    }
    path = tmp_path / "crowd.yaml"
    path.write_text(yaml.safe_dump(study))
    summary = summarise(read_study(path), records)
    assert draw_methods(summary) == ""  # two methods are no crowd
    records += [make_record(name, 100, 1, 0.5) for name in names]
    summary = summarise(read_study(path), records)
    methods, curves = draw_methods(summary), draw_curves(summary)
    for name in names:
        assert f">{name}</text>" in methods
        assert name not in curves
    assert ">100 points</text>" in methods
    assert ">10 points</text>" not in methods
    assert ">clicks</text>" in methods
    assert ">clicks</text>" in curves


def test_one_budget_is_drawn_with_a_margin(plan, records):
    alone = [
        replace(record, numbers={**record.numbers, "clicks_per_tile": 10.0})
        for record in records
        if record.points == 10
    ]
    summary = summarise(read_study(plan), alone)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (draw_curves, draw_costs, draw_classes):
            assert ">clicks</text>" in draw(summary)


@pytest.fixture
def of_two_places(tmp_path, records) -> Summary:
    """The same scores at two values of an axis, by methods with long names."""
    names = {
        "clicks": "regression on filters and on the features of a frozen encoder, enlarged",
        "link": "network with a pretrained encoder, frozen statistics and a long training",
    }
    study = PLAN | {
        "methods": {name: {} for name in names.values()},
        "axes": {"images": {"near": {"dataset": "dubai"}, "far": {"dataset": "hill"}}},
        "published": [],
        "questions": [],
    }
    path = tmp_path / "places.yaml"
    path.write_text(yaml.safe_dump(study))
    placed = [
        replace(one, method=names.get(one.method, one.method), axes=(("images", place),))
        for one in records
        for place in ("near", "far")
    ]
    return summarise(read_study(path), placed)


def test_each_value_of_an_axis_has_a_plot_of_its_own(of_two_places):
    for draw in (draw_curves, draw_costs, draw_classes):
        drawn = draw(of_two_places)
        titles = re.findall(r">([^<]*(?:near|far))</text>", drawn)
        assert [title.split(", ")[-1] for title in titles] == ["near", "far"]
        for method in ("dense", *of_two_places.study.methods):
            assert drawn.count(f">{method}</text>") == 1, "in the legend, once"
    methods = list(of_two_places.study.methods)
    assert [line.method for line in of_two_places.lines] == [
        method for method in methods for _ in ("near", "far")
    ]


def test_dense_references_of_a_crowded_budget_are_named(tmp_path):
    places = ("near", "far")
    names = [f"variant {number}" for number in range(7)]
    study = PLAN | {
        "methods": {name: {} for name in names},
        "axes": {"images": {place: {"dataset": place} for place in places}},
        "points": [100],
        "published": [],
        "questions": [],
    }
    path = tmp_path / "crowd.yaml"
    path.write_text(yaml.safe_dump(study))
    found = [
        replace(make_record(name, 100, 1, 0.5), axes=(("images", place),))
        for name in [*names, DENSE]
        for place in places
    ]
    drawn = draw_methods(summarise(read_study(path), found))
    for place in places:
        assert drawn.count(f">dense, {place}</text>") == 1


def test_a_study_without_any_score_of_a_class_has_no_figure_of_classes(plan, records):
    without = [replace(record, iou=dict.fromkeys(record.iou)) for record in records]
    summary = summarise(read_study(plan), without)
    assert draw_classes(summary) == ""
    assert "<figure></figure>" not in html(summary, "pointcover study", [])


def test_the_legend_lies_in_the_figure(of_two_places):
    drawn = draw_curves(of_two_places)
    width = float(re.search(r'viewBox="0 0 (\S+) ', drawn)[1])
    for method in of_two_places.study.methods:
        start = re.search(rf'<text[^>]*?(?:x="|translate\()([-0-9.]+)[^>]*>{method}</text>', drawn)
        assert 20 < float(start[1]) < width - 4 * len(method)


def test_no_two_of_the_first_64_lines_look_alike():
    assert len({tuple(look(number).values()) for number in range(64)}) == 64


@pytest.mark.parametrize(("second", "told"), [(0.81, False), (0.84, False), (0.95, True)])
def test_a_dense_reference_that_a_method_exceeds_has_a_warning(records, plan, second, told):
    # The scores are 0.79 and `second`, the noise floor some 0.05, dense 0.80.
    records = [
        replace(record, numbers={**record.numbers, "miou": second})
        if (record.method, record.points, record.seed) == ("link", 100, 2)
        else record
        for record in records
    ]
    said = exceeded_references(summarise(read_study(plan), records))
    assert [text[:39] for text in said] == ["link at 100 points scores 0.870, dense "] * told


def test_the_table_of_budgets_has_a_column_for_dense(summary, plan, records):
    dense, clicks, link = rows(summary, "budgets")
    assert [*dense.values()] == ["dense", "", "", "0.800 ± 0.000"]
    assert list(dense) == ["method", "10", "100", "all pixels"]
    assert [*clicks.values()] == ["clicks", "0.450 ± 0.635", "0.620 ± 0.254", ""]
    assert link["10"] == "0.600 ± 0.635"
    alone = [record for record in records if record.points == 10]
    tables = summarise(read_study(plan), alone).tables
    assert "budgets" not in {table.name for table in tables}


def test_a_row_has_scores_and_costs_of_a_budget(summary):
    dense, clicks, *_ = rows(summary, "results")
    assert dense["mIoU"] == "0.800 ± 0.000"
    assert dense["clicks per tile"] == dense["hours"] == "-"
    # Of two values t is 12.706, so half the interval is 12.706 × 0.05
    assert clicks["mIoU"] == "0.450 ± 0.635"
    assert clicks["fraction of dense"] == "56.2 ± 79.4 %"
    assert clicks["clicks per tile"] == "10"
    assert clicks["clicks per km²"] == "400"
    assert clicks["hours"] == "2"  # 200 clicks of 36 s
    assert clicks["seeds"] == "2"


def test_clicks_for_a_fraction_of_dense_are_interpolated_or_outside(summary):
    clicks, link = rows(summary, "efficiency")
    assert clicks["N90"].startswith("> 100")
    # 0.72 of 0.60 to 0.80: 0.6 of the way from 10 to 100
    assert link["N90"].startswith("39.8 (")
    assert link["area under mIoU over log(clicks)"] == "0.700"


def test_claims_and_published_results_are_compared(summary):
    (claim,) = rows(summary, "questions")
    assert claim["claim"] == "Links help"
    assert claim["difference in mIoU"].startswith("+0.165")
    assert claim["does it hold here?"] == "yes"
    (published,) = rows(summary, "published")
    assert published["published"] == "0.834"
    assert published["here"].startswith("0.600")


def test_a_class_without_iou_has_none_in_the_table(summary):
    for row in rows(summary, "classes"):
        assert row["road"] == "-"
    assert rows(summary, "classes")[1]["field"] == "0.450"


def test_every_experiment_is_in_a_table(summary, records):
    assert [row["experiment"] for row in rows(summary, "experiments")] == [
        record.experiment for record in records
    ]


def test_an_experiment_without_a_score_is_left_out_of_means(plan, records):
    records[2] = replace(records[2], numbers={**records[2].numbers, "miou": None})
    found = rows(summarise(read_study(plan), records), "results")
    assert found[1]["mIoU"] == "0.500"


def test_a_study_without_any_result_has_no_report(plan):
    with pytest.raises(ValueError, match="no result yet"):
        summarise(read_study(plan), [])


def test_the_page_loads_nothing_and_escapes_what_the_study_file_says(summary):
    page = html(summary, "pointcover study links.yaml")
    assert "Do &lt;links&gt; help?" in page
    assert "And more &amp; more." in page
    assert not re.search(r"<script|<link|@import|url\(\s*[\"']?http", page)
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        ElementTree.fromstring(figure.replace("xlink:href", "href"))
        assert "currentColor" in figure
        assert "#000000" not in figure, "ink that dark pages hide"


def test_the_same_results_make_the_same_bytes(summary):
    assert html(summary, "x") == html(summary, "x")
    assert markdown(summary, "x") == markdown(summary, "x")


def test_the_report_is_written_as_page_markdown_and_tables(tmp_path, summary):
    write_report(tmp_path / "out", summary, "pointcover study links.yaml", ["Mind this."])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "**Mind this.**" in text
    assert "| link | 100 | 0.800 ± 0.127 |" in text
    with (tmp_path / "out" / "tables" / "results.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == [
            "dense",
            "clicks",
            "clicks",
            "link",
            "link",
        ]


def test_records_come_back_as_they_were_written(tmp_path, records):
    records[0] = replace(records[0], axes=(("train.lr", 0.001), ("train.model", "unet")))
    write_records(tmp_path / "results.csv", records)
    assert read_records(tmp_path / "results.csv") == records


def test_a_report_is_written_again_from_results_alone(tmp_path, plan, records):
    write_records(tmp_path / "out" / "results.csv", records[:-1])
    rewrite_report(plan, tmp_path / "out")
    assert "1 have not been run" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "method,axes,points,seed,experiment\nx,{},ten,1,y\n"]
)
def test_a_damaged_table_of_results_is_an_error(tmp_path, plan, text):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(ValueError, match=r"results\.csv|no result yet"):
        rewrite_report(plan, tmp_path)


def test_missing_results_are_an_error(tmp_path, plan):
    with pytest.raises(FileNotFoundError, match="run the study"):
        rewrite_report(plan, tmp_path / "nowhere")


@pytest.mark.slow
def test_many_lines_and_classes_are_drawn(plan, records):
    generator = np.random.default_rng(0)
    study = read_study(plan)
    axes = [(("train.lr", rate),) for rate in (0.1, 0.01, 0.001, 0.0001, 0.00001)]
    many = [
        replace(record, axes=at, iou={f"class {k}": float(generator.uniform()) for k in range(8)})
        for record in records
        for at in axes
    ]
    summary = summarise(study, many)
    assert len(summary.lines) == 10
    assert "link, lr 0.001" in html(summary, "x")
