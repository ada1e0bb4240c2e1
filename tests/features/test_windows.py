"""Windows: features computed window by window are those of the whole image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pointcover.features.filter_bank import FilterBank
from pointcover.features.settings import FilterBankSettings
from pointcover.features.windows import WindowGrid, iterate_features
from tests.features.test_encoder_pyramid import pooling, resnet


def by_windows(compute: torch.nn.Module, image: Tensor, grid: WindowGrid) -> Tensor:
    """Put the features of all windows together."""
    whole: Tensor | None = None
    for window, features in iterate_features(compute, lambda r, c: image[:, r, c], grid):
        if whole is None:
            whole = torch.full((features.shape[0], grid.height, grid.width), torch.nan)
        assert whole[:, window.rows, window.cols].isnan().all()
        whole[:, window.rows, window.cols] = features
    assert whole is not None
    assert not whole.isnan().any()
    return whole


sides = st.integers(1, 90)


@settings(max_examples=15)
@given(sides, sides, st.integers(5, 70), st.integers(1, 4), st.integers(0, 99))
def test_windows_of_the_filter_bank_agree_with_the_whole_image(
    height: int, width: int, size_px: int, bands: int, seed: int
) -> None:
    image = torch.rand(bands, height, width, generator=torch.Generator().manual_seed(seed))
    bank = FilterBank(FilterBankSettings(sigmas_px=(0.7, 1.6, 5.0), hsv_sigmas_px=(0.0,)))
    grid = WindowGrid(height, width, bank.margin_px, bank.alignment_px, size_px)
    difference = (by_windows(bank, image, grid) - bank(image[None])[0]).abs()
    assert difference.max() <= 2e-6


def test_the_margin_of_the_filter_bank_is_as_small_as_can_be() -> None:
    bank = FilterBank()
    assert bank.margin_px == 40 + 20
    image = torch.rand(1, 90, 300)
    exact = bank(image[None])[0]
    errors = []
    for margin in (bank.margin_px, bank.margin_px - 20):
        difference = by_windows(bank, image, WindowGrid(90, 300, margin, 1, 100)) - exact
        errors.append((difference.abs().amax((1, 2)) / exact.abs().amax((1, 2))).max().item())
    assert errors[0] < 5e-5 < errors[1]


def test_windows_of_pooled_levels_agree_with_the_whole_image() -> None:
    image = torch.rand(2, 75, 110)
    pyramid = pooling(margin_cells=4)
    grid = WindowGrid(75, 110, pyramid.margin_px, pyramid.alignment_px, 32)
    difference = by_windows(pyramid, image, grid) - pyramid(image[None])[0]
    assert difference.abs().max() < 1e-4


@pytest.mark.slow
def test_the_error_of_encoder_windows_falls_with_the_margin() -> None:
    """A deep encoder sees farther than the margin: windows are near the whole image, not equal."""
    image = torch.rand(3, 64, 192)
    errors = []
    for cells in (0, 2, 6):
        pyramid = resnet(margin_cells=cells)
        whole = pyramid(image[None])[0]
        grid = WindowGrid(64, 192, pyramid.margin_px, pyramid.alignment_px, 64)
        difference = by_windows(pyramid, image, grid) - whole
        errors.append((difference.norm() / whole.norm()).item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-3


def test_windows_off_the_alignment_are_refused() -> None:
    with pytest.raises(ValueError, match="choose a multiple of 16"):
        WindowGrid(100, 100, 32, 16, size_px=40)


def test_margins_are_multiples_of_the_alignment() -> None:
    assert resnet(margin_cells=6).margin_px == 6 * 16
    assert resnet(margin_cells=6, scales=(1, 2)).margin_px == 6 * 32
    assert resnet(margin_cells=6, levels=(1, 2)).margin_px == 6 * 2
    windows = list(WindowGrid(64, 200, 20, 32, size_px=64))
    assert [window.read_cols.start for window in windows] == [0, 32, 96, 160]
