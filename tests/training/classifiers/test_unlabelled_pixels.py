"""A perceptron also learns from unlabelled pixels, to what all fitted classifiers say of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointcover.labels import IGNORE_INDEX
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import PixelFeatureSettings
from pointcover.training.classifiers.fit import MEAN, ClassifierFit, with_probabilities
from pointcover.training.classifiers.labelled_pixels import (
    LabelledPixels,
    UnlabelledDraw,
    UnlabelledPixels,
    collect,
)
from pointcover.training.classifiers.perceptron import fit_perceptron
from tests.classifiers import CLASSES, FILTERS, balanced, classifier_settings, draw_windows

FEATURES = PixelFeatures(PixelFeatureSettings(filter_bank=FILTERS), bands=3)


def test_drawn_pixels_have_data_and_no_label_and_lie_in_the_window() -> None:
    own = slice(8, 40), slice(0, 50)
    window = replace(draw_windows()[0], own=own)
    window.image[:, 20:30] = 0
    drawn = UnlabelledDraw(3, 900, seed=4).mark(window).unlabelled
    assert drawn.sum() == 300
    assert (window.mask[drawn] == IGNORE_INDEX).all()
    assert window.image[:, drawn].any(axis=0).all()
    assert drawn[own].sum() == 300
    assert drawn[own][:, :25].any()
    assert drawn[own][:, 25:].any()
    again = UnlabelledDraw(3, 900, seed=4).mark(window).unlabelled
    np.testing.assert_array_equal(again, drawn)
    other = UnlabelledDraw(3, 900, seed=5).mark(window).unlabelled
    assert (other != drawn).any()


def test_a_window_with_fewer_pixels_gives_all_and_none_are_drawn_by_default() -> None:
    window = replace(draw_windows()[0], own=(slice(3, 5), slice(0, 4)))
    free = (window.mask[3:5, :4] == IGNORE_INDEX).sum()
    assert UnlabelledDraw(1, 100, seed=0).mark(window).unlabelled.sum() == free
    assert UnlabelledDraw(1, 0, seed=0).mark(window).unlabelled is None
    assert collect(FEATURES, draw_windows()).unlabelled is None


def marked():
    draw = UnlabelledDraw(3, 600, seed=1)
    return [draw.mark(window) for window in draw_windows()]


def test_features_of_labelled_and_unlabelled_pixels_are_those_of_the_image() -> None:
    windows = marked()
    found = collect(FEATURES, windows)
    alone = collect(FEATURES, draw_windows())
    np.testing.assert_array_equal(found.features["filter_bank"], alone.features["filter_bank"])
    np.testing.assert_array_equal(found.classes, alone.classes)
    dense = [
        FEATURES.view(torch.from_numpy(one.image)[None]).dense("filter_bank") for one in windows
    ]
    wanted = [values[0][:, one.unlabelled].T for values, one in zip(dense, windows, strict=True)]
    np.testing.assert_array_equal(
        found.unlabelled.features["filter_bank"], torch.cat(wanted).numpy()
    )


def fit(pixels: LabelledPixels, *heads: str, **changes):
    settings = classifier_settings(mean_of=heads, **changes)
    model = heads[0] if len(heads) == 1 else MEAN
    return ClassifierFit(model, settings, CLASSES, seed=1).fit(
        FEATURES, balanced(pixels), band_stds=None
    )


def test_only_the_perceptron_changes_and_the_same_seed_gives_the_same_one() -> None:
    pixels = collect(FEATURES, marked())
    heads = "perceptron", "extra_trees"
    plain = fit(replace(pixels, unlabelled=None), *heads).head.heads
    taught = fit(pixels, *heads).head.heads
    again = fit(pixels, *heads).head.heads
    for name, values in plain[1].state_dict().items():
        assert torch.equal(values, taught[1].state_dict()[name])
    weight = "filter_bank_weight"
    assert not torch.equal(taught[0].get_buffer(weight), plain[0].get_buffer(weight))
    assert torch.equal(taught[0].get_buffer(weight), again[0].get_buffer(weight))


def test_others_do_not_learn_from_unlabelled_pixels() -> None:
    pixels = collect(FEATURES, marked())
    plain = fit(replace(pixels, unlabelled=None), "logistic_regression").head.state_dict()
    for name, values in fit(pixels, "logistic_regression").head.state_dict().items():
        assert torch.equal(values, plain[name])
    settings = classifier_settings(**{"perceptron.unlabelled_pixels": 50})
    for model, wanted in (("perceptron", 50), ("random_forest", 0)):
        assert ClassifierFit(model, settings, CLASSES, seed=1).unlabelled_pixels == wanted


def test_targets_are_the_sharpened_probabilities_of_the_joined_heads() -> None:
    pixels = collect(FEATURES, marked())
    classifier = fit(replace(pixels, unlabelled=None), "perceptron", "random_forest")
    found = with_probabilities(classifier, pixels.unlabelled).probabilities
    window = marked()[0]
    with torch.no_grad():
        dense = classifier(torch.from_numpy(window.image)[None])[0].softmax(dim=0)
    wanted = dense[:, window.unlabelled].T.numpy() ** 2  # temperature 0.5
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[: len(wanted)], wanted, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def two_clouds(seed: int) -> tuple[LabelledPixels, np.ndarray, np.ndarray]:
    """Draw three labelled pixels of two classes, and unlabelled ones, in 40 dimensions."""
    generator = np.random.default_rng(seed)
    classes = np.repeat([0, 1], 1003)
    centres = generator.normal(0, 0.45, (2, 40))
    values = (centres[classes] + generator.normal(0, 1, (2006, 40))).astype(np.float32)
    labelled = np.r_[0:3, 1003:1006]
    free = np.setdiff1d(np.arange(2006), labelled)
    pixels = LabelledPixels(
        {"filter_bank": values[labelled]},
        classes[labelled],
        labelled,
        np.ones(6, bool),
        np.ones(6),
        UnlabelledPixels({"filter_bank": values[free[::2]]}),
    )
    return pixels, values[free[1::2]], classes[free[1::2]]


def score(head, values) -> np.ndarray:
    settings, state = head
    values = (torch.from_numpy(values) - state["filter_bank_mean"]) / state["filter_bank_std"]
    hidden = values.clamp(-settings.clip, settings.clip) @ state["filter_bank_weight"].T
    hidden = (hidden + state["bias"]).relu()
    return (hidden @ state["output_weight"].T + state["output_bias"]).softmax(dim=1).numpy()


def test_unlabelled_pixels_make_it_more_accurate() -> None:
    settings = classifier_settings(**{"perceptron.steps": 400, "perceptron.hidden": 32}).perceptron
    gains = []
    for seed in range(4):
        pixels, values, classes = two_clouds(seed)
        plain = fit_perceptron(settings, pixels, 2, seed)
        told = score(plain, pixels.unlabelled.features["filter_bank"])
        unlabelled = replace(pixels.unlabelled, probabilities=told)
        taught = fit_perceptron(settings, replace(pixels, unlabelled=unlabelled), 2, seed)
        right = [(score(head, values).argmax(1) == classes).mean() for head in (plain, taught)]
        gains.append(right[1] - right[0])
    assert np.mean(gains) > 0.01, gains


def test_class_weights_count_once() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(6000, 12)).astype(np.float32)
    classes = (generator.random(3000) < 0.1).astype(np.int64)  # features do not tell it
    weights = np.where(classes, 0.5 / classes.mean(), 0.5 / (1 - classes.mean()))
    unlabelled = UnlabelledPixels({"filter_bank": values[3000:]})
    pixels = LabelledPixels(
        {"filter_bank": values[:3000]}, classes, classes, classes >= 0, weights, unlabelled
    )
    settings = classifier_settings(**{"perceptron.steps": 600}).perceptron
    first = score(fit_perceptron(settings, pixels, 2, seed=1), values[3000:])
    assert first[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    scored = replace(pixels, unlabelled=replace(unlabelled, probabilities=first))
    second = score(fit_perceptron(settings, scored, 2, seed=1), values[3000:])
    assert second[:, 1].mean() == pytest.approx(0.5, abs=0.05)


def test_tiles_whose_pixels_are_all_labelled_have_none_to_learn_from() -> None:
    windows = draw_windows()
    for window in windows:
        window.mask[:] = 0
        window.mask[:, ::2] = 1
    draw = UnlabelledDraw(3, 600, seed=1)
    pixels = collect(FEATURES, [draw.mark(window) for window in windows])
    assert pixels.unlabelled is None
    fit(pixels, "perceptron")


def test_unlabelled_pixels_alone_are_refused() -> None:
    windows = draw_windows()
    for window in windows:
        window.mask[:] = IGNORE_INDEX
    draw = UnlabelledDraw(3, 600, seed=1)
    with pytest.raises(ValueError, match="no labelled pixel"):
        collect(FEATURES, [draw.mark(window) for window in windows])


def test_a_head_that_is_named_twice_has_twice_the_weight() -> None:
    heads = fit(collect(FEATURES, marked()), "perceptron", "perceptron", "extra_trees").head.heads
    assert len(heads) == 3
    weight = "filter_bank_weight"
    assert torch.equal(heads[0].get_buffer(weight), heads[1].get_buffer(weight))


@pytest.mark.parametrize("wanted", [-1, 2.5, True])
def test_refused_numbers(wanted) -> None:
    with pytest.raises(ValueError, match=r"perceptron\.unlabelled_pixels"):
        classifier_settings(**{"perceptron.unlabelled_pixels": wanted})
