"""The filter bank: what Gaussian derivatives at several sizes say of each pixel, and its colour.

These are the features of interactive pixel classifiers such as ilastik. The values agree with
scipy.ndimage and with the eigenvalues of scikit-image to rounding.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

from pointcover.features.gaussian import filter_axis, radius_px, smooth
from pointcover.features.settings import FilterBankSettings

_DOG_RATIO = 0.66
"""The smaller of the two sigmas of a difference of Gaussians, as a fraction of the larger."""

_INTEGRATION_RATIO = 0.5
"""The sigma over which the structure tensor is integrated, as a fraction of the gradient's."""


class FilterBank(nn.Module):
    """Compute filters of every band at every sigma, and colour features of the first three bands.

    Everything is computed in float32, on the device of the images. Within autocast the features
    are stored in its type, bfloat16 as a rule, which rounds each by at most 2⁻⁸ (0.4 %) of itself;
    products in bfloat16 themselves would lose the small differences that most filters are.
    Nothing is differentiated.
    """

    alignment_px = 1
    """Windows may begin anywhere."""

    def __init__(self, settings: FilterBankSettings | None = None) -> None:
        """Keep the settings; there are no weights."""
        super().__init__()
        self.settings = settings or FilterBankSettings()

    @property
    def margin_px(self) -> int:
        """Pixels around a window on which its features depend."""
        settings = self.settings
        margins = [radius_px(sigma) for sigma in settings.sigmas_px if settings.filters]
        if "structure_tensor_eigenvalues" in settings.filters:
            margins += [
                radius_px(sigma) + radius_px(_INTEGRATION_RATIO * sigma)
                for sigma in settings.sigmas_px
            ]
        colour_sigmas = (*settings.hsv_sigmas_px, *settings.excess_green_sigmas_px)
        margins += [radius_px(sigma) for sigma in colour_sigmas]
        return max(margins, default=0)

    def names(self, bands: int) -> tuple[str, ...]:
        """Name the features of images with this many bands, in the order of the output."""
        settings = self.settings
        names = [f"band_{band}" for band in range(1, bands + 1) if settings.bands]
        for sigma in settings.sigmas_px:
            for name in settings.filters:
                for part in ("_1", "_2") if name.endswith("eigenvalues") else ("",):
                    names += [
                        f"{name.removesuffix('s') if part else name}{part}_sigma_{sigma:g}"
                        f"_band_{band}"
                        for band in range(1, bands + 1)
                    ]
        if bands >= 3:
            for sigma in settings.hsv_sigmas_px:
                names += [f"{name}_sigma_{sigma:g}" for name in ("hue", "saturation", "value")]
            names += [f"excess_green_sigma_{sigma:g}" for sigma in settings.excess_green_sigmas_px]
        return tuple(names)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            images: (N, bands, H, W) floating point, in 0..1.

        Returns:
            (N, features, H, W) float32, or autocast's type within autocast.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"got {images.dtype} of shape {tuple(images.shape)}, wanted floating-point images "
                "(N, bands, H, W) in 0..1: divide integers by their largest value first"
            )
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        with torch.autocast(kind, enabled=False):
            images = images.float().contiguous()
            if torch.compiler.is_compiling():
                # Assignments to slices would each be a node that copies all features.
                return torch.cat(list(self._parts(images)), dim=1).to(dtype)
            return self._fill(images, dtype)

    def _fill(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Write the features into one tensor, on a CPU image by image to stay in its cache."""
        count, bands, height, width = images.shape
        features = torch.empty(
            (count, len(self.names(bands)), height, width), dtype=dtype, device=images.device
        )
        step = 1 if images.device.type == "cpu" else max(count, 1)
        for first in range(0, count, step):
            place = 0
            for part in self._parts(images[first : first + step]):
                features[first : first + step, place : place + part.shape[1]] = part
                place += part.shape[1]
        return features

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        """Compute features by and by, (N, some, H, W) each, in the order of `names`."""
        settings = self.settings
        if settings.bands:
            yield images
        for sigma in settings.sigmas_px:
            derivatives = _Derivatives(images.flatten(0, 1), sigma)
            for name in settings.filters:
                for value in getattr(derivatives, name)():
                    yield value.view(images.shape)
        if images.shape[1] >= 3:
            colours = images[:, :3].contiguous()
            for sigma in settings.hsv_sigmas_px:
                yield _hsv(_smooth_bands(colours, sigma))
            for sigma in settings.excess_green_sigmas_px:
                yield _excess_green(_smooth_bands(colours, sigma))


class _Derivatives:
    """Gaussian derivatives of (P, H, W) planes at one sigma, each computed when first needed.

    Methods are named as the filters of the settings and return tuples of (P, H, W).
    """

    def __init__(self, planes: Tensor, sigma_px: float) -> None:
        self._planes = planes
        self._sigma_px = sigma_px

    @cached_property
    def _smoothed_down(self) -> Tensor:
        return filter_axis(self._planes, self._sigma_px, 0, axis=1)

    @cached_property
    def _derived_down(self) -> Tensor:
        return filter_axis(self._planes, self._sigma_px, 1, axis=1)

    @cached_property
    def _smoothed(self) -> Tensor:
        return filter_axis(self._smoothed_down, self._sigma_px, 0, axis=2)

    @cached_property
    def _gradient(self) -> tuple[Tensor, Tensor]:
        """Derivatives along rows and columns."""
        return (
            filter_axis(self._derived_down, self._sigma_px, 0, axis=2),
            filter_axis(self._smoothed_down, self._sigma_px, 1, axis=2),
        )

    @cached_property
    def _curvature(self) -> tuple[Tensor, Tensor]:
        """Second derivatives along rows and columns."""
        twice_down = filter_axis(self._planes, self._sigma_px, 2, axis=1)
        return (
            filter_axis(twice_down, self._sigma_px, 0, axis=2),
            filter_axis(self._smoothed_down, self._sigma_px, 2, axis=2),
        )

    def gaussian(self) -> tuple[Tensor, ...]:
        """Return the smoothed planes."""
        return (self._smoothed,)

    def laplacian_of_gaussian(self) -> tuple[Tensor, ...]:
        """Return the sum of the second derivatives."""
        rows, cols = self._curvature
        return (rows + cols,)

    def gradient_magnitude(self) -> tuple[Tensor, ...]:
        """Return the length of the gradient."""
        rows, cols = self._gradient
        return ((rows.square() + cols.square()).sqrt(),)

    def difference_of_gaussians(self) -> tuple[Tensor, ...]:
        """Return how the smoothed planes differ from less smoothed ones."""
        return (self._smoothed - smooth(self._planes, _DOG_RATIO * self._sigma_px),)

    def structure_tensor_eigenvalues(self) -> tuple[Tensor, ...]:
        """Return the eigenvalues of the integrated structure tensor, the larger first."""
        rows, cols = self._gradient
        sigma_px = _INTEGRATION_RATIO * self._sigma_px
        return _eigenvalues(
            *(smooth(product, sigma_px) for product in (rows * rows, rows * cols, cols * cols))
        )

    def hessian_eigenvalues(self) -> tuple[Tensor, ...]:
        """Return the eigenvalues of the Hessian, the larger first."""
        rows, cols = self._curvature
        return _eigenvalues(rows, filter_axis(self._derived_down, self._sigma_px, 1, axis=2), cols)


def _eigenvalues(first: Tensor, mixed: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return both eigenvalues of symmetric 2 × 2 matrices, the larger first."""
    middle = (first + second) * 0.5
    distance = (((first - second) * 0.5).square() + mixed.square()).sqrt()
    return middle + distance, middle - distance


def _smooth_bands(images: Tensor, sigma_px: float) -> Tensor:
    """Smooth (N, bands, H, W)."""
    return smooth(images.flatten(0, 1), sigma_px).view(images.shape)


def _hsv(images: Tensor) -> Tensor:
    """Convert (N, 3, H, W) from RGB to hue, saturation and value, each in 0..1, as skimage."""
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    spread = value - least
    safe = torch.where(spread > 0, spread, 1)
    hue = torch.where(
        value == blue,
        4 + (red - green) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, (green - blue) / safe),
    )
    hue = torch.where(spread > 0, torch.remainder(hue / 6, 1), 0)
    saturation = torch.where(spread > 0, spread / torch.where(value > 0, value, 1), 0)
    return torch.stack([hue, saturation, value], 1)


def _excess_green(images: Tensor) -> Tensor:
    """Compute (2G-R-B)/(R+G+B) of (N, 3, H, W); 0 where all bands are 0."""
    total = images.sum(1, keepdim=True)
    green = 3 * images[:, 1:2] - total
    return torch.where(total > 0, green / torch.where(total > 0, total, 1), 0)
