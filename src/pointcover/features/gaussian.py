"""Gaussian derivative filters of torch tensors as matrix products, with scipy.ndimage's values.

A filter along an axis is a banded matrix. It is applied block by block as a dense product, which is
many times as fast as a convolution of torch. Edges are reflected with the edge pixel repeated
(scipy's `reflect`), which is part of the matrices of the first and last blocks, so nothing is
padded. Kernels are truncated at four sigmas, as in scipy. Where it matters, on a CPU, loops in
machine code take the place of the products: `filter_loops`.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

TRUNCATE: Final = 4.0
"""Kernels end at this many sigmas: scipy's default."""

DOG_RATIO: Final = 0.66
"""The smaller of the two sigmas of a difference of Gaussians, as a fraction of the larger."""

INTEGRATION_RATIO: Final = 0.5
"""The sigma over which the structure tensor is integrated, as a fraction of the gradient's."""

Part = tuple[slice, slice]
"""Rows and columns of an image."""


def check_images(images: Tensor) -> None:
    """Check that images are (N, bands, H, W) floating point.

    Raises:
        ValueError: they are not.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"got {images.dtype} of shape {tuple(images.shape)}, wanted floating-point images "
            "(N, bands, H, W) in 0..1: divide integers by their largest value first"
        )


def radius_px(sigma_px: float) -> int:
    """Return the radius of a kernel in pixels."""
    return int(TRUNCATE * sigma_px + 0.5)


def gaussian_kernel(sigma_px: float, order: int) -> npt.NDArray[np.float64]:
    """Return the kernel of a Gaussian (order 0) or its derivatives (1, 2), for correlation."""
    radius = radius_px(sigma_px)
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    variance = sigma_px**2
    weights = np.exp(-(offsets**2) / (2 * variance))
    weights /= weights.sum()
    factors = (1.0, offsets / variance, offsets**2 / variance**2 - 1 / variance)
    return np.asarray(weights * factors[order])


class _Block(NamedTuple):
    """Output pixels [begin, end) of an axis as a product of input pixels [first, last)."""

    begin: int
    end: int
    first: int
    last: int
    matrix: Tensor
    """(last - first, end - begin)."""


def filter_axis(planes: Tensor, sigma_px: float, order: int, axis: int) -> Tensor:
    """Filter planes along rows or columns with a Gaussian or one of its derivatives.

    Args:
        planes: (P, H, W) float32, contiguous.
        sigma_px: standard deviation, more than 0.
        order: 0 smooths, 1 and 2 are derivatives.
        axis: 1 filters down the rows, 2 along the columns.

    Returns:
        (P, H, W) float32.
    """
    if torch.compiler.is_compiling():  # torch.export: any height and width
        return _convolve(planes, sigma_px, order, axis)
    filtered = torch.empty_like(planes)
    for block in _blocks(sigma_px, order, planes.shape[axis], planes.device):
        source, target = slice(block.first, block.last), slice(block.begin, block.end)
        if axis == 2:
            torch.matmul(planes[:, :, source], block.matrix, out=filtered[:, :, target])
        else:
            torch.matmul(block.matrix.T, planes[:, source], out=filtered[:, target])
    return filtered


def whole_of(planes: Tensor) -> Part:
    """Return all rows and columns."""
    return slice(0, planes.shape[-2]), slice(0, planes.shape[-1])


@lru_cache(maxsize=256)
def _blocks(sigma_px: float, order: int, length: int, device: torch.device) -> tuple[_Block, ...]:
    """Split the banded matrix of a filter along an axis into blocks; inner ones share a matrix."""
    kernel = gaussian_kernel(sigma_px, order)
    radius = len(kernel) // 2
    size = 128 if device.type != "cpu" else 32
    blocks: list[_Block] = []
    inner: Tensor | None = None
    for begin in range(0, length, size):
        end = min(begin + size, length)
        first, last = max(begin - radius, 0), min(end + radius, length)
        is_inner = first == begin - radius and last == end + radius and end - begin == size
        if inner is not None and is_inner:
            blocks.append(_Block(begin, end, first, last, inner))
            continue
        dense = np.zeros((last - first, end - begin))
        outputs = np.arange(begin, end)
        for offset, weight in enumerate(kernel, start=-radius):
            np.add.at(dense, (reflect(outputs + offset, length) - first, outputs - begin), weight)
        matrix = torch.from_numpy(dense).to(device, torch.float32)
        blocks.append(_Block(begin, end, first, last, matrix))
        if is_inner:
            inner = matrix
    return tuple(blocks)


def reflect(places: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Reflect positions into [0, length), with the edge pixel repeated."""
    wrapped = np.mod(places, 2 * length)
    return np.asarray(np.minimum(wrapped, 2 * length - 1 - wrapped))


def _convolve(planes: Tensor, sigma_px: float, order: int, axis: int) -> Tensor:
    """Filter like `filter_axis`, by a convolution whose graph is valid for any height and width."""
    kernel = torch.from_numpy(gaussian_kernel(sigma_px, order)).to(planes)
    radius = len(kernel) // 2
    length = planes.shape[axis]
    places = torch.arange(-radius, length + radius, device=planes.device)
    # A tensor as divisor, since the ONNX exporter does not support an unknown length.
    places = places.remainder(torch.full_like(places, 2 * length))
    padded = planes.index_select(axis, torch.minimum(places, 2 * length - 1 - places))
    shape = (1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1)
    return functional.conv2d(padded[:, None], kernel.view(shape))[:, 0]
