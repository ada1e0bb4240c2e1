"""Neighbours of like colour come to agree on a class, as sums over all pairs say."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pointcover.networks.pairwise import each_offset
from pointcover.prediction.mean_field import MeanField
from pointcover.prediction.predict import make_score
from pointcover.prediction.settings import MeanFieldSettings

SETTINGS = MeanFieldSettings(iterations=3, weight=2.5, radius_px=2, sigma_px=1.5, sigma_colour=0.2)
HOW = MeanField(SETTINGS)
USUAL = MeanField(MeanFieldSettings(iterations=5))


def by_hand(images: np.ndarray, probabilities: np.ndarray, how: MeanFieldSettings) -> np.ndarray:
    """Sum over all pairs of pixels, in float64."""
    classes, height, width = probabilities.shape
    values = images.astype(float) / 255
    current = probabilities.astype(float)
    for _ in range(how.iterations):
        following = np.empty_like(current)
        for y in range(height):
            for x in range(width):
                heard, closeness = np.zeros(classes), 0.0
                for v in range(height):
                    for u in range(width):
                        if (v, u) == (y, x) or max(abs(v - y), abs(u - x)) > how.radius_px:
                            continue
                        near = math.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * how.sigma_px**2))
                        apart = ((values[:, y, x] - values[:, v, u]) ** 2).sum()
                        alike = math.exp(-apart / (2 * how.sigma_colour**2))
                        heard += near * alike * current[:, v, u]
                        closeness += near
                scores = probabilities[:, y, x] * np.exp(how.weight * heard / closeness)
                following[:, y, x] = scores / scores.sum()
        current = following
    return current


def drawn(count: int = 2, height: int = 6, width: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, height, width), generator=generator)
    logits = torch.randn(count, 4, height, width, generator=generator)
    return images.to(torch.uint8), logits.softmax(dim=1)


def test_it_is_the_sum_over_all_pairs():
    images, probabilities = drawn()
    found = HOW(images, probabilities)
    assert found.dtype == torch.float32
    for image, given, got in zip(images, probabilities, found, strict=True):
        np.testing.assert_allclose(got, by_hand(image.numpy(), given.numpy(), SETTINGS), atol=1e-5)


def test_an_image_is_not_touched_by_others_of_its_batch():
    images, probabilities = drawn()
    alone = HOW(images[1:], probabilities[1:])
    torch.testing.assert_close(HOW(images, probabilities)[1:], alone, rtol=0, atol=0)


def test_what_is_given_stays_as_it_was():
    images, probabilities = drawn()
    before = probabilities.clone()
    HOW(images, probabilities)
    assert torch.equal(probabilities, before)


@pytest.mark.parametrize("change", [{"iterations": 0}, {"weight": 0.0}])
def test_without_iterations_or_weight_nothing_changes(change):
    images, probabilities = drawn()
    torch.testing.assert_close(
        MeanField(SETTINGS.model_copy(update=change))(images, probabilities), probabilities
    )


def speck(colour: int) -> tuple[Tensor, Tensor]:
    """A grey image in which all but a pixel, of a colour of its own, is of the first class."""
    images = torch.full((1, 3, 9, 9), 100, dtype=torch.uint8)
    images[..., 4, 4] = colour
    probabilities = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1).repeat(1, 1, 9, 9)
    probabilities[0, :, 4, 4] = torch.tensor([0.4, 0.6])
    return images, probabilities


@pytest.mark.parametrize(("colour", "wanted"), [(100, 0), (110, 0), (250, 1)])
def test_a_speck_gives_way_to_neighbours_of_its_colour_and_to_no_others(colour, wanted):
    found = USUAL(*speck(colour))
    assert int(found[0, :, 4, 4].argmax()) == wanted
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 9, 9))


def test_an_impossible_class_stays_so_and_nothing_is_nan():
    images, probabilities = drawn()
    probabilities[:, 0], probabilities[:, 1] = 0, probabilities[:, 0] + probabilities[:, 1]
    found = MeanField(MeanFieldSettings(iterations=20, weight=30))(images, probabilities)
    assert bool(torch.isfinite(found).all())
    assert float(found[:, 0].max()) < 1e-20


def test_a_single_pixel_has_no_neighbours():
    images, probabilities = torch.zeros(1, 1, 1, 1), torch.tensor([0.3, 0.7]).view(1, 2, 1, 1)
    torch.testing.assert_close(USUAL(images, probabilities), probabilities)


def test_it_is_applied_to_the_mean_of_several_networks():
    images, probabilities = drawn()
    other = probabilities.flip(1)
    networks = [lambda _: probabilities.log(), lambda _: other.log()]
    score = make_score(networks, average_views=False, refine=HOW)
    wanted = HOW(images, (probabilities + other) / 2)
    torch.testing.assert_close(score(images), wanted)


@pytest.mark.parametrize(("height", "width", "radius_px"), [(5, 4, 2), (1, 6, 3), (4, 3, 9)])
def test_each_pair_is_visited_once(height, width, radius_px):
    places = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    pairs = [
        tuple(sorted(pair))
        for near in each_offset(places, radius_px=radius_px, sigma_px=1, sigma_colour=1)
        for pair in zip(
            places[near.here].flatten().tolist(), places[near.there].flatten().tolist(), strict=True
        )
    ]
    wanted = {
        (one, other)
        for one in range(height * width)
        for other in range(one)
        if abs(one // width - other // width) <= radius_px
        and abs(one % width - other % width) <= radius_px
    }
    assert len(pairs) == len(set(pairs))
    assert {(other, one) for one, other in pairs} == wanted
