"""A conditional random field on predictions: neighbours of like colour agree on a class.

Mean-field inference after Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs
with Gaussian Edge Potentials", with the kernel cut off at a radius as in Teichmann and Cipolla
2018, "Convolutional CRFs for Semantic Segmentation": a Potts model with one kernel of distance and
colour.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pointcover.networks.pairwise import each_offset
from pointcover.tileset.tiles import WHITE


@dataclass(frozen=True)
class MeanField:
    """How much neighbours have to say, and which ones."""

    iterations: int = 5
    """Each lets a pixel hear of what lies a radius farther away; 0 leaves predictions alone."""
    weight: float = 10.0
    """What neighbours that are all alike and of one mind add to that class's log-probability."""
    radius_px: int = 3
    """Neighbours lie at most so far along each axis."""
    sigma_px: float = 3.0
    """Width of the kernel in space."""
    sigma_colour: float = 0.1
    """Width of the kernel in colour, white being 1."""

    @torch.inference_mode()
    def __call__(self, images: Tensor, probabilities: Tensor) -> Tensor:
        """Bring neighbours of like colour together.

        Of a pixel i, in each iteration, q_i ∝ p_i · exp(weight · Σ_j k_ij q_j / Σ_j s_ij), where s
        is the kernel of distance alone and k that of distance and colour: those of other colour are
        not heard, nor made up for.

        Args:
            images: (B, bands, H, W) of 0 to 255.
            probabilities: (B, C, H, W) float32, p.

        Returns:
            (B, C, H, W) float32, which sum to 1 over the classes.
        """
        tiny = torch.finfo(torch.float32).tiny
        logits = probabilities.clamp_min(tiny).log()
        colours = images.float() / WHITE
        for _ in range(self.iterations):
            heard = torch.zeros_like(probabilities)
            closeness = torch.zeros_like(probabilities[:1, :1])
            for here, there, close, likeness in each_offset(
                colours,
                radius_px=self.radius_px,
                sigma_px=self.sigma_px,
                sigma_colour=self.sigma_colour,
            ):
                heard[here].addcmul_(likeness, probabilities[there])
                heard[there].addcmul_(likeness, probabilities[here])
                closeness[here] += close
                closeness[there] += close
            heard /= closeness.clamp_min(tiny)
            probabilities = (logits + self.weight * heard).softmax(dim=1)
        return probabilities
