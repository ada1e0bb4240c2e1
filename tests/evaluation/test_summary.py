"""What evaluate leaves: a summary, tables that belong to it, and panels."""

import csv
import json

import numpy as np
import pytest

from pointcover.evaluation.accumulate import SplitCounts, count_tiles
from pointcover.evaluation.summary import (
    CONFUSION_HEADER,
    class_header,
    class_rows,
    confusion_rows,
    region_header,
    region_rows,
    summarise,
)
from pointcover.metrics.confusion import scores
from pointcover.metrics.scores import split_scores
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.checkpoint import save_checkpoint
from pointcover.networks.description import Checkpoint
from pointcover.tileset.tiles import read_tile_set
from tests.evaluation.test_accumulate import predicted_of, tile_of
from tests.evaluation.test_tile_confusions import read_confusions
from tests.imagery import write_raster
from tests.train_settings import network_settings

NAMES = ("land", "water", "road")


@pytest.fixture(scope="module")
def counts() -> SplitCounts:
    """Six tiles in regions a, b, b, a, a, c."""
    batches, _ = predicted_of(6, 4)
    return count_tiles(batches, [tile_of(k, "abbaac"[k]) for k in range(6)], 3)


def test_the_summary_is_of_one_matrix_and_its_json_has_no_nan(counts):
    result = summarise(counts, NAMES, (), np.random.default_rng(0))
    whole = scores(counts.confusions.sum(axis=0), NAMES)
    assert {key: result[key] for key in whole} == whole
    assert set(result["boundary_f1"]) == {"1px", "3px", "5px"}
    assert 0 < result["boundary_f1"]["1px"] < result["boundary_f1"]["5px"] <= 1
    assert 0 < result["ece"] < 1
    interval = result["miou_interval"]["tiles"]
    assert interval["low"] < result["miou"] < interval["high"]
    assert result["miou_interval"]["regions"]["reason"] == "3 regions with labels, wanted 5"
    assert result["regions"]["count"] == 3
    json.dumps(result, allow_nan=False)
    again = summarise(counts, NAMES, (), np.random.default_rng(0))
    assert json.dumps(again) == json.dumps(result)


def test_a_split_without_a_labelled_pixel_has_a_summary_without_values(counts):
    empty = SplitCounts(
        counts.tiles, 0 * counts.confusions, 0 * counts.boundaries, 0 * counts.confidences
    )
    result = summarise(empty, NAMES, (), np.random.default_rng(0))
    assert (result["miou"], result["kappa"], result["ece"]) == (None, None, None)
    assert result["boundary_f1"] == {"1px": None, "3px": None, "5px": None}
    assert result["miou_interval"]["tiles"]["reason"].startswith("0 tiles with labels")
    assert len(list(region_rows(empty, NAMES, ()))) == 3
    json.dumps(result, allow_nan=False)


def test_each_region_has_the_scores_of_its_own_tiles(counts):
    header = region_header(NAMES)
    rows = [dict(zip(header, row, strict=True)) for row in region_rows(counts, NAMES, ())]
    assert [(row["region"], row["tiles"]) for row in rows] == [("a", 3), ("b", 2), ("c", 1)]
    wanted = split_scores(counts.confusions[[1, 2]].sum(axis=0), NAMES)
    assert rows[1]["miou"] == wanted["miou"]
    assert rows[1]["kappa"] == wanted["kappa"]
    assert rows[1]["iou road"] == wanted["by_class"]["road"]["iou"]
    result = summarise(counts, NAMES, (), np.random.default_rng(0))
    mious = [row["miou"] for row in rows]
    spread = result["regions"]
    assert (spread["miou_lowest"], spread["miou_highest"]) == (min(mious), max(mious))
    assert spread["miou_std"] == pytest.approx(np.std(mious, ddof=1))


def test_a_class_that_is_left_out_is_in_no_table_but_the_confusion_matrix(counts):
    result = summarise(counts, NAMES, ("water",), np.random.default_rng(0))
    assert list(result["by_class"]) == ["land", "road"]
    header = region_header(list(result["by_class"]))
    for row in region_rows(counts, NAMES, ("water",)):
        assert "iou water" not in dict(zip(header, row, strict=True))
    rows = list(class_rows(result["by_class"], counts.boundaries.sum(axis=0), NAMES))
    assert [row[0] for row in rows] == ["land", "road"]
    assert all(len(row) == len(class_header()) for row in rows)
    confusion = list(confusion_rows(counts.confusions.sum(axis=0), NAMES))
    assert len(confusion) == 9
    assert all(len(row) == len(CONFUSION_HEADER) for row in confusion)


# The stage


@pytest.fixture
def untrained(project, monkeypatch):
    """A project with a model as it is before training, and no MLflow."""
    monkeypatch.setattr("pointcover.evaluation.record.record_evaluation", lambda *_: None)
    project.set(
        {
            "points": 30,
            "annotate.propagator": "none",
            "evaluate.panels": 2,
            "evaluate.worst": 1,
            "evaluate.train_panels": 1,
            "evaluate.precision": "fp32",
            "evaluate.device": "cpu",
        }
    )
    return project


def make_model(project):
    project.run_once("download", "tile", "annotate")
    tile_set = read_tile_set(project.root / "data/tiles/tiles.json")
    network = network_settings("fpn")
    model = build_model(network, BandStatistics(tile_set.mean, tile_set.std), 3)
    folder = project.root / "models"
    folder.mkdir()
    save_checkpoint(
        folder,
        Checkpoint(network, tile_set, {"kept_epoch": 3}),
        model.state_dict(),
    )


def read_result(project):
    return json.loads((project.root / "metrics/evaluate.json").read_text())


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_scores_can_be_computed_again_from_the_table_of_tiles(untrained, one_deterministic_thread):
    make_model(untrained)
    untrained.run("evaluate")
    result, tables = read_result(untrained), untrained.root / "metrics/evaluation"
    assert {row["split"] for row in rows_of(tables / "tiles.csv")} == {"test"}
    names = list(result["by_class"])
    again = scores(read_confusions(tables / "tiles.csv", "test", names).sum(axis=0), names)
    assert {key: result[key] for key in again} == again
    assert result["miou_interval"]["regions"]["low"] is None
    assert "1 region with labels" in result["miou_interval"]["regions"]["reason"]
    assert "oracle_val" not in result
    assert "left_out" not in result
    (region,) = rows_of(tables / "regions.csv")
    assert float(region["miou"]) == result["miou"]
    assert sum(int(row["pixels"]) for row in rows_of(tables / "reliability.csv")) == again["pixels"]
    purity = untrained.root / "metrics/annotate/purity.png"
    assert purity.read_bytes().startswith(b"\x89PNG")
    panels = {path.name for path in (untrained.root / "metrics/panels").iterdir()}
    assert {"confusion.png", "classes.png", "reliability.png"} < panels
    assert sorted(name.split("_")[0] for name in panels if "_" in name) == [
        "fixed",
        "fixed",
        "train",
        "worst",
    ]
    drawn = [name.split("_", 2)[2] for name in panels if name.startswith(("fixed", "worst"))]
    assert len(set(drawn)) == 3, "a tile is drawn twice"
    before = untrained.outputs()
    untrained.run("evaluate")
    assert untrained.outputs() == before


@pytest.mark.slow
def test_the_oracle_scores_dense_validation_masks_and_changes_nothing_else(
    untrained, one_deterministic_thread, blank_pictures
):
    make_model(untrained)
    untrained.run("evaluate")
    alone = read_result(untrained)
    untrained.set({"evaluate.oracle": True})
    untrained.run("evaluate")
    result = read_result(untrained)
    oracle = result.pop("oracle_val")
    assert result == alone
    assert "no part in choosing the model" in oracle["note"]
    names = list(result["by_class"])
    val = read_confusions(untrained.root / "metrics/evaluation/tiles.csv", "val", names)
    assert oracle["miou"] == scores(val.sum(axis=0), names)["miou"]
    assert oracle["pixels"] == val.sum()


def test_protocols_record_what_is_left_out(untrained, one_deterministic_thread, blank_pictures):
    for name in "abc":  # areas that are wider than a noise's pixel
        mask = np.zeros((100, 130), np.uint8)
        mask[:, 60:] = 1
        mask[70:] = 2
        write_raster(untrained.data / "masks" / f"{name}.tif", mask)
    make_model(untrained)
    untrained.set({"evaluate.erode_px": 3, "evaluate.leave_out": ["road"]})
    untrained.run("evaluate")
    result = read_result(untrained)
    assert (result["erode_px"], result["left_out"]) == (3, ["road"])
    assert list(result["by_class"]) == ["land", "water"]
    # Rows 0 to 66 of columns 0 to 56 and 63 to 129.
    assert result["by_class"]["land"]["pixels"] == 67 * 57
    assert result["by_class"]["water"]["pixels"] == 67 * 67
    assert result["pixels"] == 67 * (57 + 67)
    assert set(result["boundary_f1"].values()) == {None}
    assert "do not show where boundaries are" in result["no_boundary_f1"]


def test_a_conditional_random_field_changes_predictions_and_is_recorded(
    untrained, one_deterministic_thread, blank_pictures
):
    make_model(untrained)
    untrained.run("evaluate")
    alone = read_result(untrained)
    assert "crf" not in alone
    untrained.set({"evaluate.crf.iterations": 2, "evaluate.crf.weight": 4})
    untrained.run("evaluate")
    result = read_result(untrained)
    assert result["crf"]["iterations"] == 2
    assert result["crf"]["weight"] == 4
    assert result["pixels"] == alone["pixels"]
    assert result["ece"] != alone["ece"]


def test_settings_that_do_not_match_the_labels_are_refused_first(untrained, blank_pictures):
    make_model(untrained)
    untrained.set({"evaluate.leave_out": ["lava"]})
    assert "evaluate.leave_out names lava" in untrained.refusal("evaluate")
