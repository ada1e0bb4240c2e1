"""The filter bank: Gaussian derivatives at several scales, and colour features.

These are the features of interactive pixel classifiers such as ilastik. The values agree with
scipy.ndimage and with the eigenvalues of scikit-image up to rounding. On a CPU they come from loops
in machine code, elsewhere and in exported graphs from tensor operations; both agree to rounding.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pointcover.features.gaussian import (
    DOG_RATIO,
    INTEGRATION_RATIO,
    Part,
    check_images,
    filter_axis,
    radius_px,
    whole_of,
)
from pointcover.features.settings import FilterBankSettings
from pointcover.features.smoothing import smooth


class FilterBank(nn.Module):
    """Compute filters of every band at every sigma, and colour features of the first three bands.

    Everything is computed in float32, on the device of the images. Within autocast the features
    are stored in its type, usually bfloat16, with a relative error of at most 2⁻⁸ (0.4 %); products
    in bfloat16 would lose the small differences that most filters compute. There are no gradients.
    """

    alignment_px = 1
    """Windows may begin anywhere."""

    def __init__(self, settings: FilterBankSettings | None = None) -> None:
        """Store the settings; there are no weights."""
        super().__init__()
        self.settings = settings or FilterBankSettings()

    @property
    def margin_px(self) -> int:
        """Pixels around a window on which its features depend."""
        settings = self.settings
        margins = [radius_px(sigma) for sigma in settings.sigmas_px if settings.filters]
        if "structure_tensor_eigenvalues" in settings.filters:
            margins += [
                radius_px(sigma) + radius_px(INTEGRATION_RATIO * sigma)
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
                for part in ("_1", "_2") if _has_two(name) else ("",):
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
    def forward(self, images: Tensor, part: Part | None = None) -> Tensor:
        """Compute the features of images.

        Args:
            images: (N, bands, H, W) floating point, in 0..1.
            part: the rows and columns whose features are returned; all by default.

        Returns:
            (N, features, H, W) float32, or autocast's type within autocast.
        """
        check_images(images)
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        with torch.autocast(kind, enabled=False):
            images = images.float().contiguous()
            if torch.compiler.is_compiling():
                return torch.cat(list(self._tensors(images)), dim=1).to(dtype)
            return self._fill(images, dtype, part or whole_of(images))

    def _fill(self, images: Tensor, dtype: torch.dtype, part: Part) -> Tensor:
        """Write the features into one tensor: not joined at the end, which takes twice as much."""
        rows, cols = part
        shape = rows.stop - rows.start, cols.stop - cols.start
        names = self.names(images.shape[1])
        if images.device.type == "cpu":
            # numpy asks Linux for huge pages: mapping small ones takes as long as the filters.
            numbers = np.empty((len(images), len(names), *shape), np.float32)
            self._compute(images, part, numbers)
            return torch.from_numpy(numbers).to(dtype)
        features = images.new_empty((len(images), len(names), *shape), dtype=dtype)
        place = 0
        for values in self._tensors(images):
            features[:, place : place + values.shape[1]] = values[:, :, rows, cols]
            place += values.shape[1]
        return features

    def _compute(self, images: Tensor, part: Part, features: npt.NDArray[np.float32]) -> None:
        """Write the features of a part of images on a CPU, (N, features, rows, columns)."""
        from pointcover.features.filter_loops import Places, Task, filter_planes

        settings, bands = self.settings, images.shape[1]
        first = place = bands if settings.bands else 0
        features[:, :first] = images[:, :first, part[0], part[1]]
        for number, image in enumerate(images.detach().numpy()):
            tasks, place = [], first
            for sigma in settings.sigmas_px:
                places = {}
                for name in settings.filters:
                    places[name] = place
                    place += bands * (1 + _has_two(name))
                for band, plane in enumerate(image):
                    own = {name: begin + band for name, begin in places.items()}
                    tasks.append(Task(plane, sigma, Places(**own, step=bands)))
            filter_planes(tasks, part, features[number])

        for colour in self._colours(images, part):
            features[:, place : place + colour.shape[1]] = colour.numpy()
            place += colour.shape[1]

    def _tensors(self, images: Tensor) -> Iterator[Tensor]:
        """Compute the features with tensor operations, (N, some, H, W) each."""
        if self.settings.bands:
            yield images
        planes = images.flatten(0, 1)
        for sigma in self.settings.sigmas_px:
            derivatives = _Derivatives(planes, sigma)
            for name in self.settings.filters:
                for value in getattr(derivatives, name)():
                    yield value.view(images.shape)
        yield from self._colours(images, whole_of(images))

    def _colours(self, images: Tensor, part: Part) -> Iterator[Tensor]:
        """Compute the colour features of (N, bands, H, W), (N, some, rows, columns) each."""
        if images.shape[1] < 3:
            return
        colours = images[:, :3].contiguous()
        for sigma in self.settings.hsv_sigmas_px:
            yield _hsv(_smooth_bands(colours, sigma, part))
        for sigma in self.settings.excess_green_sigmas_px:
            yield _excess_green(_smooth_bands(colours, sigma, part))


def _has_two(name: str) -> bool:
    """Return whether a filter has two values a pixel."""
    return name.endswith("eigenvalues")


class _Derivatives:
    """Gaussian derivatives of (P, H, W) planes at one sigma, each when first needed.

    Methods are named as the filters of the settings and return tuples of (P, H, W).
    """

    def __init__(self, planes: Tensor, sigma_px: float) -> None:
        """Store the planes; nothing is computed yet."""
        self._planes, self._sigma_px = planes, sigma_px

    def _derive(self, planes: Tensor, order: int, axis: int) -> Tensor:
        return filter_axis(planes, self._sigma_px, order, axis)

    @cached_property
    def _smoothed_down(self) -> Tensor:
        return self._derive(self._planes, 0, 1)

    @cached_property
    def _derived_down(self) -> Tensor:
        return self._derive(self._planes, 1, 1)

    @cached_property
    def _smoothed(self) -> Tensor:
        return self._derive(self._smoothed_down, 0, 2)

    @cached_property
    def _gradient(self) -> tuple[Tensor, Tensor]:
        """Derivatives along rows and columns."""
        return self._derive(self._derived_down, 0, 2), self._derive(self._smoothed_down, 1, 2)

    @cached_property
    def _curvature(self) -> tuple[Tensor, Tensor]:
        """Second derivatives along rows and columns."""
        down = self._derive(self._planes, 2, 1)
        return self._derive(down, 0, 2), self._derive(self._smoothed_down, 2, 2)

    def gaussian(self) -> tuple[Tensor, ...]:
        """Return the smoothed planes."""
        return (self._smoothed,)

    def laplacian_of_gaussian(self) -> tuple[Tensor, ...]:
        """Return the sum of the second derivatives."""
        rows, cols = self._curvature
        return (rows + cols,)

    def gradient_magnitude(self) -> tuple[Tensor, ...]:
        """Return the length of the gradient."""
        return (_length(*self._gradient),)

    def difference_of_gaussians(self) -> tuple[Tensor, ...]:
        """Return the smoothed planes minus less smoothed ones."""
        return (self._smoothed - smooth(self._planes, DOG_RATIO * self._sigma_px),)

    def structure_tensor_eigenvalues(self) -> tuple[Tensor, ...]:
        """Return the eigenvalues of the integrated structure tensor, the larger first."""
        rows, cols = self._gradient
        sigma_px = INTEGRATION_RATIO * self._sigma_px
        products = rows * rows, rows * cols, cols * cols
        return _eigenvalues(*(smooth(product, sigma_px) for product in products))

    def hessian_eigenvalues(self) -> tuple[Tensor, ...]:
        """Return the eigenvalues of the Hessian, the larger first."""
        rows, cols = self._curvature
        return _eigenvalues(rows, self._derive(self._derived_down, 1, 2), cols)


def _eigenvalues(first: Tensor, mixed: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """Return both eigenvalues of symmetric 2 × 2 matrices, the larger first."""
    half = 0.5 * (first - second)
    middle, distance = first - half, _length(half, mixed)
    return middle + distance, middle - distance


def _length(rows: Tensor, cols: Tensor) -> Tensor:
    """Return the length of vectors."""
    return torch.sqrt(rows * rows + cols * cols)


def _smooth_bands(images: Tensor, sigma_px: float, part: Part) -> Tensor:
    """Smooth (N, bands, H, W), and return a part."""
    if not sigma_px:
        return images[:, :, part[0], part[1]]
    smoothed = smooth(images.flatten(0, 1), sigma_px, part)
    return smoothed.view(*images.shape[:2], *smoothed.shape[1:])


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
