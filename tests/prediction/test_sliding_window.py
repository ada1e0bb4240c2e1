"""A streamed map is what the network says of each pixel, wherever its windows fall."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.settings import LayerSettings
from pointcover.prediction.sliding_window import SeamCount, plan_windows, stream_strips
from pointcover.prediction.window_inference import MapLayers, WindowInference

CPU = torch.device("cpu")
TWO = MapLayers(LayerSettings())


class Picture:
    """An image in memory, which counts the rows that are read of it."""

    def __init__(self, image, valid=None):
        self.image = image
        self.valid = np.ones(image.shape[1:], bool) if valid is None else valid
        self.rows_read = []

    def read_rows(self, top, bottom):
        self.rows_read += range(top, bottom)
        return self.image[:, top:bottom].copy(), self.valid[top:bottom].copy()


def identity(images):
    """Be sure of the class that the first band names, of five."""
    return nn.functional.one_hot(images[:, 0].long(), 5).movedim(-1, 1).float()


def stream(picture, plan, score, layers=TWO, batch_size=3, first=0, classes=5):
    inference = WindowInference(score, classes, layers, batch_size, CPU)
    return dict(stream_strips(picture, plan, inference, first=first))


def whole(strips):
    return np.concatenate([strips[number] for number in sorted(strips)], axis=1)


LAID = [(32, 0), (64, 0), (64, 0.3), (96, 0.25), (96, 0.6), (128, 0.75)]
"""Height and width of windows, and the fraction that they have in common."""


@settings(max_examples=150)
@given(
    height=st.integers(1, 230),
    width=st.integers(1, 230),
    laid=st.sampled_from(LAID),
    blend=st.booleans(),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 99),
    share_without=st.sampled_from([0, 0.01, 0.9, 1]),
)
def test_an_identity_model_returns_its_input_for_every_size_window_and_overlap(
    height, width, laid, blend, batch_size, seed, share_without
):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 5, (2, height, width), np.uint8)
    # Pixels without data come in blocks, so that whole windows have none.
    coarse = generator.random((height // 40 + 1, width // 40 + 1)) < share_without
    valid = ~np.kron(coarse, np.ones((40, 40), bool))[:height, :width]
    picture = Picture(image, valid)
    plan = plan_windows(height, width, *laid, blend)
    strips = stream(picture, plan, identity, batch_size=batch_size)
    assert [strip.shape[1] for strip in strips.values()] == np.diff(plan.cuts).tolist()
    assert np.array_equal(whole(strips)[0], np.where(valid, image[0], IGNORE_INDEX))
    assert np.array_equal(whole(strips)[1], np.where(valid, 100, IGNORE_INDEX))
    assert picture.rows_read == list(range(height))  # each once, in order


def brightness(images):
    """See the whole window: class 1 where it is bright in the mean, else class 0."""
    is_bright = images[:, 0].float().mean(dim=(1, 2)) > 100
    return (
        nn.functional.one_hot(is_bright.long(), 2)
        .float()[:, :, None, None]
        .expand(-1, -1, *images.shape[2:])
    )


def test_pixels_near_seams_and_with_different_classes_are_counted():
    image = np.full((1, 40, 160), 50, np.uint8)
    image[:, :, 96:] = 150
    valid = np.ones((40, 160), bool)
    valid[:10] = False
    plan = plan_windows(40, 160, 64, 0.5, blend=False)
    assert plan.columns.starts == (0, 32, 64, 96)
    assert plan.columns.cuts == (0, 48, 80, 112, 160)
    # Windows are dark, dark, bright (their mean is 100, but for one pixel) and bright.
    image[0, 20, 64] = 250
    for batch_size in (1, 2, 5):
        seams = SeamCount()
        inference = WindowInference(brightness, 2, TWO, batch_size, CPU)
        strips = stream_strips(Picture(image, valid), plan, inference, seams=seams)
        list(strips)
        # Three seams of 32 columns and 30 rows with data; at the second one windows differ.
        assert (seams.pixels, seams.unlike) == (3 * 32 * 30, 32 * 30)


def test_windows_of_an_identity_model_agree_and_blended_ones_are_not_compared():
    image = np.random.default_rng(0).integers(0, 5, (2, 90, 150), np.uint8)
    for blend in (False, True):
        seams = SeamCount()
        plan = plan_windows(90, 150, 64, 0.25, blend)
        inference = WindowInference(identity, 5, TWO, 2, CPU)
        list(stream_strips(Picture(image), plan, inference, seams=seams))
        assert seams.unlike == 0
        # Three seams of 32 columns; rows that two rows of windows share are counted once.
        assert seams.pixels == (0 if blend else 3 * 32 * 90)


class Convolutions(nn.Module):
    """Sees 8 px around, is padded with zeros, and so says something else at a window's edge."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        kernels = [(2, 8), (8, 8), (8, 8), (8, 4)]
        layers = [nn.Conv2d(a, b, 5, padding=2) for a, b in kernels]
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.4)
        self.layers = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])

    def forward(self, images):
        return self.layers(images.float() / 128 - 1).softmax(dim=1)


NOISE = np.random.default_rng(0).integers(0, 256, (2, 300, 280), np.uint8)


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_a_map_that_is_begun_at_any_strip_has_the_same_bytes(blend, overlap):
    plan = plan_windows(300, 280, 64, overlap, blend)
    layers = MapLayers(LayerSettings(entropy=True, probabilities=True))
    picture = Picture(NOISE)
    wanted = stream(picture, plan, Convolutions(), layers, classes=4)
    assert len(wanted) > 4
    for first in wanted:
        found = stream(Picture(NOISE), plan, Convolutions(), layers, first=first, classes=4)
        assert sorted(found) == sorted(wanted)[first:]
        for number, strip in found.items():
            assert np.array_equal(strip, wanted[number])


def seam_share(left, overlap, blend=False):
    """The fraction of pixels near seams that changes when windows begin `left` px further on."""
    there = Picture(NOISE[:, left:, left:])
    shifted = plan_windows(*there.image.shape[1:], 64, overlap, blend)
    plan = plan_windows(300, 280, 64, overlap, blend)
    score = Convolutions()
    one = whole(stream(Picture(NOISE), plan, score, classes=4))[0][left:, left:]
    other = whole(stream(there, shifted, score, classes=4))[0]
    near = np.zeros(one.shape, bool)
    for laid, moved in ((plan, left), (shifted, 0)):
        for cut in laid.rows.cuts[1:-1]:
            near[max(0, cut - moved - 16) : max(0, cut - moved + 16)] = True
        for cut in laid.columns.cuts[1:-1]:
            near[:, max(0, cut - moved - 16) : max(0, cut - moved + 16)] = True
    near[:8], near[:, :8] = False, False  # here one of the two lies at the raster's edge
    return (one != other)[near].mean()


@pytest.mark.parametrize("left", [7, 16, 30])
def test_window_positions_change_at_most_two_pixels_in_a_thousand(left):
    assert seam_share(left, 0.25) <= 0.002
    assert seam_share(left, 0.25, blend=True) <= 0.03
    assert seam_share(left, 0) > 0.03  # plain tiling


def test_windows_without_data_are_not_predicted():
    seen = []

    def score(images):
        seen.append(len(images))
        return identity(images)

    valid = np.zeros((128, 256), bool)
    valid[100, 200] = True
    picture = Picture(np.ones((1, 128, 256), np.uint8), valid)
    strips = stream(picture, plan_windows(128, 256, 64, 0, False), score, batch_size=9)
    assert seen == [1]
    assert (whole(strips)[0] != IGNORE_INDEX).sum() == 1


def test_a_network_is_given_windows_of_one_size_and_no_more_than_a_batch():
    shapes = []

    def score(images):
        shapes.append(tuple(images.shape))
        return identity(images)

    picture = Picture(np.zeros((2, 150, 300), np.uint8))
    stream(picture, plan_windows(150, 300, 64, 0.25, False), score, batch_size=4)
    assert {shape[1:] for shape in shapes} == {(2, 64, 64)}
    assert max(shape[0] for shape in shapes) == 4
    shapes.clear()
    stream(Picture(np.zeros((2, 1, 40), np.uint8)), plan_windows(1, 40, 64, 0.25, False), score)
    assert shapes == [(1, 2, 32, 64)]


def test_layers_are_percents_worked_out_by_hand():
    scores = torch.tensor([[0.5, 0.25, 0.25, 0], [0, 0, 0, 1], [0.25] * 4, [0.004, 0.996, 0, 0]])
    scores = scores.T.reshape(1, 4, 1, 4)
    found = MapLayers(LayerSettings(entropy=True, probabilities=True)).encode(scores)[0, :, 0]
    assert found.dtype == torch.uint8
    assert found[0].tolist() == [0, 3, 0, 1]
    assert found[1].tolist() == [50, 100, 25, 100]
    assert found[2].tolist() == [75, 0, 100, 2]  # 1.5 of 2 bits; 0.0378 of 2 bits
    assert found[3:, 0].tolist() == [50, 25, 25, 0]
    assert TWO.encode(scores).shape == (1, 2, 1, 4)


def test_blending_is_a_weighted_mean_of_two_windows():
    def by_side(images):  # sure of class 1 in the right half of a window, of 0 in the left
        scores = torch.zeros(len(images), 2, *images.shape[2:])
        half = images.shape[3] // 2
        scores[:, 0, :, :half] = 1
        scores[:, 1, :, half:] = 1
        return scores

    picture = Picture(np.zeros((1, 64, 96), np.uint8))
    plan = plan_windows(64, 96, 64, 0.5, True)
    assert plan.columns.starts == (0, 32)
    chosen = MapLayers(LayerSettings(probabilities=True))
    found = whole(stream(picture, plan, by_side, chosen, classes=2))
    # In columns 32 to 63 the first window says 1, ever weaker, and the second one 0.
    falling = np.rint(100 * (1 - (np.arange(32) + 0.5) / 32))
    assert found[3, 0, 32:64].tolist() == falling.tolist()
