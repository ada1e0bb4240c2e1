"""The filter bank against scipy and scikit-image, and its own promises."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.feature import hessian_matrix_eigvals, structure_tensor_eigenvalues

from pointcover.features.filter_bank import FilterBank
from pointcover.features.gaussian import filter_axis
from pointcover.features.settings import FilterBankSettings

Plane = npt.NDArray[np.float64]

TOLERANCE = 2e-6
"""float32 against float64, absolute: values are at most 1 or a few."""

RELATIVE_TOLERANCE = 5e-5
"""Of each feature's largest value: those of wide filters are small."""


def draw(bands: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Draw an image with noise, a gradient and edges."""
    generator = np.random.default_rng(seed)
    image = generator.random((bands, height, width)) * 0.4
    image += np.linspace(0, 0.3, width)
    image[:, height // 3 :, width // 4 : width // 2] += 0.3
    return image.astype(np.float32)


def by_scipy(name: str, plane: Plane, sigma: float) -> list[Plane]:
    """Compute a filter with scipy and the eigenvalues of scikit-image."""

    def derive(rows: int, cols: int) -> Plane:
        return np.asarray(ndimage.gaussian_filter(plane, sigma, order=(rows, cols)))

    if name == "gaussian":
        return [derive(0, 0)]
    if name == "laplacian_of_gaussian":
        return [ndimage.gaussian_laplace(plane, sigma)]
    if name == "gradient_magnitude":
        return [ndimage.gaussian_gradient_magnitude(plane, sigma)]
    if name == "difference_of_gaussians":
        return [derive(0, 0) - ndimage.gaussian_filter(plane, 0.66 * sigma)]
    if name == "hessian_eigenvalues":
        return list(hessian_matrix_eigvals([derive(2, 0), derive(1, 1), derive(0, 2)]))
    rows, cols = derive(1, 0), derive(0, 1)
    products = [rows * rows, rows * cols, cols * cols]
    return list(
        structure_tensor_eigenvalues(
            [ndimage.gaussian_filter(product, sigma / 2) for product in products]
        )
    )


def without_hue(bank: FilterBank, features: torch.Tensor) -> torch.Tensor:
    """Leave out hue, which goes round and amplifies rounding where colours are nearly grey."""
    names = bank.names(3)
    return features[:, [place for place, name in enumerate(names) if not name.startswith("hue")]]


@pytest.mark.parametrize(("height", "width"), [(97, 140), (64, 33), (5, 90), (1, 1)])
def test_filters_agree_with_scipy(height: int, width: int) -> None:
    settings = FilterBankSettings(bands=False, hsv_sigmas_px=(), excess_green_sigmas_px=())
    image = draw(2, height, width)
    features = FilterBank(settings)(torch.from_numpy(image)[None])[0].numpy()
    expected = []
    for sigma in settings.sigmas_px:
        for name in settings.filters:
            values = [by_scipy(name, plane.astype(np.float64), sigma) for plane in image]
            expected += [value for part in zip(*values, strict=True) for value in part]
    np.testing.assert_allclose(features, np.stack(expected), rtol=0, atol=TOLERANCE)
    if min(height, width) > 30:  # of narrower ones some eigenvalues are zero but for rounding
        differences = np.abs(features - expected).max((1, 2))
        assert (differences / np.abs(expected).max((1, 2))).max() < RELATIVE_TOLERANCE


def test_colours_agree_with_skimage() -> None:
    settings = FilterBankSettings(bands=False, filters=(), hsv_sigmas_px=(0, 1.6))
    image = draw(4, 60, 50)
    features = FilterBank(settings)(torch.from_numpy(image)[None])[0].numpy()
    smoothed = ndimage.gaussian_filter(image[:3].astype(np.float64), (0, 1.6, 1.6))
    hsv = np.concatenate(
        [np.moveaxis(rgb2hsv(np.moveaxis(c, 0, 2)), 2, 0) for c in (image[:3], smoothed)]
    )
    difference = np.abs(features[:6] - hsv)
    difference[::3] = np.minimum(difference[::3], 1 - difference[::3])  # hue goes round
    # Where colours are nearly grey, hue amplifies rounding.
    spreads = np.stack([np.ptp(c, axis=0) for c in (image[:3], smoothed)])
    difference[::3] *= np.minimum(1, spreads)
    assert difference.max() < TOLERANCE
    for feature, (red, green, blue) in zip(features[6:], (image[:3], smoothed), strict=True):
        expected = (2 * green - red - blue) / (red + green + blue)
        np.testing.assert_allclose(feature, expected, rtol=0, atol=TOLERANCE)


def test_black_and_grey_pixels_have_finite_colours() -> None:
    settings = FilterBankSettings(bands=False, filters=())
    image = torch.zeros(1, 3, 2, 2)
    image[..., 1] = 0.5
    features = FilterBank(settings)(image)[0]
    hue, saturation, value, *excess_green = features
    assert torch.equal(hue, torch.zeros(2, 2))
    assert torch.equal(saturation, torch.zeros(2, 2))
    assert torch.equal(value, image[0, 0])
    assert all(
        torch.equal(green, torch.zeros(2, 2)) or green.abs().max() < 1e-6 for green in excess_green
    )


@pytest.mark.parametrize(("bands", "count"), [(1, 49), (2, 98), (3, 152), (5, 250)])
def test_every_feature_has_a_name(bands: int, count: int) -> None:
    bank = FilterBank()
    names = bank.names(bands)
    features = bank(torch.rand(2, bands, 16, 20))
    assert features.shape == (2, count, 16, 20)
    assert len(names) == len(set(names)) == count


def test_names_say_what_the_features_are() -> None:
    settings = FilterBankSettings(sigmas_px=(1.6,), filters=("gaussian", "hessian_eigenvalues"))
    assert FilterBank(settings).names(3) == (
        "band_1",
        "band_2",
        "band_3",
        "gaussian_sigma_1.6_band_1",
        "gaussian_sigma_1.6_band_2",
        "gaussian_sigma_1.6_band_3",
        "hessian_eigenvalue_1_sigma_1.6_band_1",
        "hessian_eigenvalue_1_sigma_1.6_band_2",
        "hessian_eigenvalue_1_sigma_1.6_band_3",
        "hessian_eigenvalue_2_sigma_1.6_band_1",
        "hessian_eigenvalue_2_sigma_1.6_band_2",
        "hessian_eigenvalue_2_sigma_1.6_band_3",
        "hue_sigma_0",
        "saturation_sigma_0",
        "value_sigma_0",
        "excess_green_sigma_0",
        "excess_green_sigma_1.6",
    )


def test_autocast_only_rounds_what_is_stored() -> None:
    image = torch.from_numpy(draw(3, 70, 60))[None]
    bank = FilterBank()
    exact = bank(image)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = bank(image)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, exact.bfloat16())
    torch.testing.assert_close(rounded.float(), exact, rtol=2**-8, atol=1e-30)


def test_batches_and_layouts_do_not_matter() -> None:
    images = torch.from_numpy(np.stack([draw(3, 50, 41, seed) for seed in range(3)]))
    bank = FilterBank()
    together = without_hue(bank, bank(images))
    alone = without_hue(bank, torch.cat([bank(image[None]) for image in images]))
    torch.testing.assert_close(together, alone, rtol=0, atol=TOLERANCE)
    other = without_hue(bank, bank(images.to(memory_format=torch.channels_last)))
    assert torch.equal(together, other)


@pytest.mark.slow
def test_export_gives_the_same_values_at_another_size() -> None:
    bank = FilterBank(FilterBankSettings(sigmas_px=(0.7, 3.5)))
    sides = {2: torch.export.Dim("rows", min=2), 3: torch.export.Dim("cols", min=2)}
    program = torch.export.export(bank, (torch.rand(1, 3, 48, 40),), dynamic_shapes=(sides,))
    image = torch.from_numpy(draw(3, 37, 52))[None]
    exported = without_hue(bank, program.module()(image))
    torch.testing.assert_close(exported, without_hue(bank, bank(image)), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_other_inputs_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"wanted floating-point images \(N, bands, H, W\)"):
        FilterBank()(images)


def test_a_repeated_sigma_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted each only once"):
        FilterBankSettings(sigmas_px=(1, 1))


def test_many_planes_are_filtered_as_one_is() -> None:
    planes = torch.rand(3, 45, 38)
    for axis in (1, 2):
        together = filter_axis(planes, 2.0, 1, axis)
        alone = torch.cat([filter_axis(plane[None], 2.0, 1, axis) for plane in planes])
        torch.testing.assert_close(together, alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("part", [(slice(0, 33), slice(20, 90)), (slice(40, 57), slice(31, 64))])
def test_a_part_is_cut_out_of_the_whole(part) -> None:
    images = torch.rand(2, 3, 80, 90, generator=torch.Generator().manual_seed(0))
    module = FilterBank()
    found = module(images, part)
    torch.testing.assert_close(found, module(images)[:, :, part[0], part[1]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(60, 75), (9, 30)])
def test_loops_and_tensor_operations_agree(height: int, width: int) -> None:
    images = torch.from_numpy(draw(3, height, width))[None]
    bank = FilterBank()
    with torch.no_grad():
        by_tensors = torch.cat(list(bank._tensors(images)), dim=1)
    found = bank(images)
    torch.testing.assert_close(found, by_tensors, rtol=0, atol=TOLERANCE)


def test_bits_do_not_depend_on_the_part_or_on_threads() -> None:
    images = torch.from_numpy(draw(3, 100, 333))[None]
    bank = FilterBank()
    whole = bank(images)
    part = slice(31, 64), slice(7, 300)
    assert torch.equal(bank(images, part), whole[:, :, part[0], part[1]])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(bank(images), whole)
    finally:
        torch.set_num_threads(before)


def test_some_filters_are_those_of_all() -> None:
    images = torch.from_numpy(draw(2, 40, 50))[None]
    settings = FilterBankSettings(filters=("hessian_eigenvalues", "gaussian"), sigmas_px=(1.6,))
    some, every = FilterBank(settings), FilterBank()
    whole = dict(zip(every.names(2), every(images)[0], strict=True))
    for name, values in zip(some.names(2), some(images)[0], strict=True):
        assert torch.equal(values, whole[name]), name
