from pointcover.evaluation.run_description import MOST_CLASSES, describe_run


def result_of(classes, low=None):
    return {
        "miou": 0.5,
        "accuracy": 0.75,
        "scored_on": "dense masks",
        "miou_interval": {"regions": {"low": low, "high": low and low + 0.25}},
        "by_class": {f"c{k}": {"iou": None if k else 0.25, "pixels": k} for k in range(classes)},
    }


def test_a_description_has_scores_classes_and_panels():
    text = describe_run(result_of(2, low=0.25), {"clicks": 40}, "abc", ["panels/fixed 1.png"])
    assert "| test mIoU | 0.500 |" in text
    assert "| 95 % interval over regions | 0.250 to 0.500 |" in text
    assert "| point labels | 40 |" in text
    assert "| IoU c0 | 0.250 |" in text
    assert "| IoU c1 | - |" in text
    assert "(get-artifact?path=panels%2Ffixed+1.png&run_uuid=abc)" in text
    assert "interval" not in describe_run(result_of(2), {"clicks": 40}, "abc", [])


def test_a_class_name_stays_in_its_cell():
    result = result_of(0) | {"by_class": {"grass | trees": {"iou": 0.25, "pixels": 1}}}
    text = describe_run(result, {"clicks": 40}, "abc", [])
    assert r"| IoU grass \| trees | 0.250 |" in text


def test_many_classes_do_not_pass_the_length_that_mlflow_stores():
    text = describe_run(result_of(500), {"clicks": 40}, "abc", [])
    assert len(text) < 5000
    assert text.count("| IoU ") == MOST_CLASSES
    assert "| IoU c499 |" in text, "those of the most pixels"
