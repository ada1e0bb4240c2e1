"""Enlarge planes on a CPU in machine code: bicubic as torch does it, by whole factors."""

from functools import lru_cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.runtime.machine_code import compiled

Floats = npt.NDArray[np.float32]

_SHARPNESS: Final = -0.75
"""The parameter of torch's cubic kernel."""


@lru_cache(maxsize=8)
def _phases(factor: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the first of four pixels that new pixels are made of, and the weights (factor, 4)."""
    places = (np.arange(factor) + 0.5) / factor - 0.5
    first = np.floor(places).astype(np.int64) - 1
    distance = np.abs(places[:, None] - (first[:, None] + np.arange(4)))
    a = _SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return first, np.where(distance <= 1, near, far).astype(np.float32)


def enlarge(planes: Floats, factor: int) -> Floats:
    """Enlarge planes (P, H, W), contiguous; pixels beyond an edge are those at the edge."""
    count, height, width = planes.shape
    enlarged = np.empty((count, height * factor, width * factor), np.float32)
    first, weights = _phases(factor)
    for plane, out in zip(planes, enlarged, strict=True):
        _enlarge(plane, first, weights, out)
    return enlarged


@partial(compiled, contract=True)
def _enlarge(plane: Floats, first: npt.NDArray[np.int64], weights: Floats, out: Floats) -> None:
    height, width = plane.shape
    factor = len(first)
    line = np.empty(width + 4, np.float32)  # with two pixels more at both ends
    for y in range(len(out)):
        phase, top = y % factor, y // factor + first[y % factor]
        a, b, c, d = weights[phase]
        p = plane[min(max(top, 0), height - 1)]
        q = plane[min(max(top + 1, 0), height - 1)]
        r = plane[min(max(top + 2, 0), height - 1)]
        s = plane[min(max(top + 3, 0), height - 1)]
        for x in range(width):
            line[x + 2] = a * p[x] + b * q[x] + c * r[x] + d * s[x]
        line[0] = line[1] = line[2]
        line[width + 2] = line[width + 3] = line[width + 1]
        row = out[y]
        for phase in range(factor):
            a, b, c, d = weights[phase]
            source = line[2 + first[phase] :]
            for x in range(width):
                row[x * factor + phase] = (
                    a * source[x] + b * source[x + 1] + c * source[x + 2] + d * source[x + 3]
                )
