"""Gated CRF loss: neighbours of similar colour should have the same class, labelled or not.

After Obukhov et al. 2019, "Gated CRF Loss for Weakly Supervised Semantic Image Segmentation".
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.networks.pairwise import each_offset
from pointcover.tileset.tiles import WHITE
from pointcover.training.semi_supervised.settings import GatedCrfSettings
from pointcover.training.semi_supervised.term import TermInput, has_data


@dataclass(frozen=True)
class GatedCrf:
    """The gated CRF term of the loss."""

    settings: GatedCrfSettings
    has_own_pass = False

    @property
    def weight(self) -> float:
        """Weight beside the loss on labelled pixels."""
        return self.settings.weight

    def loss(self, batch: TermInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the energy over the pixels with data."""
        gate = has_data(batch.images)
        loss = gated_crf(batch.logits, batch.images / WHITE, self.settings, gate, gate)
        return loss, {"crf_loss": loss.detach()}


def gated_crf(
    logits: Tensor,
    images: Tensor,
    settings: GatedCrfSettings,
    sources: Tensor | None = None,
    destinations: Tensor | None = None,
) -> Tensor:
    """Return the Potts energy of each source pixel with its neighbours, mean over source pixels.

    A pair costs exp(-d²/2s² - c²/2t²) · (1 - Σ_k p_k q_k), where d is the distance, px, and c the
    colour difference (s is sigma_px, t sigma_colour; p and q are the probabilities of classes).
    As the kernel is symmetric, each pair is visited once. As it is constant, the energy is
    quadratic in the probabilities and its gradient is computed together with it: nothing is kept
    for the backward pass, so memory does not depend on the radius.

    Args:
        logits: (B, C, H, W), any float type; computed in float32.
        images: (B, bands, H, W) of 0 to 1.
        settings: radius, standard deviations and scale. Logits and images are averaged over
            squares of `scale` pixels a side first, and lengths are in such squares; a square with
            a pixel outside a gate is outside too.
        sources: (B, H, W) bool, pixels whose energy is summed; None is all. False in padding.
        destinations: (B, H, W) bool, their neighbours; None is all. False in padding.

    Returns:
        A scalar of at least 0, float32; 0 with zero gradients without a source.

    Raises:
        ValueError: a size does not fit.
    """
    height, width = logits.shape[2:]
    if images.shape[0] != len(logits) or images.shape[2:] != logits.shape[2:]:
        raise ValueError(
            f"images are {tuple(images.shape)}, logits {tuple(logits.shape)}: pass both at one size"
        )
    scale = settings.scale
    if height % scale or width % scale:
        raise ValueError(f"{height} × {width} px do not divide by scale {scale}: choose a divisor")
    logits, images = logits.float(), images.float()
    if scale > 1:
        logits = functional.avg_pool2d(logits, scale)
        images = functional.avg_pool2d(images, scale)
    probabilities = logits.softmax(dim=1)
    with torch.no_grad():
        is_source = _gate(sources, images, scale)
        is_destination = _gate(destinations, images, scale)
        fixed = probabilities.detach()
        energy = torch.zeros((), device=logits.device)
        message = torch.zeros_like(fixed)
        for here, there, _, kernel in each_offset(
            images,
            radius_px=settings.radius_px,
            sigma_px=settings.sigma_px,
            sigma_colour=settings.sigma_colour,
        ):
            if sources is not None or destinations is not None:
                forth = is_source[here] * is_destination[there]
                kernel *= forth + is_source[there] * is_destination[here]
            else:
                kernel *= 2
            energy += kernel.sum()
            message[here].addcmul_(kernel, fixed[there])
            message[there].addcmul_(kernel, fixed[here])
        count = is_source.sum().clamp_min(1)
        # The value is energy - p·m/2, the gradient -m: m is linear in p
        constant = energy + (fixed * message).sum() / 2
    return (constant - (probabilities * message).sum()) / count


def _gate(gate: Tensor | None, images: Tensor, scale: int) -> Tensor:
    """Scale a gate to (B, 1, H, W) floats, 1 where all pixels of the square are True."""
    if gate is None:
        return torch.ones_like(images[:, :1])
    wanted = (len(images), images.shape[2] * scale, images.shape[3] * scale)
    if gate.shape != wanted:
        raise ValueError(f"a gate is {tuple(gate.shape)}, wanted {wanted}: pass one value a pixel")
    return -functional.max_pool2d(-gate[:, None].float(), scale)
