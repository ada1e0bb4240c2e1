"""The report's numbers are those counted by hand, and the stage's clicks nest and stay."""

import json

import numpy as np
import pytest
import rasterio
from sklearn.metrics import accuracy_score, precision_score, recall_score

from pointcover.annotation.report import AnnotationReport
from tests.imagery import write_pair

N = 255
DENSE = np.array([[0, 0, 0, 1], [1, 1, N, N]], np.uint8)
CLICKS = np.array([[0, N, N, N], [N, 1, N, N]], np.uint8)
LABELS = np.array([[0, 0, 1, N], [N, 1, 1, N]], np.uint8)
# Propagated: (0, 1) as 0, right; (0, 2) as 1, wrong; (1, 2) as 1, nobody knows.


def counts(recall, **others):
    others = {"wrong_clicks": 0, "tiles": 1, "tiles_without_clicks": 0} | others
    return {"recall": recall and round(recall, 6), **others}


def test_a_tile_is_counted_as_by_hand():
    report = AnnotationReport(("land", "water", "road"))
    report.add(DENSE, CLICKS, LABELS)
    assert report.summary() == {
        "tiles": 1,
        "tiles_without_clicks": 0,
        "clicks": 2,
        "wrong_clicks": 0,
        "clicks_per_tile": 2.0,
        "propagated_pixels": 3,
        "labelled_pixels": 5,
        "labelled_fraction": round(4 / 6, 6),  # of the six whose class is known
        "purity": 0.75,  # both clicks and one of the two labels pixels that are known
        "macro_precision": 0.75,  # of land and water: road has no label
        "error": 0.5,
        "by_class": {
            "land": counts(clicks=1, propagated_pixels=1, error=0.0, precision=1.0, recall=2 / 3),
            "water": counts(clicks=1, propagated_pixels=2, error=1.0, precision=0.5, recall=1 / 3),
            "road": counts(
                tiles=0, clicks=0, propagated_pixels=0, error=None, precision=None, recall=None
            ),
        },
    }


def test_a_class_of_a_tile_that_got_no_click_is_counted():
    report, other = (AnnotationReport(("land", "water", "road")) for _ in range(2))
    report.add(DENSE, CLICKS, LABELS)  # land and water are there, and clicked
    only_land = np.where(CLICKS == 0, CLICKS, N).astype(np.uint8)
    other.add(DENSE, only_land, LABELS)  # propagated labels are no clicks
    other.add(np.full((2, 4), N, np.uint8), CLICKS, CLICKS)  # nobody knows what is there
    report.include(other)
    found = {
        name: (counts["tiles"], counts["tiles_without_clicks"])
        for name, counts in report.summary()["by_class"].items()
    }
    assert found == {"land": (2, 0), "water": (2, 1), "road": (0, 0)}


def test_clicks_of_the_wrong_class_are_counted_by_the_class_they_were_given():
    clicks = np.array([[1, N, N, 1], [N, 2, 1, N]], np.uint8)
    # (0, 0) is 0, (1, 1) is 1, (0, 3) is right, and what (1, 2) is, nobody knows.
    labels = clicks.copy()
    labels[0, 1] = 0
    report = AnnotationReport(("land", "water", "road"))
    report.add(DENSE, clicks, labels)
    report.add(DENSE, CLICKS, CLICKS)
    summary = report.summary()
    assert (summary["clicks"], summary["wrong_clicks"]) == (4 + 2, 2)
    of_class = {name: counts["wrong_clicks"] for name, counts in summary["by_class"].items()}
    assert of_class == {"land": 0, "water": 1, "road": 1}
    assert summary["error"] == 0.0  # of the one labels pixel
    assert summary["labelled_fraction"] == round((4 + 2) / 12, 6)  # (1, 2) is none of the six


def test_tiles_add_up_and_one_without_clicks_is_counted():
    report = AnnotationReport(("land", "water"))
    nothing = np.full((2, 4), N, np.uint8)
    for clicks, labels in ((CLICKS, LABELS), (CLICKS, CLICKS), (nothing, nothing)):
        report.add(DENSE, clicks, labels)
    summary = report.summary()
    assert (summary["tiles"], summary["tiles_without_clicks"]) == (3, 1)
    assert (summary["clicks"], summary["propagated_pixels"]) == (4, 3)
    assert summary["labelled_fraction"] == pytest.approx((4 + 2) / 18, abs=1e-6)


def test_what_only_dense_masks_tell_is_null_without_them():
    report = AnnotationReport(("land", "water"))
    report.add(np.full((2, 4), N, np.uint8), CLICKS, LABELS)
    summary = report.summary()
    assert summary["wrong_clicks"] is summary["labelled_fraction"] is None
    for counts in summary["by_class"].values():
        told = ("tiles", "tiles_without_clicks", "wrong_clicks", "error", "precision", "recall")
        assert {counts[name] for name in told} == {None}
    assert sum(counts["clicks"] for counts in summary["by_class"].values()) == summary["clicks"] > 0


def test_reports_of_two_halves_include_to_the_report_of_the_whole():
    whole = AnnotationReport(("land", "water"))
    halves = [AnnotationReport(("land", "water")) for _ in range(2)]
    for half, labels in zip(halves, ((CLICKS, LABELS), (CLICKS, CLICKS)), strict=True):
        half.add(DENSE, *labels)
        whole.add(DENSE, *labels)
    halves[0].include(halves[1])
    assert halves[0].summary() == whole.summary()


def test_precision_and_purity_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    dense = generator.integers(0, 3, (40, 40)).astype(np.uint8)
    labels = np.where(generator.random(dense.shape) < 0.7, dense, (dense + 1) % 3).astype(np.uint8)
    labels[generator.random(dense.shape) < 0.6] = N
    clicks = np.where(generator.random(dense.shape) < 0.1, labels, N).astype(np.uint8)
    report = AnnotationReport(("a", "b", "c"))
    report.add(dense, clicks, labels)
    summary = report.summary()
    labelled = labels != N
    precision = precision_score(dense[labelled], labels[labelled], average=None)
    recall = recall_score(dense.ravel(), labels.ravel(), labels=[0, 1, 2], average=None)
    for i, entry in enumerate(summary["by_class"].values()):
        assert entry["precision"] == pytest.approx(precision[i], abs=1e-6)
        assert entry["recall"] == pytest.approx(recall[i], abs=1e-6)
    assert summary["macro_precision"] == pytest.approx(precision.mean(), abs=1e-6)
    right = accuracy_score(dense[labelled], labels[labelled])
    assert summary["purity"] == pytest.approx(right, abs=1e-6)


def test_fractions_of_nothing_are_null_and_none_is_more_than_one():
    report = AnnotationReport(("land", "water"))
    assert report.summary()["error"] is None
    assert report.summary()["labelled_fraction"] is None
    dense = np.full((1, 5), N, np.uint8)
    dense[0, [0, 4]] = 0
    clicks = dense.copy()
    report.add(dense, clicks, np.zeros((1, 5), np.uint8))  # three pixels labels where none is known
    assert report.summary()["labelled_fraction"] == 1.0
    assert report.summary()["error"] is None
    json.dumps(report.summary(), allow_nan=False)


# The stage


def read_sparse(project, kind, split, name):
    with rasterio.open(project.root / "data" / "sparse" / kind / split / f"{name}.tif") as file:
        assert file.nodata == N
        assert file.crs == "EPSG:2180"
        assert set(file.block_shapes) == {(64, 64)}
        return file.read(1)


def test_clicks_nest_stay_when_an_orthophoto_comes_and_are_counted(project, blank_pictures):
    project.run("download", "tile")
    clicks = {}
    for points in (5, 20):
        project.set({"points": points, "annotate.unit": "per_class"})
        project.run("annotate")
        places = (("train", "a"), ("val", "b"))
        clicks[points] = [read_sparse(project, "clicks", *place) for place in places]
    for few, many in zip(clicks[5], clicks[20], strict=True):
        clicked = few != N
        assert np.array_equal(many[clicked], few[clicked])
        assert (many != N).sum() > clicked.sum() > 0

    # The first tile, 64 × 64 of noise, has more than 20 pixels of every class.
    assert np.bincount(clicks[20][0][:64, :64].ravel())[:3].tolist() == [20, 20, 20]
    report = json.loads((project.root / "metrics" / "annotate.json").read_text())
    assert report["train"]["clicks"] == (clicks[20][0] != N).sum()
    masks = read_sparse(project, "masks", "train", "a")
    assert report["train"]["labelled_pixels"] == (masks != N).sum()
    assert np.array_equal(masks[clicks[20][0] != N], clicks[20][0][clicks[20][0] != N])
    with rasterio.open(project.data / "masks" / "a.tif") as file:
        dense = file.read(1)
    assert np.array_equal(dense[clicks[20][0] != N], clicks[20][0][clicks[20][0] != N])
    labels = (masks != N) & (clicks[20][0] == N)
    known = labels & (dense != N)
    error = (dense != masks)[known].mean()
    assert report["train"]["error"] == pytest.approx(error, abs=1e-6)

    # An orthophoto that sorts before all others moves no click.
    write_pair(project.data, "0", 90, 70)
    project.run("download", "tile", "annotate")
    assert read_sparse(project, "clicks", "train", "0").shape == (90, 70)
    assert np.array_equal(read_sparse(project, "clicks", "train", "a"), clicks[20][0])


def test_the_test_split_gets_no_sparse_labels(project):
    project.run("download", "tile", "annotate")
    sparse = project.root / "data" / "sparse"
    assert sorted(path.name for path in (sparse / "clicks").iterdir()) == ["train", "val"]
    assert ",test," not in (sparse / "index.csv").read_text()
