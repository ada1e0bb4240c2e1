"""Pixel classifiers give what scikit-learn gives, after saving, loading and exporting too."""

import io

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression

from pointcover.features.settings import (
    EncoderFeatureSettings,
)
from pointcover.networks.pixel_classifiers import tree_walk
from pointcover.networks.pixel_classifiers.classifier import PixelClassifier
from pointcover.networks.pixel_classifiers.edge_smoothing import EdgeSmoothing
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    PixelClassifierSettings,
    PixelFeatureSettings,
    SmoothingSettings,
)
from pointcover.prediction.windows import lay_axis, needs_of
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.classifiers.labelled_pixels import collect
from tests.classifiers import (
    BAND_STD,
    CLASSES,
    ENCODER,
    VISION_TRANSFORMER,
    balanced,
    classifier_settings,
    draw_image,
    draw_windows,
    fit,
)

STDS = (BAND_STD,) * 3
ALL_BLOCKS = ("filter_bank", "local_statistics", "encoder")
HEADS = ("logistic_regression", "perceptron", "random_forest", "gradient_boosting")


def probabilities(classifier: PixelClassifier, image: np.ndarray) -> np.ndarray:
    """Return (H · W, classes)."""
    found = classifier(torch.from_numpy(image)[None]).softmax(1)[0]
    return found.flatten(1).T.numpy()


def table_of(classifier: PixelClassifier, image: np.ndarray, blocks) -> np.ndarray:
    rows, cols = torch.meshgrid(*(torch.arange(side) for side in image.shape[1:]), indexing="ij")
    found = classifier.features.at(torch.from_numpy(image), rows.flatten(), cols.flatten())
    return np.concatenate([found[block].numpy() for block in blocks], 1)


def widen(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(found), CLASSES))
    wide[:, known] = found
    return wide


@pytest.mark.parametrize("known", [(0, 2, 3), (1, 3)])
@pytest.mark.parametrize("kind", ["random_forest", "extra_trees", "gradient_boosting"])
def test_trees_give_the_probabilities_of_scikit_learn(kind: str, known: tuple[int, ...]) -> None:
    inputs = ("filter_bank", "local_statistics")
    classifier = fit(kind, known=known, **{f"{kind}.inputs": inputs})
    pixels = balanced(collect(classifier.features, draw_windows(known)))
    if kind == "gradient_boosting":
        theirs = HistGradientBoostingClassifier(
            max_iter=8, max_leaf_nodes=8, min_samples_leaf=3, early_stopping=False, random_state=1
        )
    else:
        make = RandomForestClassifier if kind == "random_forest" else ExtraTreesClassifier
        theirs = make(12, max_depth=12, min_samples_leaf=3, random_state=1)
    theirs.fit(pixels.table(inputs), pixels.classes, sample_weight=pixels.weights)
    image = draw_image(9)
    wanted = widen(theirs.predict_proba(table_of(classifier, image, inputs)), theirs.classes_)
    found = probabilities(classifier, image)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    first, second = np.sort(wanted, 1)[:, :-3:-1].T
    is_clear = first - second > 1e-5
    assert (found.argmax(1) == wanted.argmax(1))[is_clear].all()


@pytest.mark.parametrize("word", [32, 8])
@pytest.mark.parametrize("kind", ["random_forest", "gradient_boosting"])
def test_compiled_trees_agree_with_those_of_gpus_and_exports(kind, word, monkeypatch) -> None:
    monkeypatch.setattr(tree_walk, "_WORD", word)  # 8 bits do not suffice for these nodes
    head = fit(kind).head
    pixels = torch.from_numpy(table_of(fit(kind), draw_image(9), head.settings.inputs))
    votes = head._walk([pixels.T[None]])
    torch.testing.assert_close(votes[0].T, head._score(pixels), atol=1e-6, rtol=1e-6)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(head._walk([pixels.T[None]]), votes)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("inputs", [("filter_bank",), ("filter_bank", "encoder")])
@pytest.mark.parametrize("known", [(0, 2, 3), (1, 3)])
def test_linear_head_gives_the_probabilities_of_scikit_learn(inputs, known) -> None:
    classifier = fit("logistic_regression", known=known, **{"logistic_regression.inputs": inputs})
    pixels = balanced(collect(classifier.features, draw_windows(known)))

    def standardise(table: np.ndarray) -> np.ndarray:
        fitted = pixels.table(inputs)
        scaled = (table - fitted.mean(0)) / np.maximum(fitted.std(0), 1e-6)
        clipped = pixels.features["filter_bank"].shape[1]
        scaled[:, :clipped] = scaled[:, :clipped].clip(-6, 6)
        return scaled

    theirs = LogisticRegression(C=1e-2, max_iter=300, tol=1e-3)
    theirs.fit(standardise(pixels.table(inputs)), pixels.classes, sample_weight=pixels.weights)
    image = draw_image(9)
    wanted = theirs.predict_proba(standardise(table_of(classifier, image, inputs)))
    found = probabilities(classifier, image)
    np.testing.assert_allclose(found, widen(wanted, theirs.classes_), atol=2e-4)


@pytest.mark.parametrize("size", [64, 96])
def test_features_of_a_vision_transformer_are_those_of_its_blocks(size) -> None:
    inputs = {"logistic_regression.inputs": ("encoder",), "random_forest.inputs": ("encoder",)}
    heads = ("logistic_regression", "random_forest")
    classifier = fit(*heads, encoder=VISION_TRANSFORMER, **inputs)
    assert classifier.features.counts(["encoder"]) == (2 * 64,)
    encoder = classifier.features.encoder
    assert (encoder.alignment_px, encoder.margin_px) == (16, 96)
    image = draw_image(9, size=size)
    points = table_of(classifier, image, ("encoder",))
    dense = classifier.features.view(torch.from_numpy(image)[None]).dense("encoder")
    np.testing.assert_allclose(dense[0].flatten(1).T.numpy(), points, rtol=1e-4, atol=1e-4)
    settings = PixelClassifierSettings.model_validate_json(classifier.settings.model_dump_json())
    loaded = PixelClassifier(settings)
    loaded.load_state_dict(classifier.state_dict(), strict=True)
    assert torch.equal(
        loaded(torch.from_numpy(image)[None]), classifier(torch.from_numpy(image)[None])
    )


def test_perceptron_learns_what_is_labelled() -> None:
    classifier = fit("perceptron", known=(0, 3))
    image = draw_image(1)
    found = probabilities(classifier, image).argmax(1)
    assert (found == np.where(image[0].ravel() < 128, 0, 3)).mean() > 0.9


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_mean_of_heads(average: str) -> None:
    image = draw_image(9)
    heads = ("logistic_regression", "random_forest", "gradient_boosting")
    parts = [probabilities(fit(head), image) for head in heads]
    found = probabilities(fit(*heads, average=average), image)
    if average == "arithmetic":
        wanted = np.mean(parts, 0)
    else:
        wanted = np.exp(np.mean([np.log(part + 1e-30) for part in parts], 0))
        wanted /= wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("smoothing_px", [0, 3])
def test_saved_tensors_and_settings_give_the_same_bits(smoothing_px: int) -> None:
    inputs = {"logistic_regression.inputs": ("filter_bank", "encoder")}
    classifier = fit(*HEADS, **inputs, smoothing_px=smoothing_px)
    file = io.BytesIO()
    torch.save(classifier.state_dict(), file)
    file.seek(0)
    settings = PixelClassifierSettings.model_validate_json(classifier.settings.model_dump_json())
    loaded = PixelClassifier(settings)
    loaded.load_state_dict(torch.load(file, weights_only=True), strict=True)
    image = torch.from_numpy(draw_image(9))[None]
    assert torch.equal(loaded(image), classifier(image))


def test_same_seed_same_bits_and_another_seed_others() -> None:
    heads = ("logistic_regression", "perceptron", "random_forest")
    first, second = (fit(*heads) for _ in range(2))
    for name, values in first.state_dict().items():
        assert torch.equal(values, second.state_dict()[name]), name
    pixels = balanced(collect(first.features, draw_windows()))
    way = ClassifierFit("random_forest", classifier_settings(), CLASSES, seed=2)
    other = way.fit(first.features, pixels, band_stds=None)
    image = draw_image(9)
    assert not np.array_equal(
        probabilities(fit("random_forest"), image), probabilities(other, image)
    )


class OnBands(torch.nn.Module):
    """A head on features that are the images themselves: what is exported is the head alone."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(Bands(images))


class Bands:
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def dense(self, block: str) -> torch.Tensor:
        return self.images


def check_export(module: torch.nn.Module, example: torch.Tensor, image: torch.Tensor) -> None:
    """Compare a module with what was exported, at another size."""
    sides = {2: 32 * torch.export.Dim("rows", min=2), 3: 32 * torch.export.Dim("cols", min=2)}
    program = torch.onnx.export(
        module.eval(),
        (example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch"), **sides},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    wanted = module(image)
    difference = (torch.from_numpy(found).softmax(1) - wanted.softmax(1)).abs().numpy()
    # A pixel whose feature is at a threshold may go the other way by rounding.
    assert np.quantile(difference, 0.999) < 1e-4
    assert (found.argmax(1) == wanted.argmax(1).numpy()).mean() > 0.9999


@pytest.mark.slow
def test_heads_export_to_onnx_with_equal_classes_at_another_size() -> None:
    small = {
        "random_forest.max_depth": 3,
        "random_forest.trees": 5,
        "gradient_boosting.max_leaves": 3,
        "gradient_boosting.rounds": 3,
    }
    classifier = fit(*HEADS, **small)
    count = len(classifier.features.filter_bank.names(3))
    rows = classifier.features.at(
        torch.from_numpy(draw_image(9)), *torch.arange(64)[None].repeat(2, 1)
    )
    spread = rows["filter_bank"]
    image = spread[torch.randint(0, 64, (64 * 96,), generator=torch.Generator().manual_seed(0))]
    image = image.view(1, 64, 96, count).permute(0, 3, 1, 2).contiguous()
    check_export(OnBands(classifier.head), torch.zeros(2, count, 96, 64), image)


@pytest.mark.slow
def test_a_vision_transformer_is_exported_with_equal_classes_at_another_size() -> None:
    inputs = {"logistic_regression.inputs": ("encoder",)}
    classifier = fit("logistic_regression", encoder=VISION_TRANSFORMER, **inputs)
    image = torch.from_numpy(draw_image(9, size=128))[None, :, :96].float()
    check_export(classifier, torch.zeros(2, 3, 64, 96), image)


def test_smoothing_is_exported_with_equal_classes_at_another_size() -> None:
    class Smoothed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return EdgeSmoothing(SmoothingSettings(band_stds=STDS))(images, images / 255)

    image = torch.from_numpy(draw_image(9, size=128))[None, :, :96].float()
    check_export(Smoothed(), torch.zeros(2, 3, 64, 96), image)


@pytest.mark.slow
def test_export_to_onnx_gives_equal_classes_at_another_size() -> None:
    changes = {"logistic_regression.inputs": ALL_BLOCKS, "smoothing_px": 3}
    classifier = fit("logistic_regression", "random_forest", **changes)
    image = torch.from_numpy(draw_image(9, size=128))[None, :, :96].float()
    check_export(classifier, torch.zeros(2, 3, 64, 96), image)


@pytest.mark.parametrize("head", HEADS)
def test_classes_without_labels_are_finite_and_never_predicted(head: str) -> None:
    logits = fit(head)(torch.from_numpy(draw_image(9))[None])
    assert torch.isfinite(logits).all()
    assert (logits.softmax(1)[:, 1] < 1e-6).all()


@pytest.mark.parametrize("head", HEADS)
def test_one_class_alone_is_predicted_everywhere(head: str) -> None:
    logits = fit(head, known=(2,))(torch.from_numpy(draw_image(9))[None])
    assert (logits.argmax(1) == 2).all()


def test_bands_of_rows_give_the_view_of_the_whole_image() -> None:
    inputs = {
        "logistic_regression.inputs": ALL_BLOCKS,
        "random_forest.inputs": ALL_BLOCKS,
    }
    classifier = fit("logistic_regression", "random_forest", "perceptron", **inputs)
    image = torch.from_numpy(draw_image(9, size=112))[None, :, :, :96]
    with torch.no_grad():
        wanted = classifier.head(classifier.features.view(image)).softmax(1)
        found = classifier(image).softmax(1)
    difference = (found - wanted).abs().amax(1)
    assert (difference > 1e-4).float().mean() < 1e-3  # a feature at a threshold of a tree


@pytest.mark.parametrize("smoothing_px", [0, 3])
def test_windows_with_the_margin_give_the_map_of_the_whole_image(smoothing_px: int) -> None:
    classifier = fit("logistic_regression", "random_forest", smoothing_px=smoothing_px)
    needs = needs_of([classifier.settings])
    assert needs.margin_px == classifier.features.margin_px + smoothing_px > smoothing_px
    image = np.tile(draw_image(9, size=64), (1, 3, 3))
    axis = lay_axis(192, 96, 0.25, needs)
    assert len(axis.starts) > 1
    whole = probabilities(classifier, image).reshape(192, 192, CLASSES)
    for start, first, last in zip(axis.starts, axis.cuts, axis.cuts[1:], strict=False):
        part = image[:, start : start + 96]
        found = probabilities(classifier, part).reshape(96, 192, CLASSES)
        difference = np.abs(found[first - start : last - start] - whole[first:last]).max(2)
        assert (difference > 1e-4).mean() < 1e-3


def test_smoothing_acts_on_the_scores_of_all_heads_and_is_a_part_of_the_model() -> None:
    plain = fit("logistic_regression", "random_forest")
    smooth = fit("logistic_regression", "random_forest", smoothing_px=2)
    chosen = SmoothingSettings(radius_px=2, band_stds=STDS)
    assert smooth.settings.smoothing == chosen
    image = torch.from_numpy(draw_image(9))[None]
    scores = plain(image)
    wanted = EdgeSmoothing(chosen)(scores, image / 255)
    torch.testing.assert_close(smooth(image), wanted, atol=1e-4, rtol=0)
    assert (wanted.argmax(1) != scores.argmax(1)).any()


def test_smoothing_has_the_stds_of_the_train_images_and_1_at_least() -> None:
    plain = fit("random_forest")
    pixels = balanced(collect(plain.features, draw_windows()))
    way = ClassifierFit("random_forest", classifier_settings(smoothing_px=3), CLASSES, seed=1)
    smoothing = way.fit(plain.features, pixels, (40.0, 0.1, 60.0)).settings.smoothing
    assert smoothing == SmoothingSettings(radius_px=3, band_stds=(40.0, 1.0, 60.0))
    assert way.fit(plain.features, pixels, band_stds=None).smoothing is None
    with pytest.raises(ValueError, match=r"got 2 standard deviation\(s\) .* each of 3 band"):
        way.fit(plain.features, pixels, (40.0, 60.0))


@pytest.mark.parametrize("smoothing_px", [0, 3])
def test_parts_of_images_are_as_the_whole_image(smoothing_px: int) -> None:
    changes = {"logistic_regression.inputs": ALL_BLOCKS, "random_forest.inputs": ALL_BLOCKS}
    changes |= {"smoothing_px": smoothing_px}
    classifier = fit("logistic_regression", "random_forest", **changes)
    images = torch.from_numpy(np.stack([draw_image(7, size=96), draw_image(8, size=96)]))
    parts = [(slice(0, 41), slice(30, 96)), (slice(17, 70), slice(3, 60))]
    whole = classifier(images).softmax(1)
    found = classifier(images, parts)
    for number, (rows, cols) in enumerate(parts):
        part = found[number, :, rows, cols].softmax(0)
        difference = (part - whole[number, :, rows, cols]).abs().amax(0)
        assert (difference > 1e-4).float().mean() < 1e-3  # a feature at a threshold of a tree
        assert (found[number, :, rows.stop :] == 0).all()


def test_more_bands_than_three() -> None:
    inputs = {"logistic_regression.inputs": ("filter_bank", "encoder")}
    classifier = fit("logistic_regression", "random_forest", bands=5, **inputs)
    assert classifier(torch.from_numpy(draw_image(9, bands=5))[None]).shape == (1, 4, 64, 64)
    with pytest.raises(ValueError, match="got images of 3 band"):
        classifier(torch.zeros(1, 3, 64, 64))


def test_a_batch_is_its_images_one_by_one() -> None:
    classifier = fit("logistic_regression", "random_forest")
    images = torch.from_numpy(np.stack([draw_image(7), draw_image(8)]))
    one_by_one = torch.cat([classifier(image[None]) for image in images])
    torch.testing.assert_close(classifier(images), one_by_one)


def test_settings_refuse_inputs_that_are_not_computed() -> None:
    settings = fit("logistic_regression").settings.model_dump()
    settings["head"]["inputs"] = ["encoder"]
    with pytest.raises(ValueError, match="add these features"):
        PixelClassifierSettings.model_validate(settings)


def test_encoder_gives_the_levels_of_timm() -> None:
    settings = ENCODER.model_copy(update={"features": EncoderFeatureSettings(scales=(1,))})
    encoder = PixelFeatures(PixelFeatureSettings(encoder=settings), 3).encoder.encoder
    theirs = timm.create_model(settings.name, features_only=True).eval()
    theirs.load_state_dict(encoder.state_dict())
    images = torch.rand(1, 3, 64, 96)
    for found, wanted in zip(encoder(images), theirs(images), strict=True):
        torch.testing.assert_close(found, wanted)
