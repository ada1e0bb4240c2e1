"""The filter bank: Gaussian derivatives at several scales, and colour features.

These are the features of interactive pixel classifiers such as ilastik. The values agree with
scipy.ndimage and with the eigenvalues of scikit-image up to rounding.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pointcover.features.gaussian import (
    Kernel,
    Part,
    check_images,
    filter_span,
    radius_px,
    smooth,
    whole_of,
)
from pointcover.features.settings import FilterBankSettings

_DOG_RATIO = 0.66
"""The smaller of the two sigmas of a difference of Gaussians, as a fraction of the larger."""

_INTEGRATION_RATIO = 0.5
"""The sigma over which the structure tensor is integrated, as a fraction of the gradient's."""


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
                return self._join(images).to(dtype)
            return self._fill(images, dtype, part or whole_of(images))

    def _fill(self, images: Tensor, dtype: torch.dtype, part: Part) -> Tensor:
        """Write the features into one tensor; on a CPU plane by plane, for its cache."""
        rows, cols = part
        count, bands = images.shape[:2]
        height, width = rows.stop - rows.start, cols.stop - cols.start
        features = _allocate((count, len(self.names(bands)), height, width), dtype, images.device)
        first = bands if self.settings.bands else 0
        values = self._values_a_band()
        features[:, :first] = images[:, :first, rows, cols]
        of_filters = features[:, first : first + values * bands]
        of_filters = of_filters.view(count, values, bands, height, width)
        workspace = _Workspace(images)
        for chosen in _chunks(images):
            planes = images[chosen]
            shape = (*planes.shape[:2], height, width)
            filtered = self._filter(planes.flatten(0, 1), part, workspace)
            for place, value in enumerate(filtered):
                of_filters[chosen[0], place, chosen[1]] = value.view(shape)
        place = first + values * bands
        for colour in self._colours(images, part):
            features[:, place : place + colour.shape[1]] = colour
            place += colour.shape[1]
        return features

    def _join(self, images: Tensor) -> Tensor:
        """Compute the features without assignments, as an exported graph needs it."""
        parts = [images] if self.settings.bands else []
        whole = whole_of(images)
        filtered = self._filter(images.flatten(0, 1), whole, None)
        parts += [value.view(images.shape) for value in filtered]
        return torch.cat([*parts, *self._colours(images, whole)], dim=1)

    def _values_a_band(self) -> int:
        """Count the filters' values of one band."""
        filters = self.settings.filters
        return len(self.settings.sigmas_px) * sum(1 + _has_two(name) for name in filters)

    def _filter(
        self, planes: Tensor, part: Part, workspace: "_Workspace | None"
    ) -> Iterator[Tensor]:
        """Compute the filters of (P, H, W) planes one by one; later ones overwrite earlier ones."""
        for sigma in self.settings.sigmas_px:
            derivatives = _Derivatives((planes, part), sigma, workspace)
            for name in self.settings.filters:
                yield from getattr(derivatives, name)()

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


def _allocate(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate a large tensor; on a CPU with numpy, which asks Linux for huge pages.

    Mapping small pages one by one takes half of the time of the filters.
    """
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return torch.empty(shape, dtype=dtype, device=device)
    numbers = np.empty(shape, np.float32 if dtype == torch.float32 else np.int16)
    return torch.from_numpy(numbers).view(dtype)


def _chunks(images: Tensor) -> Iterator[tuple[slice, slice]]:
    """Split (N, bands, H, W) into single planes on a CPU; a GPU computes all at once."""
    if images.device.type != "cpu":
        yield slice(None), slice(None)
        return
    for number in range(images.shape[0]):
        for band in range(images.shape[1]):
            yield slice(number, number + 1), slice(band, band + 1)


class _Workspace:
    """Tensors that results are written to.

    Allocating memory for every result takes as long as computing it. So the same few tensors are
    used for all sigmas and planes of a call.
    """

    def __init__(self, images: Tensor) -> None:
        """Make one for planes of these images."""
        self._like = images
        self._rooms: dict[str, Tensor] = {}

    def room(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor to write to."""
        size = math.prod(shape)
        if name not in self._rooms or len(self._rooms[name]) < size:
            self._rooms[name] = self._like.new_empty(size)
        return self._rooms[name][:size].view(shape)


class _Derivatives:
    """Gaussian derivatives of a part of (P, H, W) planes at one sigma, each when first needed.

    Methods are named as the filters of the settings and return tuples of (P, rows, columns).
    Gradients are computed of a larger part, as the integration of the structure tensor needs it.
    """

    def __init__(
        self, planes: tuple[Tensor, Part], sigma_px: float, workspace: _Workspace | None
    ) -> None:
        """Store the planes with their part; in an exported graph it is all, without workspace."""
        self._planes, self._part = planes
        self._sigma_px = sigma_px
        self._workspace = workspace
        self._integration_px = _INTEGRATION_RATIO * sigma_px
        self._outer = self._inner = self._part
        if workspace:
            margin = radius_px(self._integration_px)
            sizes = self._planes.shape[1:]
            pairs = [
                _widen(span, margin, size) for span, size in zip(self._part, sizes, strict=True)
            ]
            (rows, inner_rows), (cols, inner_cols) = pairs
            self._outer, self._inner = (rows, cols), (inner_rows, inner_cols)

    def _room(self, name: str, shape: Sequence[int]) -> Tensor | None:
        """Return the tensor of the workspace to write a result to; None without a workspace."""
        return self._workspace.room(name, tuple(shape)) if self._workspace else None

    def _derive(self, planes: Tensor, order: int, axis: int, name: str) -> Tensor:
        """Filter along rows or columns, for the larger part."""
        return self._filter(planes, Kernel(self._sigma_px, order, axis), self._outer, name)

    def _filter(self, planes: Tensor, kernel: Kernel, part: Part, name: str) -> Tensor:
        span = part[kernel.axis - 1]
        if self._workspace is None:
            return filter_span(planes, kernel, span)
        shape = list(planes.shape)
        shape[kernel.axis] = span.stop - span.start
        return filter_span(planes, kernel, span, out=self._room(name, shape))

    def _smooth(self, planes: Tensor, sigma_px: float, part: Part, name: str) -> Tensor:
        down = self._filter(planes, Kernel(sigma_px, 0, 1), part, "down")
        return self._filter(down, Kernel(sigma_px, 0, 2), part, name)

    def _cut(self, *planes: Tensor) -> tuple[Tensor, ...]:
        """Cut the part out of the larger one."""
        if self._workspace is None:
            return planes
        return tuple(one[:, self._inner[0], self._inner[1]] for one in planes)

    @cached_property
    def _smoothed_down(self) -> Tensor:
        return self._derive(self._planes, 0, 1, "smoothed down")

    @cached_property
    def _derived_down(self) -> Tensor:
        return self._derive(self._planes, 1, 1, "derived down")

    @cached_property
    def _smoothed(self) -> Tensor:
        return self._derive(self._smoothed_down, 0, 2, "smoothed")

    @cached_property
    def _gradient(self) -> tuple[Tensor, Tensor]:
        """Derivatives along rows and columns."""
        return (
            self._derive(self._derived_down, 0, 2, "gradient of rows"),
            self._derive(self._smoothed_down, 1, 2, "gradient of columns"),
        )

    @cached_property
    def _curvature(self) -> tuple[Tensor, Tensor]:
        """Second derivatives along rows and columns."""
        down = self._derive(self._planes, 2, 1, "down")
        return (
            self._derive(down, 0, 2, "curvature of rows"),
            self._derive(self._smoothed_down, 2, 2, "curvature of columns"),
        )

    def gaussian(self) -> tuple[Tensor, ...]:
        """Return the smoothed planes."""
        return self._cut(self._smoothed)

    def laplacian_of_gaussian(self) -> tuple[Tensor, ...]:
        """Return the sum of the second derivatives."""
        rows, cols = self._cut(*self._curvature)
        return (torch.add(rows, cols, out=self._room("result", rows.shape)),)

    def gradient_magnitude(self) -> tuple[Tensor, ...]:
        """Return the length of the gradient."""
        rows, cols = self._cut(*self._gradient)
        return (self._length(rows, cols, name="result"),)

    def difference_of_gaussians(self) -> tuple[Tensor, ...]:
        """Return the smoothed planes minus less smoothed ones."""
        less = self._smooth(self._planes, _DOG_RATIO * self._sigma_px, self._part, "result")
        (more,) = self._cut(self._smoothed)
        return (torch.sub(more, less, out=self._room("result", less.shape)),)

    def structure_tensor_eigenvalues(self) -> tuple[Tensor, ...]:
        """Return the eigenvalues of the integrated structure tensor, the larger first."""
        rows, cols = self._gradient
        pairs = (rows, rows), (rows, cols), (cols, cols)
        tensor = []
        for number, pair in enumerate(pairs):
            product = torch.mul(*pair, out=self._room("product", rows.shape))
            name = f"structure {number}"
            tensor.append(self._smooth(product, self._integration_px, self._inner, name))
        return self._eigenvalues(*tensor)

    def hessian_eigenvalues(self) -> tuple[Tensor, ...]:
        """Return the eigenvalues of the Hessian, the larger first."""
        rows, cols = self._curvature
        mixed = self._derive(self._derived_down, 1, 2, "mixed")
        return self._eigenvalues(*self._cut(rows, mixed, cols))

    def _eigenvalues(self, first: Tensor, mixed: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return both eigenvalues of symmetric 2 × 2 matrices, the larger first."""
        shape = first.shape
        difference = torch.sub(first, second, out=self._room("product", shape))
        difference = torch.mul(difference, 0.5, out=self._room("product", shape))
        middle = torch.sub(first, difference, out=self._room("down", shape))
        distance = self._length(difference, mixed, name="product")
        return (
            torch.add(middle, distance, out=self._room("result", shape)),
            torch.sub(middle, distance, out=self._room("second result", shape)),
        )

    def _length(self, rows: Tensor, cols: Tensor, name: str) -> Tensor:
        """Return the length of vectors."""
        squares = torch.mul(rows, rows, out=self._room(name, rows.shape))
        squares = torch.addcmul(squares, cols, cols, out=self._room(name, rows.shape))
        return torch.sqrt(squares, out=self._room(name, rows.shape))


def _widen(span: slice, margin: int, size: int) -> tuple[slice, slice]:
    """Return a span with a margin, within [0, size), and the span's place in it."""
    wide = slice(max(span.start - margin, 0), min(span.stop + margin, size))
    return wide, slice(span.start - wide.start, span.stop - wide.start)


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
