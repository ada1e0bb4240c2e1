"""Strong colours: what a student of unlabelled pixels is shown. Geometry stays, so labels fit."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.tileset.tiles import WHITE


@dataclass(frozen=True)
class StrongColours:
    """How strong; a strength of 0 leaves that part alone.

    Attributes:
        brightness: added or taken away, at most this share of white.
        contrast: the spread about an image's mean changes by at most this share.
        saturation: the spread about a pixel's mean over bands changes by at most this share.
        gain: each band's values change by at most this share.
        blur_px: sigma of a Gaussian, at most.
        cutout: side of a square that is cut out, at most this share of the image's sides.
    """

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    gain: float = 0.1
    blur_px: float = 2.0
    cutout: float = 0.5

    def __post_init__(self) -> None:
        """Refuse strengths out of bounds.

        Raises:
            ValueError: a share is not in 0 to 1, or the blur is negative.
        """
        for name in ("brightness", "contrast", "saturation", "gain", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give 0 to 1")
        if not 0 <= self.blur_px <= 10:
            raise ValueError(f"blur_px is {self.blur_px}: give 0 to 10")


def strengthen(
    images: Tensor, generator: torch.Generator, strength: StrongColours
) -> tuple[Tensor, Tensor]:
    """Change colours, blur and cut out, each image its own way.

    Args:
        images: (B, bands, H, W), uint8 or floats of 0 to 255, any number of bands.
        generator: where chance comes from; one on the CPU gives the same on every device.
        strength: of each part.

    Returns:
        New images of the same shape and type, and (B, H, W) bool, False where they were cut out
        (filled with the image's mean): those pixels are to be left out of the loss.
    """
    batch, bands, height, width = images.shape

    def draw(columns: int = 1) -> Tensor:
        """(B, columns, 1, 1) evenly of -1 to 1."""
        drawn = torch.rand(batch, columns, 1, 1, generator=generator, device=generator.device)
        return (2 * drawn - 1).to(images.device)

    out = images.float() * (1 + strength.gain * draw(bands))
    mean = out.mean(dim=(1, 2, 3), keepdim=True)
    out = mean + (out - mean) * (1 + strength.contrast * draw())
    grey = out.mean(dim=1, keepdim=True)
    out = grey + (out - grey) * (1 + strength.saturation * draw())
    out = out + WHITE * strength.brightness * draw()
    out = _blur(out, strength.blur_px * draw().abs().flatten(), strength.blur_px)
    side = strength.cutout * draw().abs()
    top, left = ((draw() + 1) / 2 * (1 - side) for _ in range(2))
    rows = ((torch.arange(height, device=images.device) + 0.5) / height)[:, None]
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    cut = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    out = torch.where(cut, out.mean(dim=(1, 2, 3), keepdim=True), out).clamp(0, WHITE)
    if images.dtype == torch.uint8:
        out = out.round()
    return out.to(images.dtype), ~cut[:, 0]


def _blur(images: Tensor, sigma_px: Tensor, at_most_px: float) -> Tensor:
    """Blur each image by its own Gaussian, rows and columns apart; 0 leaves it as it is."""
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
