"""Smoothing is a joint bilateral filter; parts, whole images and exported graphs agree."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcover.networks.pixel_classifiers.edge_smoothing import LEAST_PROBABILITY, EdgeSmoothing
from pointcover.networks.pixel_classifiers.settings import LARGEST_RADIUS_PX, SmoothingSettings

STDS = (60.0, 30.0, 90.0, 20.0, 50.0)


def of_three_bands(**changes):
    """Smooth images of which a difference of 0.2 in all bands is an edge."""
    values = {"band_stds": (127.5,) * 3} | changes
    return EdgeSmoothing(SmoothingSettings(**values))


def by_definition(logits, colours, settings):
    """Return the average of each pixel, pixel by pixel: (C, H, W)."""
    radius = settings.radius_px
    colours = colours * 255 / np.array(settings.band_stds)[:, None, None]
    logs = np.maximum(
        logits - np.log(np.exp(logits).sum(axis=0, keepdims=True)), np.log(LEAST_PROBABILITY)
    )
    _, height, width = logits.shape
    found = np.empty_like(logs)
    for y in range(height):
        for x in range(width):
            total, weights = np.zeros(len(logs)), 0.0
            for v in range(max(0, y - radius), min(height, y + radius + 1)):
                for u in range(max(0, x - radius), min(width, x + radius + 1)):
                    far = ((y - v) ** 2 + (x - u) ** 2) / (radius + 1) ** 2
                    difference = colours[:, y, x] - colours[:, v, u]
                    apart = (difference**2).mean() / settings.colour**2
                    if far < 1 and apart < 1:
                        weight = (1 - far) ** 2 * (1 - apart) ** 2
                        total, weights = total + weight * logs[:, v, u], weights + weight
            found[:, y, x] = total / weights
    return found


def draw(seed, classes=4, bands=3, height=13, width=17):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (classes, height, width))
    smooth = generator.random((bands, 3, 3)).repeat(6, axis=1).repeat(6, axis=2)
    colours = smooth[:, :height, :width] + generator.normal(0, 0.03, (bands, height, width))
    return logits, colours.clip(0, 1)


@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize(("radius", "colour"), [(1, 0.2), (3, 0.5), (8, 4.0)])
def test_both_ways_are_the_average_by_definition(radius, colour, bands):
    logits, colours = draw(radius, bands=bands)
    chosen = SmoothingSettings(radius_px=radius, band_stds=STDS[:bands], colour=colour)
    wanted = by_definition(logits, colours, chosen)
    smoothing = EdgeSmoothing(chosen)
    tensors = torch.from_numpy(logits).float(), torch.from_numpy(colours).float()
    np.testing.assert_allclose(smoothing(*(one[None] for one in tensors))[0], wanted, atol=2e-5)
    whole = slice(0, 13), slice(0, 17)
    np.testing.assert_allclose(smoothing.smooth_part(*tensors, whole), wanted, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.tuples(st.integers(0, 12), st.integers(1, 13)).map(sorted),
    cols=st.tuples(st.integers(0, 16), st.integers(1, 17)).map(sorted),
    radius=st.integers(1, 6),
)
def test_a_part_with_its_neighbours_has_the_values_of_the_whole(rows, cols, radius):
    logits, colours = (torch.from_numpy(one).float() for one in draw(radius))
    smoothing = of_three_bands(radius_px=radius)
    part = slice(rows[0], rows[1]), slice(cols[0], cols[1])
    around = smoothing.grow(part, 13, 17)
    inner = tuple(
        slice(one.start - wide.start, one.stop - wide.start)
        for one, wide in zip(part, around, strict=True)
    )
    found = smoothing.smooth_part(
        logits[(slice(None), *around)], colours[(slice(None), *around)], inner
    )
    whole = smoothing.smooth_part(logits, colours, (slice(0, 13), slice(0, 17)))
    torch.testing.assert_close(found, whole[(slice(None), *part)], atol=1e-5, rtol=0)


def test_another_colour_is_an_edge():
    colours = torch.zeros(3, 8, 8)
    colours[:, :, 4:] = 1
    logits = torch.zeros(2, 8, 8)
    logits[0, :, :4], logits[1, :, 4:] = 5, 5
    logits[:, 3, 1] = torch.tensor([0.0, 1.0])  # noise on the left
    smoothing = of_three_bands()
    found = smoothing.smooth_part(logits, colours, (slice(0, 8), slice(0, 8))).argmax(dim=0)
    assert (found == (torch.arange(8) >= 4).long()).all()


def test_edges_of_images_with_low_contrast_stay():
    """Distances of colours are relative to the standard deviations of the bands."""
    logits, colours = (torch.from_numpy(one).float() for one in draw(1))
    whole = slice(0, 13), slice(0, 17)
    for factor in (1, 50):
        smoothing = of_three_bands(band_stds=tuple(std / factor for std in STDS[:3]))
        dark = 0.02 + colours / factor
        found = smoothing.smooth_part(logits, dark, whole)
        if factor == 1:
            wanted = found
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
        torch.testing.assert_close(smoothing(logits[None], dark[None])[0], found)
    unlike = of_three_bands(band_stds=STDS[:3]).smooth_part(logits, dark, whole)
    assert (unlike - wanted).abs().max() > 0.1


def test_an_image_smaller_than_the_radius():
    logits, colours = draw(4, height=2, width=3)
    chosen = SmoothingSettings(radius_px=LARGEST_RADIUS_PX, band_stds=STDS[:3])
    wanted = by_definition(logits, colours, chosen)
    tensors = torch.from_numpy(logits).float(), torch.from_numpy(colours).float()
    smoothing = EdgeSmoothing(chosen)
    np.testing.assert_allclose(smoothing(*(one[None] for one in tensors))[0], wanted, atol=2e-5)
    part = slice(1, 2), slice(0, 2)
    assert smoothing.grow(part, 2, 3) == (slice(0, 2), slice(0, 3))
    found = smoothing.smooth_part(*tensors, part)
    np.testing.assert_allclose(found, wanted[(slice(None), *part)], atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"radius_px": 0}, "radius_px"),
        ({"radius_px": LARGEST_RADIUS_PX + 1}, "radius_px"),
        ({"band_stds": ()}, "band_stds"),
        ({"band_stds": (50.0, 0.0, 50.0)}, "band_stds.1"),
        ({"band_stds": (50.0, float("nan"), 50.0)}, "band_stds.1"),
        ({"colour": 0}, "colour"),
    ],
)
def test_settings_that_are_no_filter_are_refused(changes, key):
    with pytest.raises(ValueError, match=key):
        SmoothingSettings.model_validate({"band_stds": STDS[:3]} | changes)


def test_a_class_that_one_tree_excludes_stays_possible():
    colours, logits = torch.zeros(3, 5, 5), torch.zeros(2, 5, 5)
    logits[0] = 1
    logits[0, 2, 2] = -1e4
    smoothing = of_three_bands()
    found = smoothing.smooth_part(logits, colours, (slice(0, 5), slice(0, 5)))
    assert found[:, 2, 2].argmax() == 0
