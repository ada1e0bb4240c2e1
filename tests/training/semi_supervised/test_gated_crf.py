"""The gated CRF loss is the published sum over pairs, worked out one pair at a time."""

import math

import pytest
import torch

from pointcover.training.semi_supervised.gated_crf import gated_crf
from pointcover.training.semi_supervised.settings import GatedCrfSettings


def crf(**changes):
    return GatedCrfSettings(
        **{"weight": 1, "radius_px": 5, "sigma_px": 6, "sigma_colour": 0.1, "scale": 1} | changes
    )


def energy_pair_by_pair(logits, images, sources, destinations, radius, sigma, sigma_colour):
    p = logits.softmax(dim=1)
    batch, _, height, width = logits.shape
    total = torch.zeros((), dtype=logits.dtype)
    for b in range(batch):
        for r in range(height):
            for c in range(width):
                for y in range(max(0, r - radius), min(height, r + radius + 1)):
                    for x in range(max(0, c - radius), min(width, c + radius + 1)):
                        if (y, x) == (r, c) or not (sources[b, r, c] and destinations[b, y, x]):
                            continue
                        colour = ((images[b, :, r, c] - images[b, :, y, x]) ** 2).sum()
                        space = (y - r) ** 2 + (x - c) ** 2
                        k = torch.exp(-space / (2 * sigma**2) - colour / (2 * sigma_colour**2))
                        total = total + k * (1 - (p[b, :, r, c] * p[b, :, y, x]).sum())
    return total / max(1, int(sources.sum()))


def drawn(seed, height=6, width=5, bands=3):
    g = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(2, 3, height, width, generator=g)).requires_grad_()
    images = torch.rand(2, bands, height, width, generator=g) / 4
    sources, destinations = torch.rand(2, 2, height, width, generator=g) > 0.3
    return logits, images, sources, destinations


@pytest.mark.parametrize("radius", [1, 2, 9])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bands", [1, 4])
def test_value_and_gradient_are_those_of_the_sum_over_pairs(radius, gated, bands):
    logits, images, sources, destinations = drawn(radius, bands=bands)
    if gated:
        gates = {"sources": sources, "destinations": destinations}
    else:
        gates, sources, destinations = {}, torch.ones_like(sources), torch.ones_like(sources)
    ours = gated_crf(logits, images, crf(radius_px=radius, sigma_px=2), **gates)
    theirs = energy_pair_by_pair(logits, images, sources, destinations, radius, 2, 0.1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits)[0], torch.autograd.grad(theirs, logits)[0]
    )


def test_padding_that_is_gated_off_has_no_say():
    logits, images, _, _ = drawn(0)
    gate = torch.ones(2, 6, 5, dtype=torch.bool)
    gate[:, :, 3:] = False
    whole = gated_crf(logits, images, crf(), gate, gate)
    torch.testing.assert_close(whole, gated_crf(logits[..., :3], images[..., :3], crf()))


def test_a_square_with_one_pixel_gated_off_is_off():
    logits, images, _, _ = drawn(0, height=4, width=6)
    gate = torch.ones(2, 4, 6, dtype=torch.bool)
    gate[:, 0, 4] = gate[:, 3, 5] = False
    scaled = gated_crf(logits, images, crf(scale=2), gate, gate)
    torch.testing.assert_close(scaled, gated_crf(logits[..., :4], images[..., :4], crf(scale=2)))


def test_without_sources_it_is_zero_with_a_zero_gradient():
    logits, images, sources, _ = drawn(0)
    loss = gated_crf(logits, images, crf(), torch.zeros_like(sources))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_two_unlike_pixels_of_one_colour_cost_what_the_formula_says():
    logits = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
    loss = gated_crf(logits, torch.zeros(1, 3, 1, 2), crf())
    assert loss.item() == pytest.approx(math.exp(-1 / 72))


def test_a_scale_that_does_not_divide_the_size_is_refused():
    logits, images, _, _ = drawn(0)
    with pytest.raises(ValueError, match=r"6 × 5 px do not divide by scale 4: choose a divisor"):
        gated_crf(logits, images, crf(scale=4))
