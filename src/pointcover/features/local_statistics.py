"""Local statistics: what colours and texture are like around each pixel, at large sizes.

A filter bank sees edges and spots where they are. These are means over 8 to 32 pixels around: of
the bands, their standard deviation, the strength of fine edges and spots, saturation and excess
green.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pointcover.features.gaussian import (
    Part,
    check_images,
    filter_axis,
    radius_px,
    whole_of,
)
from pointcover.features.settings import LocalStatisticsSettings
from pointcover.features.smoothing import smooth

_DARK = 1e-3
"""Added to sums of bands that divide, so that black pixels have no colour."""


class LocalStatistics(nn.Module):
    """Compute means and standard deviations around each pixel, weighted by a Gaussian.

    Everything is computed in float32, band by band on a CPU. Nothing is differentiated.
    """

    alignment_px = 1
    """Windows may begin anywhere."""

    def __init__(self, settings: LocalStatisticsSettings | None = None) -> None:
        """Keep the settings; there are no weights."""
        super().__init__()
        self.settings = settings or LocalStatisticsSettings()

    @property
    def margin_px(self) -> int:
        """Pixels around a window on which its features depend."""
        fine = max((radius_px(sigma) for sigma in self.settings.fine_sigmas_px), default=0)
        return max(radius_px(sigma) for sigma in self.settings.sigmas_px) + fine

    def names(self, bands: int) -> tuple[str, ...]:
        """Name the features of images with this many bands, in the order of the output."""
        of_bands = [f"band_{band}" for band in range(1, bands + 1)]
        averaged = list(of_bands)
        for fine in self.settings.fine_sigmas_px:
            averaged += [f"gradient_magnitude_sigma_{fine:g}_{band}" for band in of_bands]
            averaged += [f"absolute_laplacian_sigma_{fine:g}_{band}" for band in of_bands]
        if bands >= 3:
            averaged += ["saturation", "excess_green", "positive_excess_green"]
        names = []
        for sigma in self.settings.sigmas_px:
            names += [f"mean_sigma_{sigma:g}_of_{name}" for name in averaged]
            names += [f"standard_deviation_sigma_{sigma:g}_of_{band}" for band in of_bands]
        return tuple(names)

    @torch.no_grad()
    def forward(self, images: Tensor, part: Part | None = None) -> Tensor:
        """Compute the features of images.

        Args:
            images: (N, bands, H, W) floating point, in 0..1.
            part: the rows and columns whose features are returned; all by default.

        Returns:
            (N, features, H, W) float32.
        """
        check_images(images)
        with torch.autocast(images.device.type, enabled=False):
            images = images.float().contiguous()
            if torch.compiler.is_compiling():
                return torch.cat(list(self._features(images, whole_of(images))), dim=1)
            rows, cols = part or whole_of(images)
            count, bands = images.shape[:2]
            size = rows.stop - rows.start, cols.stop - cols.start
            features = images.new_empty(count, len(self.names(bands)), *size)
            place = 0
            # Not joined at the end: that takes twice as much.
            for values in self._features(images, (rows, cols)):
                features[:, place : place + values.shape[1]] = values
                place += values.shape[1]
            return features

    def _features(self, images: Tensor, part: Part) -> Iterator[Tensor]:
        """Compute the features, (N, some, H, W) each."""
        averaged = list(self._averaged(images))
        for sigma in self.settings.sigmas_px:
            first, *others = averaged
            means = _smooth(first, sigma, part)
            yield means
            for values in others:
                yield _smooth(values, sigma, part)
            squares = _smooth(images * images, sigma, part)
            yield (squares - means * means).clamp(min=0).sqrt()

    def _averaged(self, images: Tensor) -> Iterator[Tensor]:
        """Compute what is averaged, (N, some, H, W) each; first the bands themselves."""
        yield images
        for sigma in self.settings.fine_sigmas_px:
            yield from _edges_and_spots(images, sigma)
        if images.shape[1] >= 3:
            colours = images[:, :3]
            value, total = colours.amax(1, keepdim=True), colours.sum(1, keepdim=True)
            green = (3 * images[:, 1:2] - total) / (total + _DARK)
            saturation = (value - colours.amin(1, keepdim=True)) / (value + _DARK)
            yield torch.cat([saturation, green, green.clamp(min=0)], dim=1)


def _edges_and_spots(images: Tensor, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Return the length of the gradient and the absolute Laplacian of (N, bands, H, W)."""
    planes = images.flatten(0, 1)
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        from pointcover.features.filter_loops import Places, Task, filter_planes

        found = torch.empty(2, *planes.shape)
        tasks = [
            Task(
                plane,
                sigma_px,
                Places(gradient_magnitude=at, laplacian_of_gaussian=at + len(planes)),
            )
            for at, plane in enumerate(planes.detach().numpy())
        ]
        filter_planes(tasks, whole_of(planes), found.flatten(0, 1).numpy())
        length, laplacian = found
    else:
        down = [filter_axis(planes, sigma_px, order, 1) for order in (0, 1, 2)]
        rows, cols = filter_axis(down[1], sigma_px, 0, 2), filter_axis(down[0], sigma_px, 1, 2)
        length = (rows * rows + cols * cols).sqrt()
        rows, cols = filter_axis(down[2], sigma_px, 0, 2), filter_axis(down[0], sigma_px, 2, 2)
        laplacian = rows + cols
    return length.view(images.shape), laplacian.abs().view(images.shape)


def _smooth(images: Tensor, sigma_px: float, part: Part) -> Tensor:
    """Smooth (N, bands, H, W), and return a part."""
    smoothed = smooth(images.flatten(0, 1).contiguous(), sigma_px, part)
    return smoothed.view(*images.shape[:2], *smoothed.shape[1:])
