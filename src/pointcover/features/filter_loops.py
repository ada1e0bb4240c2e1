"""Gaussian filters of a plane on a CPU, in machine code that numba compiles.

Row by row: the vertical filters of a row, the horizontal ones of these and what is computed from
both stay in the processor's cache; only features are written to memory. Kernels are symmetric or
antisymmetric, so pixels at both sides are added, or subtracted, before they are multiplied. Values
of a pixel are the same bits whatever part of an image is computed. Edges are reflected with the
edge pixel repeated (scipy's `reflect`).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pointcover.features.gaussian import (
    DOG_RATIO,
    INTEGRATION_RATIO,
    Part,
    gaussian_kernel,
    radius_px,
)
from pointcover.runtime.machine_code import compiled

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

TAPS: Final = 4
"""Pixels at each side that are added in one loop over a row."""

TILE: Final = 256
"""Columns that are filtered with three kernels at once."""


class SigmaKernels(NamedTuple):
    """Kernels of one sigma, from the middle on, with zeros up to a multiple of TAPS."""

    derivatives: Floats
    """(3, n): of the Gaussian, which is symmetric, its first derivative, which is antisymmetric,
    and its second one."""
    fine: Floats
    """(m,): of the less smoothed plane that a difference of Gaussians subtracts."""
    integration: Floats
    """(k,): of the Gaussian with which the structure tensor is smoothed."""


class Window(NamedTuple):
    """Rows and columns of a plane."""

    top: int
    bottom: int
    left: int
    right: int


class Places(NamedTuple):
    """Where the filters of a plane at one sigma are written to; -1 if they are not wanted."""

    gaussian: int = -1
    laplacian_of_gaussian: int = -1
    gradient_magnitude: int = -1
    difference_of_gaussians: int = -1
    structure_tensor_eigenvalues: int = -1
    """The larger one; the smaller one comes `step` later."""
    hessian_eigenvalues: int = -1
    step: int = 1


@lru_cache(maxsize=64)
def kernels_of(sigma_px: float) -> SigmaKernels:
    """Return what is filtered with at one sigma."""
    derivatives = np.stack([half_kernel(sigma_px, order) for order in range(3)])
    fine, integration = (half_kernel(ratio * sigma_px) for ratio in (DOG_RATIO, INTEGRATION_RATIO))
    return SigmaKernels(derivatives, fine, integration)


@lru_cache(maxsize=256)
def half_kernel(sigma_px: float, order: int = 0) -> Floats:
    """Return the kernel of a Gaussian or one of its derivatives, as in SigmaKernels."""
    radius = radius_px(sigma_px)
    half = np.zeros(1 + -(-radius // TAPS) * TAPS, np.float32)
    half[: radius + 1] = gaussian_kernel(sigma_px, order)[radius:]
    return half


_compile = partial(compiled, contract=True)


@_compile
def _reflect(place: int, length: int) -> int:
    wrapped = place % (2 * length)
    return min(wrapped, 2 * length - 1 - wrapped)


@_compile
def _reflect_ends(line: Floats, start: int, length: int) -> None:
    """Fill the pixels of a line outside of [0, length); the line begins at `start`."""
    for at in range(min(-start, len(line))):
        line[at] = line[_reflect(start + at, length) - start]
    for at in range(length - start, len(line)):
        line[at] = line[_reflect(start + at, length) - start]


@_compile
def _around(row: int, radius: int, length: int, first: int) -> Integers:
    """Return a row and those at both sides, from the top, counted from `first`."""
    rows = np.empty(2 * radius + 1, np.int64)
    for at in range(len(rows)):
        rows[at] = _reflect(row - radius + at, length) - first
    return rows


@_compile
def _smooth_down(plane: Floats, rows: Integers, left: int, kernel: Floats, out: Floats) -> None:
    """Filter one row vertically with a symmetric kernel, from a column on."""
    middle, right = len(rows) // 2, left + len(out)
    line, weight = plane[rows[middle], left:right], kernel[0]
    for x in range(len(out)):
        out[x] = weight * line[x]
    for k in range(1, len(kernel), TAPS):
        before, after = rows[middle - k - TAPS + 1 : middle - k + 1], rows[middle + k :]
        a0, a1, a2, a3 = kernel[k], kernel[k + 1], kernel[k + 2], kernel[k + 3]
        p0, q0 = plane[before[3], left:right], plane[after[0], left:right]
        p1, q1 = plane[before[2], left:right], plane[after[1], left:right]
        p2, q2 = plane[before[1], left:right], plane[after[2], left:right]
        p3, q3 = plane[before[0], left:right], plane[after[3], left:right]
        for x in range(len(out)):
            total = out[x]
            total += a0 * (q0[x] + p0[x])
            total += a1 * (q1[x] + p1[x])
            total += a2 * (q2[x] + p2[x])
            total += a3 * (q3[x] + p3[x])
            out[x] = total


@_compile
def _derive_down(plane: Floats, rows: Integers, left: int, kernels: Floats, out: Floats) -> None:
    """Filter one row vertically with three kernels at once, tile by tile: out (3, columns)."""
    middle, right = len(rows) // 2, left + out.shape[1]
    tile = np.empty(3 * TILE, np.float32)
    a, b, c = kernels[0], kernels[1], kernels[2]
    for first in range(left, right, TILE):
        last = min(first + TILE, right)
        count = last - first
        line = plane[rows[middle], first:last]
        for x in range(count):
            tile[x] = a[0] * line[x]
            tile[TILE + x] = 0
            tile[2 * TILE + x] = c[0] * line[x]
        for k in range(1, len(a), TAPS):
            before, after = rows[middle - k - TAPS + 1 : middle - k + 1], rows[middle + k :]
            a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
            p0, q0 = plane[before[3], first:last], plane[after[0], first:last]
            p1, q1 = plane[before[2], first:last], plane[after[1], first:last]
            p2, q2 = plane[before[1], first:last], plane[after[2], first:last]
            p3, q3 = plane[before[0], first:last], plane[after[3], first:last]
            for x in range(count):
                s0, d0 = q0[x] + p0[x], q0[x] - p0[x]
                s1, d1 = q1[x] + p1[x], q1[x] - p1[x]
                s2, d2 = q2[x] + p2[x], q2[x] - p2[x]
                s3, d3 = q3[x] + p3[x], q3[x] - p3[x]
                tile[x] = (((tile[x] + a0 * s0) + a1 * s1) + a2 * s2) + a3 * s3
                at = TILE + x
                tile[at] = (((tile[at] + b0 * d0) + b1 * d1) + b2 * d2) + b3 * d3
                at = 2 * TILE + x
                tile[at] = (((tile[at] + c0 * s0) + c1 * s1) + c2 * s2) + c3 * s3
        for number in range(3):
            _copy(tile[number * TILE :], out[number, first - left : last - left])


@_compile
def _smooth_along(line: Floats, kernel: Floats, out: Floats) -> None:
    """Filter a row horizontally; the line has the kernel's radius more at both ends."""
    middle, count = len(kernel) - 1, len(out)
    weight = kernel[0]
    for x in range(count):
        out[x] = weight * line[middle + x]
    for k in range(1, len(kernel), TAPS):
        a0, a1, a2, a3 = kernel[k], kernel[k + 1], kernel[k + 2], kernel[k + 3]
        p = line[middle - k - 3 : middle - k + count]
        q = line[middle + k : middle + k + 3 + count]
        for x in range(count):
            total = out[x]
            total += a0 * (q[x] + p[x + 3])
            total += a1 * (q[x + 1] + p[x + 2])
            total += a2 * (q[x + 2] + p[x + 1])
            total += a3 * (q[x + 3] + p[x])
            out[x] = total


@_compile
def _derive_along(line: Floats, kernels: Floats, out: Floats) -> None:
    """Filter a row horizontally with three kernels at once: see `_smooth_along`, `_derive_down`."""
    middle, columns = kernels.shape[1] - 1, out.shape[1]
    tile = np.empty(3 * TILE, np.float32)
    a, b, c = kernels[0], kernels[1], kernels[2]
    for first in range(0, columns, TILE):
        last = min(first + TILE, columns)
        count = last - first
        at = middle + first
        for x in range(count):
            tile[x] = a[0] * line[at + x]
            tile[TILE + x] = 0
            tile[2 * TILE + x] = c[0] * line[at + x]
        for k in range(1, len(a), TAPS):
            a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
            p = line[middle + first - k - 3 : middle + first - k + count]
            q = line[middle + first + k : middle + first + k + 3 + count]
            for x in range(count):
                s0, d0 = q[x] + p[x + 3], q[x] - p[x + 3]
                s1, d1 = q[x + 1] + p[x + 2], q[x + 1] - p[x + 2]
                s2, d2 = q[x + 2] + p[x + 1], q[x + 2] - p[x + 1]
                s3, d3 = q[x + 3] + p[x], q[x + 3] - p[x]
                tile[x] = (((tile[x] + a0 * s0) + a1 * s1) + a2 * s2) + a3 * s3
                at = TILE + x
                tile[at] = (((tile[at] + b0 * d0) + b1 * d1) + b2 * d2) + b3 * d3
                at = 2 * TILE + x
                tile[at] = (((tile[at] + c0 * s0) + c1 * s1) + c2 * s2) + c3 * s3
        for number in range(3):
            _copy(tile[number * TILE :], out[number, first:last])


@_compile
def _smooth_plane(plane: Floats, window: Window, kernel: Floats, out: Floats) -> None:
    """Smooth a window of a plane (H, W) to (rows, columns)."""
    height, width = plane.shape
    radius = len(kernel) - 1
    start = window.left - radius
    line = np.empty(window.right + radius - start, np.float32)
    begin, end = max(0, start), min(width, window.right + radius)
    for y in range(window.top, window.bottom):
        _smooth_down(
            plane,
            _around(y, radius, height, np.int64(0)),
            begin,
            kernel,
            line[begin - start : end - start],
        )
        _reflect_ends(line, start, width)
        _smooth_along(line, kernel, out[y - window.top])


@_compile
def _filter_plane(
    plane: Floats, window: Window, kernels: SigmaKernels, places: Places, features: Floats
) -> None:
    """Write the filters of a window of a plane (H, W) to features (F, rows, columns)."""
    height, width = plane.shape
    margin = len(kernels.integration) - 1 if places.structure_tensor_eigenvalues >= 0 else 0
    top, bottom = max(0, window.top - margin), min(height, window.bottom + margin)
    left, right = max(0, window.left - margin), min(width, window.right + margin)
    inner = slice(window.left - left, window.right - left)
    columns = window.right - window.left

    radius = kernels.derivatives.shape[1] - 1
    start = left - radius
    begin, end = max(0, start), min(width, right + radius)
    filled = slice(begin - start, end - start)
    down = np.empty((3, right + radius - start), np.float32)
    of_smooth = np.empty((3, right - left), np.float32)
    of_first = np.empty((3, right - left), np.float32)
    by_rows = np.empty(right - left, np.float32)

    fine_radius = len(kernels.fine) - 1
    fine_start = window.left - fine_radius
    fine_down = np.empty(columns + 2 * fine_radius, np.float32)
    fine_begin, fine_end = max(0, fine_start), min(width, window.right + fine_radius)
    fine = np.empty(columns, np.float32)

    products = np.empty((3, columns + 2 * margin), np.float32)
    product_start = window.left - margin
    placed = slice(left - product_start, right - product_start)
    tensor = np.empty((3, bottom - top, columns), np.float32)

    for y in range(top, bottom):
        rows = _around(y, radius, height, np.int64(0))
        _derive_down(plane, rows, begin, kernels.derivatives, down[:, filled])
        for number in range(3):
            _reflect_ends(down[number], start, width)
        _derive_along(down[0], kernels.derivatives, of_smooth)
        _derive_along(down[1], kernels.derivatives, of_first)
        _smooth_along(down[2], kernels.derivatives[0], by_rows)
        if places.structure_tensor_eigenvalues >= 0:
            _multiply(of_first[0], of_first[0], products[0, placed])
            _multiply(of_first[0], of_smooth[1], products[1, placed])
            _multiply(of_smooth[1], of_smooth[1], products[2, placed])
            for number in range(3):
                _reflect_ends(products[number], product_start, width)
                _smooth_along(products[number], kernels.integration, tensor[number, y - top])
        if not window.top <= y < window.bottom:
            continue
        row = y - window.top
        if places.gaussian >= 0:
            _copy(of_smooth[0, inner], features[places.gaussian, row])
        if places.laplacian_of_gaussian >= 0:
            _add(by_rows[inner], of_smooth[2, inner], features[places.laplacian_of_gaussian, row])
        if places.gradient_magnitude >= 0:
            _length(
                of_first[0, inner], of_smooth[1, inner], features[places.gradient_magnitude, row]
            )
        if places.difference_of_gaussians >= 0:
            rows = _around(y, fine_radius, height, np.int64(0))
            line = fine_down[fine_begin - fine_start : fine_end - fine_start]
            _smooth_down(plane, rows, fine_begin, kernels.fine, line)
            _reflect_ends(fine_down, fine_start, width)
            _smooth_along(fine_down, kernels.fine, fine)
            _subtract(of_smooth[0, inner], fine, features[places.difference_of_gaussians, row])
        if places.hessian_eigenvalues >= 0:
            _eigenvalues(
                by_rows[inner],
                of_first[1, inner],
                of_smooth[2, inner],
                features[places.hessian_eigenvalues, row],
                features[places.hessian_eigenvalues + places.step, row],
            )
    if places.structure_tensor_eigenvalues >= 0:
        summed = np.empty((3, columns), np.float32)
        for y in range(window.top, window.bottom):
            rows = _around(y, margin, height, top)
            for number in range(3):
                _smooth_down(tensor[number], rows, np.int64(0), kernels.integration, summed[number])
            _eigenvalues(
                summed[0],
                summed[1],
                summed[2],
                features[places.structure_tensor_eigenvalues, y - window.top],
                features[places.structure_tensor_eigenvalues + places.step, y - window.top],
            )


@_compile
def _copy(values: Floats, out: Floats) -> None:
    # Not out[:] = values: numba takes seconds to compile its error message.
    for x in range(len(out)):
        out[x] = values[x]


@_compile
def _multiply(first: Floats, second: Floats, out: Floats) -> None:
    for x in range(len(out)):
        out[x] = first[x] * second[x]


@_compile
def _add(first: Floats, second: Floats, out: Floats) -> None:
    for x in range(len(out)):
        out[x] = first[x] + second[x]


@_compile
def _subtract(first: Floats, second: Floats, out: Floats) -> None:
    for x in range(len(out)):
        out[x] = first[x] - second[x]


@_compile
def _length(first: Floats, second: Floats, out: Floats) -> None:
    for x in range(len(out)):
        out[x] = np.sqrt(first[x] * first[x] + second[x] * second[x])


@_compile
def _eigenvalues(
    first: Floats, mixed: Floats, second: Floats, larger: Floats, smaller: Floats
) -> None:
    """Write the eigenvalues of symmetric 2 × 2 matrices."""
    for x in range(len(larger)):
        half = np.float32(0.5) * (first[x] - second[x])
        middle = first[x] - half
        length = np.sqrt(half * half + mixed[x] * mixed[x])
        larger[x] = middle + length
        smaller[x] = middle - length


class Task(NamedTuple):
    """Filters of one plane at one sigma."""

    plane: Floats
    """(H, W), contiguous."""
    sigma_px: float
    places: Places


def filter_planes(tasks: Sequence[Task], part: Part, features: Floats) -> None:
    """Write filters of a part of planes to features (F, rows, columns)."""
    window = _window_of(part)

    def run(task: Task) -> None:
        _filter_plane(task.plane, window, kernels_of(task.sigma_px), task.places, features)

    # The widest kernels first: so threads end at about the same time.
    _run_all(run, sorted(tasks, key=lambda task: -task.sigma_px))


def smooth_planes(planes: Floats, sigma_px: float, part: Part, out: Floats) -> None:
    """Smooth a part of planes (P, H, W) with a Gaussian: out (P, rows, columns)."""
    kernel, window = half_kernel(sigma_px), _window_of(part)
    _run_all(
        lambda pair: _smooth_plane(pair[0], window, kernel, pair[1]), zip(planes, out, strict=True)
    )


def _window_of(part: Part) -> Window:
    rows, cols = part
    return Window(rows.start, rows.stop, cols.start, cols.stop)


def _run_all(run: Callable[[Any], None], tasks: Iterable[Any]) -> None:
    """Run tasks in as many threads as torch has."""
    threads = torch.get_num_threads()
    if threads == 1:
        for task in tasks:
            run(task)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, tasks))
