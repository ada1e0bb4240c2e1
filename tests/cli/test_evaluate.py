"""What `pointcover evaluate` prints of the scores."""

import pytest

from pointcover.cli.evaluate import describe_scores


@pytest.mark.parametrize(
    ("miou", "models", "said"),
    [
        (0.5, 1, "test mIoU 0.500, accuracy 0.750, of 1 model, on dense masks"),
        (None, 3, "test mIoU none, accuracy 0.750, of 3 models, on dense masks"),
    ],
)
def test_scores_are_printed_with_the_number_of_models(miou, models, said):
    result = {"miou": miou, "accuracy": 0.75, "model_count": models, "scored_on": "dense masks"}
    assert describe_scores(result) == said
