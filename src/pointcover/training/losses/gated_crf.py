"""Gated CRF loss: neighbours of like colour should be of one class, labelled or not.

After Obukhov et al. 2019, "Gated CRF Loss for Weakly Supervised Semantic Image Segmentation".
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.networks.pairwise import each_offset


@dataclass(frozen=True)
class CrfSettings:
    """How much the energy counts, and between which pixels; see `gated_crf`."""

    weight: float = 0.0
    """Beside the loss on labelled pixels; 0 leaves it out."""
    radius_px: int = 5
    sigma_px: float = 6.0
    sigma_colour: float = 0.1
    scale: int = 2


def gated_crf(
    logits: Tensor,
    images: Tensor,
    *,
    sources: Tensor | None = None,
    destinations: Tensor | None = None,
    radius_px: int = 5,
    sigma_px: float = 6.0,
    sigma_colour: float = 0.1,
    scale: int = 1,
) -> Tensor:
    """Sum the Potts energy of each source pixel with its neighbours; average over source pixels.

    A pair costs exp(-d²/2s² - c²/2t²) · (1 - Σ_k p_k q_k), being d px and c in colour apart (s
    is sigma_px, t sigma_colour; p and q are their probabilities).
    As the kernel is symmetric, each pair is visited once. As it is constant,
    the energy is quadratic in the probabilities and its gradient comes with it: no offset is kept
    for the way back, so memory does not go with the radius.

    Args:
        logits: (B, C, H, W), any float type; computed in float32.
        images: (B, bands, H, W) of 0 to 1.
        sources: (B, H, W) bool, pixels that ask their neighbours; None is all. False in padding.
        destinations: (B, H, W) bool, pixels that are asked; None is all. False in padding.
        radius_px: neighbours lie at most so far along each axis.
        sigma_px: width of the kernel in space.
        sigma_colour: width of the kernel in colour.
        scale: logits and images are averaged over squares of so many pixels a side first, and
            every length is in such squares; one with a pixel gated off is gated off.

    Returns:
        A scalar of at least 0, float32; 0 with zero gradients where no pixel is a source.

    Raises:
        ValueError: a size does not fit, or a setting is out of bounds.
    """
    height, width = logits.shape[2:]
    if images.shape[0] != len(logits) or images.shape[2:] != logits.shape[2:]:
        raise ValueError(
            f"images are {tuple(images.shape)}, logits {tuple(logits.shape)}: pass both at one size"
        )
    if radius_px < 1 or scale < 1 or sigma_px <= 0 or sigma_colour <= 0:
        raise ValueError(
            f"radius_px {radius_px}, scale {scale}, sigma_px {sigma_px}, sigma_colour "
            f"{sigma_colour}: give a radius and a scale of at least 1 and sigmas above 0"
        )
    if height % scale or width % scale:
        raise ValueError(f"{height} × {width} px do not divide by scale {scale}: choose a divisor")
    logits, images = logits.float(), images.float()
    if scale > 1:
        logits = functional.avg_pool2d(logits, scale)
        images = functional.avg_pool2d(images, scale)
    probabilities = logits.softmax(dim=1)
    with torch.no_grad():
        asks = _gate(sources, images, scale)
        asked = _gate(destinations, images, scale)
        fixed = probabilities.detach()
        energy = torch.zeros((), device=logits.device)
        message = torch.zeros_like(fixed)
        for here, there, _, kernel in each_offset(
            images, radius_px=radius_px, sigma_px=sigma_px, sigma_colour=sigma_colour
        ):
            if sources is not None or destinations is not None:
                kernel *= asks[here] * asked[there] + asks[there] * asked[here]
            else:
                kernel *= 2
            energy += kernel.sum()
            message[here].addcmul_(kernel, fixed[there])
            message[there].addcmul_(kernel, fixed[here])
        count = asks.sum().clamp_min(1)
        # The value is energy - p·m/2, the gradient -m: m is linear in p
        constant = energy + (fixed * message).sum() / 2
    return (constant - (probabilities * message).sum()) / count


def _gate(gate: Tensor | None, images: Tensor, scale: int) -> Tensor:
    """Bring a gate to the scaled size as (B, 1, H, W) floats, 1 where open."""
    if gate is None:
        return torch.ones_like(images[:, :1])
    wanted = (len(images), images.shape[2] * scale, images.shape[3] * scale)
    if gate.shape != wanted:
        raise ValueError(f"a gate is {tuple(gate.shape)}, wanted {wanted}: pass one value a pixel")
    return -functional.max_pool2d(-gate[:, None].float(), scale)
