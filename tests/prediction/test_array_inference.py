"""Scores and layers without torch are those with torch."""

import numpy as np
import pytest
import torch

from pointcover.prediction.array_inference import ArrayInference, find_best
from pointcover.prediction.predict import score_views
from pointcover.prediction.priors import correct_logits, shifts_of
from pointcover.prediction.settings import LayerSettings
from pointcover.prediction.sliding_window import SeamCount, plan_windows, stream_strips
from pointcover.prediction.window_inference import MapLayers, WindowInference
from tests.prediction.test_sliding_window import NOISE, Picture

CLASSES = 5
CPU = torch.device("cpu")


def probabilities(images):
    """Depend on the value of a pixel and of its neighbours to the left, which views change."""
    values = images[:, 0].astype(np.float32) / 50
    values = values + np.roll(values, 1, axis=2) / 3 + np.roll(values, 1, axis=1) / 7
    logits = np.stack([np.sin(values * (number + 1)) for number in range(CLASSES)], axis=1)
    powers = np.exp(2 * logits)
    return powers / powers.sum(axis=1, keepdims=True)


def by_torch(images):
    return torch.from_numpy(probabilities(images.numpy()))


def draw_scores(generator, shape=(2, 40, 30)):
    scores = generator.dirichlet(np.full(CLASSES, 0.3), shape).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(scores, -1, 1))


def test_layers_are_those_of_torch():
    scores = draw_scores(np.random.default_rng(0))
    scores[0, :, 0, 0] = [0, 0.5, 0.5, 0, 0]  # equal ones: the first
    scores[0, :, 0, 1] = [0, 0, 0, 1, 0]
    kept = LayerSettings(entropy=True, probabilities=True)
    inference = ArrayInference([probabilities], CLASSES, kept, 2)
    found = inference.encode(scores)
    wanted = MapLayers(kept).encode(torch.from_numpy(scores)).numpy()
    assert found.dtype == np.uint8
    assert found.shape[1] == inference.layers_count == 3 + CLASSES
    without_entropy = [0, 1, *range(3, 3 + CLASSES)]
    assert np.array_equal(found[:, without_entropy], wanted[:, without_entropy])
    # The logarithms of both libraries differ by rounding.
    assert abs(found[:, 2].astype(int) - wanted[:, 2]).max() <= 1
    assert (found[:, 2] == wanted[:, 2]).mean() > 0.99
    assert found[0, :3, 0, 0].tolist() == [1, 50, 43]


def test_the_best_class_is_the_first_of_the_largest():
    scores = np.random.default_rng(1).integers(0, 3, (2, CLASSES, 9, 9)).astype(np.float32)
    best, ids = find_best(scores)
    assert np.array_equal(ids, scores.argmax(axis=1))
    assert np.array_equal(best, scores.max(axis=1))


@pytest.mark.parametrize("blend", [False, True])
def test_a_map_is_that_of_torch(blend):
    plan = plan_windows(300, 280, 64, 0.25, blend)
    kept = LayerSettings(probabilities=True)
    of_arrays = ArrayInference([probabilities], CLASSES, kept, 3)
    of_torch = WindowInference(by_torch, CLASSES, MapLayers(kept), 3, CPU)
    found, wanted = [], []
    counts = SeamCount(), SeamCount()
    for inference, strips, seams in zip(
        (of_arrays, of_torch), (found, wanted), counts, strict=True
    ):
        strips += stream_strips(Picture(NOISE), plan, inference, seams=seams)
    assert len(found) == len(wanted) > 4
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, wanted, strict=True))
    assert counts[0] == counts[1]
    assert blend or counts[0].unlike > 0


def test_views_are_those_of_torch():
    windows = NOISE[None, :, :64, :64]
    inference = ArrayInference([probabilities], CLASSES, LayerSettings(), 1, average_views=True)
    wanted = score_views(lambda images: by_torch(images).log(), torch.from_numpy(windows))
    found = inference.score(windows, None)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)
    assert abs(found - probabilities(windows)).max() > 0.1


def test_shifts_are_the_correction_of_logits():
    windows = NOISE[None, :, :64, :64]
    priors, fractions = (0.6, 0.1, 0.1, 0.1, 0.1), (0.1, 0.3, 0.2, 0.2, 0.2)
    shifts = shifts_of(priors, fractions, tau=0.7)
    inference = ArrayInference([probabilities], CLASSES, LayerSettings(), 1, False, [shifts])
    logits = by_torch(torch.from_numpy(windows)).log()
    wanted = correct_logits(logits, priors, fractions, tau=0.7).softmax(dim=1)
    found = inference.score(windows, None)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)
    assert (found.argmax(1) != probabilities(windows).argmax(1)).any()


def test_probabilities_of_an_ensemble_are_averaged():
    windows = NOISE[None, :, :64, :64]

    def other(images):
        return probabilities(images)[:, ::-1]

    inference = ArrayInference([probabilities, other], CLASSES, LayerSettings(), 1)
    found = inference.score(windows, None)
    wanted = (probabilities(windows) + other(windows)) / 2
    np.testing.assert_allclose(found, wanted, atol=1e-6)
