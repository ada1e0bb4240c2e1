"""A linear discriminant analysis agrees with scikit-learn's, and is tempered by left-out groups."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from pointcover.networks.pixel_classifiers.linear_head import NEVER
from pointcover.training.classifiers import discriminant
from pointcover.training.classifiers.discriminant import TEMPERATURES, fit_discriminant
from pointcover.training.classifiers.head_settings import LinearDiscriminantSettings
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.sample_weights import weight_classes

SETTINGS = LinearDiscriminantSettings(inputs=("encoder",), shrinkages=(0.2,), folds=3)
CLASSES = 4


def draw_pixels(known=(0, 2, 3), count=90, features=6, groups=3) -> LabelledPixels:
    """Draw classes whose means are at the same distance from each other for any features."""
    generator = np.random.default_rng(1)
    classes = np.array(known)[generator.integers(0, len(known), count)]
    means = np.random.default_rng(0).normal(0, 6**0.5, (CLASSES, features)) / features**0.5
    table = (means[classes] + generator.normal(0, 1, (count, features))).astype(np.float32)
    return LabelledPixels(
        {"encoder": table},
        classes,
        np.arange(count) % groups,
        np.ones(count, bool),
        weight_classes(classes, np.ones(count), (1 / np.bincount(classes, minlength=4).clip(1))),
    )


def log_scores(state: dict[str, torch.Tensor], table: np.ndarray) -> np.ndarray:
    """Return (P, classes) log-probabilities of a head."""
    standard = (torch.from_numpy(table) - state["encoder_mean"]) / state["encoder_std"]
    logits = standard @ state["encoder_weight"].T + state["bias"]
    return logits.log_softmax(1).numpy()


@pytest.mark.parametrize("known", [(0, 2, 3), (1, 3)])
def test_it_gives_the_probabilities_of_scikit_learn(known, monkeypatch) -> None:
    monkeypatch.setattr(discriminant, "TEMPERATURES", (1.0,))
    pixels = draw_pixels(known)
    _, state = fit_discriminant(SETTINGS, pixels, CLASSES)
    table = pixels.features["encoder"]
    scaler = StandardScaler().fit(table)
    shares = np.sqrt(np.bincount(pixels.classes)[list(known)])  # theirs in the covariance as well
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=0.2, priors=shares / shares.sum()
    ).fit(scaler.transform(table), pixels.classes)
    wanted = theirs.predict_proba(scaler.transform(table)) / shares
    wanted /= wanted.sum(1, keepdims=True)
    found = np.exp(log_scores(state, table))
    np.testing.assert_allclose(found[:, list(known)], wanted, atol=1e-4)
    assert found[:, sorted(set(range(CLASSES)) - set(known))].max() < 1e-6


def test_fewer_pixels_than_features_are_tempered() -> None:
    """Without a temperature, left-out pixels have a log-likelihood far below that of chance."""
    pixels = draw_pixels(count=30, features=60)
    left_out = draw_pixels(count=300, features=60)
    truth = np.arange(300), left_out.classes

    def likelihood() -> float:
        _, state = fit_discriminant(SETTINGS, pixels, CLASSES)
        return float(log_scores(state, left_out.features["encoder"])[truth].mean())

    tempered = likelihood()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discriminant, "TEMPERATURES", (1.0,))
        assert likelihood() < tempered - 0.3
    assert tempered > np.log(1 / 3)


def test_rare_classes_are_less_likely_without_class_weights() -> None:
    pixels = draw_pixels()
    rare = pixels.classes != 2
    rare[np.flatnonzero(~rare)[:4]] = True
    few = LabelledPixels(
        {"encoder": pixels.features["encoder"][rare]},
        pixels.classes[rare],
        pixels.groups[rare],
        pixels.is_clicked[rare],
        np.ones(rare.sum()),
    )
    weights = weight_classes(
        few.classes, few.weights, (1 / np.bincount(few.classes, minlength=4).clip(1))
    )
    balanced = LabelledPixels(few.features, few.classes, few.groups, few.is_clicked, weights)
    found = [
        log_scores(fit_discriminant(SETTINGS, each, CLASSES)[1], pixels.features["encoder"])
        for each in (few, balanced)
    ]
    assert np.exp(found[0][:, 2]).mean() < np.exp(found[1][:, 2]).mean()


def test_one_class_and_one_group() -> None:
    """There is nothing to leave out, and the only class is always predicted."""
    _, state = fit_discriminant(SETTINGS, draw_pixels(known=(1,), groups=1), CLASSES)
    assert state["bias"].tolist() == [NEVER, 0, NEVER, NEVER]
    assert not state["encoder_weight"].any()
    _, state = fit_discriminant(SETTINGS, draw_pixels(groups=1), CLASSES)
    assert state["encoder_weight"].any()
    assert TEMPERATURES[0] == 1
