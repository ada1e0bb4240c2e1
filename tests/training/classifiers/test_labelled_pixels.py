"""Collecting the features of labelled pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointcover.features.settings import FilterBankSettings
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import PixelFeatureSettings
from pointcover.training.classifiers.labelled_pixels import (
    LabelledWindow,
    Thinning,
    collect,
)
from pointcover.training.classifiers.sample_weights import (
    fix_fraction,
    weight_classes,
    weight_fractions,
)

FEATURES = PixelFeatures(
    PixelFeatureSettings(filter_bank=FilterBankSettings(sigmas_px=(1.0,))), bands=3
)


def draw_windows(labelled: float = 0.3) -> list[LabelledWindow]:
    generator = np.random.default_rng(0)
    windows = []
    for number in range(4):
        image = generator.integers(0, 256, (3, 24, 32), dtype=np.uint8)
        mask = generator.integers(0, 3, (24, 32)).astype(np.uint8)
        mask[generator.random(mask.shape) > labelled] = 255
        windows.append(LabelledWindow(image, mask, f"group {number % 2}"))
    return windows


def test_collected_features_are_those_of_the_dense_map() -> None:
    windows = draw_windows()
    pixels = collect(FEATURES, windows)
    dense = [
        FEATURES.view(torch.from_numpy(one.image)[None]).dense("filter_bank")[0] for one in windows
    ]
    wanted = [values[:, one.mask != 255].T for values, one in zip(dense, windows, strict=True)]
    np.testing.assert_array_equal(pixels.features["filter_bank"], torch.cat(wanted).numpy())
    np.testing.assert_array_equal(
        pixels.classes, np.concatenate([one.mask[one.mask != 255] for one in windows])
    )
    assert set(pixels.groups) == {0, 1}


def test_windows_of_one_image_are_computed_once(monkeypatch) -> None:
    windows = draw_windows()
    shared = [replace(window, image=windows[0].image) for window in windows]
    apart = [replace(window, image=window.image.copy()) for window in shared]
    wanted = collect(FEATURES, apart)
    calls = []
    whole = FEATURES.at

    def count(*args):
        calls.append(args)
        return whole(*args)

    monkeypatch.setattr(FEATURES, "at", count)
    found = collect(FEATURES, shared)
    assert len(calls) == 1
    np.testing.assert_array_equal(found.features["filter_bank"], wanted.features["filter_bank"])
    np.testing.assert_array_equal(found.classes, wanted.classes)
    np.testing.assert_array_equal(found.groups, wanted.groups)


def test_no_labels_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="annotate the train split"):
        collect(FEATURES, draw_windows(labelled=0))


def thin(windows: list[LabelledWindow], most: int) -> list[np.ndarray]:
    counts = [int((one.mask != 255).sum()) for one in windows]
    thinning = Thinning(counts, most, np.random.default_rng(1))
    return [thinning.thin(place, one.mask) for place, one in enumerate(windows)]


def test_thinning_draws_labelled_pixels_and_is_repeatable() -> None:
    windows = draw_windows()
    thinned, again = thin(windows, 100), thin(windows, 100)
    assert sum((mask != 255).sum() for mask in thinned) == 100
    for one, mask, other in zip(windows, thinned, again, strict=True):
        np.testing.assert_array_equal(mask, other)
        kept = mask != 255
        np.testing.assert_array_equal(mask[kept], one.mask[kept])
    for one, mask in zip(windows, thin(windows, 10**6), strict=True):
        assert mask is one.mask


def test_class_weights_multiply_and_the_mean_weight_is_one() -> None:
    classes = np.array([0] * 90 + [3] * 10)
    weights = weight_classes(classes, np.ones(100), (1, 1, 1, 9))
    assert weights[classes == 0].sum() == pytest.approx(weights[classes == 3].sum())
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_array_equal(weight_classes(classes, np.ones(100), None), np.ones(100))
    assert weight_fractions(classes, weights, 4) == pytest.approx((0.5, 0, 0, 0.5))


def test_propagated_labels_have_their_fraction_of_the_weight() -> None:
    is_clicked = np.array([True] * 5 + [False] * 95)
    weights = fix_fraction(np.linspace(0.5, 1, 100), is_clicked, 0.4)
    assert weights[~is_clicked].sum() / weights.sum() == pytest.approx(0.4)
    np.testing.assert_array_equal(fix_fraction(np.ones(3), np.ones(3, bool), 0.4), np.ones(3))
