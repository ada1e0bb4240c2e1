"""Strong augmentation of colours and sharpness. Geometry stays, so labels stay where they are."""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.tileset.tiles import WHITE
from pointcover.training.semi_supervised.settings import ConsistencySettings

GAIN_FACTOR: Final = 3
"""A band's gain changes by at most the colour jitter divided by this."""


def strengthen(
    images: Tensor, generator: torch.Generator, settings: ConsistencySettings
) -> tuple[Tensor, Tensor]:
    """Change brightness, contrast, saturation and each band's gain, blur, and cut out a square.

    Args:
        images: (B, bands, H, W), uint8 or floats of 0 to 255, any number of bands.
        generator: one on the CPU gives the same on every device.
        settings: colour_jitter, blur_px and cutout; 0 leaves that part out.

    Returns:
        New images of the same shape and type, and (B, H, W) bool, False in the square that was cut
        out and has the image's mean: those pixels are to be left out of the loss.
    """
    batch, bands, height, width = images.shape

    def draw(columns: int = 1) -> Tensor:
        """Return (B, columns, 1, 1), uniform from -1 to 1."""
        drawn = torch.rand(batch, columns, 1, 1, generator=generator, device=generator.device)
        return (2 * drawn - 1).to(images.device)

    jitter = settings.colour_jitter
    out = images.float() * (1 + jitter / GAIN_FACTOR * draw(bands))
    mean = out.mean(dim=(1, 2, 3), keepdim=True)
    out = mean + (out - mean) * (1 + jitter * draw())
    grey = out.mean(dim=1, keepdim=True)
    out = grey + (out - grey) * (1 + jitter * draw())
    out = out + WHITE * jitter * draw()
    out = _blur(out, settings.blur_px * draw().abs().flatten(), settings.blur_px)
    side = settings.cutout * draw().abs()
    top, left = ((draw() + 1) / 2 * (1 - side) for _ in range(2))
    rows = ((torch.arange(height, device=images.device) + 0.5) / height)[:, None]
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    cut = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    out = torch.where(cut, out.mean(dim=(1, 2, 3), keepdim=True), out).clamp(0, WHITE)
    if images.dtype == torch.uint8:
        out = out.round()
    return out.to(images.dtype), ~cut[:, 0]


def _blur(images: Tensor, sigma_px: Tensor, at_most_px: float) -> Tensor:
    """Blur each image by its own separable Gaussian; 0 leaves it unchanged."""
    reach = min(int(3 * at_most_px + 0.5), min(images.shape[2:]) - 1)
    if reach < 1:
        return images
    batch, bands, height, width = images.shape
    steps = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma_px.clamp_min(1e-3)[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(bands, dim=0)
    padded = functional.pad(images, (reach,) * 4, mode="reflect").reshape(
        1, batch * bands, -1, width + 2 * reach
    )
    across = functional.conv2d(padded, kernel[:, None, None, :], groups=batch * bands)
    down = functional.conv2d(across, kernel[:, None, :, None], groups=batch * bands)
    return down.reshape(batch, bands, height, width)
