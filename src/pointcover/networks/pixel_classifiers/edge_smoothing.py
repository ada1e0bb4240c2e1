"""Average log-probabilities over neighbours of similar colour: a joint bilateral filter.

Single pixels are noisy, objects are larger than a pixel, and their edges are edges of the image
(Petschnig et al. 2004, "Digital Photography with Flash and No-Flash Image Pairs"). Both kernels are
Tukey's biweight, (1 - (d / r)²)², which is 0 from r on, so no exponential is needed. Distances of
colours are in standard deviations of the bands, so that images of low contrast have edges, too.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pointcover.features.gaussian import Part
from pointcover.networks.pixel_classifiers.pixel_features import WHITE
from pointcover.networks.pixel_classifiers.settings import SmoothingSettings
from pointcover.runtime.machine_code import compiled

Floats = npt.NDArray[np.float32]

LEAST_PROBABILITY: Final = 1e-4
"""Probabilities are at least this before they are averaged, so that no single tree excludes a
class from all neighbours."""

_FAR: Final = -1e3
"""Scaled colour beyond the edges of an image: no pixel is similar to it, as none is below 0."""


class EdgeSmoothing:
    """Smooth the logits of images."""

    def __init__(self, settings: SmoothingSettings) -> None:
        """Compute the weights of distance, and the factors of bands."""
        self.radius_px = settings.radius_px
        self._offsets = tuple(_offsets(settings.radius_px))
        farthest = settings.colour * math.sqrt(len(settings.band_stds))
        self._factors = [WHITE / (std * farthest) for std in settings.band_stds]

    def grow(self, part: Part, height: int, width: int) -> Part:
        """Return a part of an image with the neighbours of its pixels."""
        rows, cols = part
        radius = self.radius_px
        return (
            slice(max(0, rows.start - radius), min(rows.stop + radius, height)),
            slice(max(0, cols.start - radius), min(cols.stop + radius, width)),
        )

    def smooth_part(self, logits: Tensor, colours: Tensor, part: Part) -> Tensor:
        """Smooth a part of one image on a CPU.

        Args:
            logits: (C, H, W) float32.
            colours: (bands, H, W) float32 of 0..1.
            part: rows and columns of these that are wanted.

        Returns:
            (C, rows, columns) float32; softmax gives probabilities.
        """
        logs = _bounded(logits[None])[0].contiguous().numpy()
        rows, cols = part
        out = np.empty(
            (len(logs), rows.stop - rows.start, cols.stop - cols.start), dtype=np.float32
        )
        planes = self._scale(colours).contiguous().numpy()
        neighbours = np.array(self._offsets, np.float32)
        _smooth(logs, planes, neighbours, (rows.start, cols.start), out)
        return torch.from_numpy(out)

    def __call__(self, logits: Tensor, colours: Tensor) -> Tensor:
        """Smooth whole images on any device; torch.export takes it.

        Args:
            logits: (N, C, H, W).
            colours: (N, bands, H, W) of 0..1.

        Returns:
            (N, C, H, W) float32; softmax gives probabilities.
        """
        radius = self.radius_px
        logs, colours = _bounded(logits), self._scale(colours)
        around = functional.pad(logs, (radius,) * 4)
        others = functional.pad(colours, (radius,) * 4, value=_FAR)
        total, weights = logs, torch.ones_like(logs[:, :1])
        for down, right, near in self._offsets:
            there = (
                ...,
                slice(radius + down, down - radius or None),
                slice(radius + right, right - radius or None),
            )
            apart = (colours - others[there]).square().sum(dim=1, keepdim=True)
            weight = near * (1 - apart).clamp(min=0).square()
            total = total + weight * around[there]
            weights = weights + weight
        return total / weights

    def _scale(self, colours: Tensor) -> Tensor:
        """Scale colours so that from a squared distance of 1 on, neighbours do not count."""
        factors = torch.tensor(self._factors, device=colours.device)
        return colours.float() * factors[:, None, None]


def _bounded(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(dim=1).clamp(min=math.log(LEAST_PROBABILITY))


def _offsets(radius_px: int) -> Iterator[tuple[int, int, float]]:
    """Yield the rows and columns to each neighbour, and its weight by distance."""
    for down in range(-radius_px, radius_px + 1):
        for right in range(-radius_px, radius_px + 1):
            far = (down**2 + right**2) / (radius_px + 1) ** 2
            if 0 < far < 1:
                yield down, right, (1 - far) ** 2


@partial(compiled, contract=True)
def _smooth(
    logs: Floats, colours: Floats, neighbours: Floats, corner: tuple[int, int], out: Floats
) -> None:
    classes, height, width = logs.shape
    top, left = corner
    count = out.shape[2]
    one, zero = np.float32(1), np.float32(0)
    weights, alike = np.empty(count, np.float32), np.empty(count, np.float32)
    for row in range(out.shape[1]):
        y = top + row
        weights[:] = one
        for number in range(classes):
            out[number, row, :] = logs[number, y, left : left + count]
        for number in range(len(neighbours)):
            down, right = int(neighbours[number, 0]), left + int(neighbours[number, 1])
            near = neighbours[number, 2]
            first, last = max(0, -right), min(count, width - right)
            if y + down < 0 or y + down >= height or first >= last:
                continue
            weight = alike[: last - first]
            weight[:] = one
            for band in range(len(colours)):
                here = colours[band, y, left + first : left + last]
                there = colours[band, y + down, right + first : right + last]
                for x in range(len(weight)):
                    weight[x] -= (here[x] - there[x]) ** 2
            total = weights[first:last]
            for x in range(len(weight)):
                part = weight[x] if weight[x] > zero else zero
                weight[x] = near * part * part
                total[x] += weight[x]
            for of_class in range(classes):
                source = logs[of_class, y + down, right + first : right + last]
                target = out[of_class, row, first:last]
                for x in range(len(weight)):
                    target[x] += weight[x] * source[x]
        for number in range(classes):
            for x in range(count):
                out[number, row, x] /= weights[x]
