"""Local statistics agree with scipy, and windows with the whole image."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pointcover.features.local_statistics import LocalStatistics
from pointcover.features.settings import LocalStatisticsSettings
from pointcover.features.windows import WindowGrid, iterate_features

SETTINGS = LocalStatisticsSettings(sigmas_px=(2.0, 4.0), fine_sigmas_px=(0.7,))


def draw(bands: int, height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((bands, height, width), np.float32))


def test_values_are_those_of_scipy() -> None:
    image = draw(4)
    module = LocalStatistics(SETTINGS)
    found = dict(zip(module.names(4), module(image[None])[0].numpy(), strict=True))
    plane = image[1].numpy().astype(np.float64)
    gradient = ndimage.gaussian_gradient_magnitude(plane, 0.7)
    laplacian = np.abs(ndimage.gaussian_laplace(plane, 0.7))
    mean = ndimage.gaussian_filter(plane, 4)
    squares = ndimage.gaussian_filter(plane**2, 4)
    for name, wanted in {
        "mean_sigma_4_of_band_2": mean,
        "mean_sigma_2_of_gradient_magnitude_sigma_0.7_band_2": ndimage.gaussian_filter(gradient, 2),
        "mean_sigma_2_of_absolute_laplacian_sigma_0.7_band_2": ndimage.gaussian_filter(
            laplacian, 2
        ),
        "standard_deviation_sigma_4_of_band_2": np.sqrt(squares - mean**2),
    }.items():
        np.testing.assert_allclose(found[name], wanted, atol=2e-5, err_msg=name)


def test_windows_are_as_the_whole_image() -> None:
    image = draw(3, 90, 70)
    module = LocalStatistics(SETTINGS)
    whole = module(image[None])[0]
    grid = WindowGrid(90, 70, module.margin_px, size_px=32)
    for window, part in iterate_features(module, lambda rows, cols: image[:, rows, cols], grid):
        torch.testing.assert_close(part, whole[:, window.rows, window.cols], atol=1e-4, rtol=0)


def test_two_bands_and_black_pixels() -> None:
    module = LocalStatistics(SETTINGS)
    assert module(draw(2)[None]).shape[1] == len(module.names(2))
    assert torch.isfinite(module(torch.zeros(1, 3, 16, 16))).all()


@pytest.mark.parametrize("part", [(slice(0, 33), slice(20, 90)), (slice(40, 57), slice(31, 64))])
def test_a_part_is_cut_out_of_the_whole(part) -> None:
    images = torch.rand(2, 3, 80, 90, generator=torch.Generator().manual_seed(0))
    module = LocalStatistics(SETTINGS)
    found = module(images, part)
    torch.testing.assert_close(found, module(images)[:, :, part[0], part[1]], atol=1e-5, rtol=1e-4)
