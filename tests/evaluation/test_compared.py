"""metrics/scores.json has at most ten numbers, whatever the classes, and none without a value."""

import json

import numpy as np
import pytest

from pointcover.evaluation.accumulate import count_tiles
from pointcover.evaluation.compared import compared
from pointcover.evaluation.summary import summarise
from tests.evaluation.test_accumulate import predicted_of, tile_of

TEN = (
    "miou",
    "lowest_iou",
    "accuracy",
    "mean_f1",
    "clicks",
    "val_miou",
    "boundary_f1",
    "ece",
    "miou_low",
    "miou_high",
)


@pytest.fixture
def annotation(tmp_path):
    path = tmp_path / "annotate.json"
    path.write_text(json.dumps({"train": {"clicks": 40}}))
    return path


@pytest.fixture
def result():
    batches, _ = predicted_of(6, 4)
    counts = count_tiles(batches, [tile_of(k, "abbaac"[k]) for k in range(6)], 3)
    return summarise(counts, ("land", "water", "road"), (), np.random.default_rng(0))


def test_values_are_those_of_the_summary_and_those_without_one_are_left_out(result, annotation):
    result["by_class"]["road"]["iou"] = None
    found = compared(result, {"val_miou": 0.25}, annotation)
    assert list(found) == [name for name in TEN if not name.startswith("miou_")]
    assert found["miou"] == result["miou"]
    assert found["boundary_f1"] == result["boundary_f1"]["3px"]
    assert found["lowest_iou"] == min(result["by_class"][c]["iou"] for c in ("land", "water"))
    assert (found["val_miou"], found["clicks"]) == (0.25, 40)
    result["miou_interval"]["regions"] = {"low": 0.25, "high": 0.5}  # from five regions on
    assert tuple(compared(result, {"val_miou": 0.25}, annotation)) == TEN


def test_damage_to_the_number_of_clicks_names_the_file(result, annotation):
    annotation.write_text("{}")
    with pytest.raises(ValueError, match=r"annotate\.json"):
        compared(result, {"val_miou": 0.25}, annotation)
