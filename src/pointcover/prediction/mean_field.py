"""A conditional random field on predictions: neighbours of similar colour agree on a class.

Mean-field inference after Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs
with Gaussian Edge Potentials", with the kernel cut off at a radius as in Teichmann and Cipolla
2018, "Convolutional CRFs for Semantic Segmentation": a Potts model with one kernel of distance and
colour.
"""

import torch
from torch import Tensor

from pointcover.networks.pairwise import each_offset
from pointcover.prediction.settings import MeanFieldSettings
from pointcover.tileset.tiles import WHITE


class MeanField:
    """Mean-field inference; call it with images and class probabilities."""

    def __init__(self, settings: MeanFieldSettings) -> None:
        """Take the number of iterations, the weight and the kernel."""
        self.settings = settings

    @torch.inference_mode()
    def __call__(self, images: Tensor, probabilities: Tensor) -> Tensor:
        """Return probabilities in which neighbours of similar colour agree.

        Each iteration sets, for a pixel i, q_i ∝ p_i · exp(weight · Σ_j k_ij q_j / Σ_j s_ij), where
        s is the kernel of distance alone and k that of distance and colour. Neighbours of another
        colour add nothing to the numerator but still count in the denominator.

        Args:
            images: (B, bands, H, W) of 0 to 255.
            probabilities: (B, C, H, W) float32, p.

        Returns:
            (B, C, H, W) float32, which sum to 1 over the classes.
        """
        settings = self.settings
        tiny = torch.finfo(torch.float32).tiny
        logits = probabilities.clamp_min(tiny).log()
        colours = images.float() / WHITE
        for _ in range(settings.iterations):
            messages = torch.zeros_like(probabilities)
            closeness = torch.zeros_like(probabilities[:1, :1])
            for here, there, close, likeness in each_offset(
                colours,
                radius_px=settings.radius_px,
                sigma_px=settings.sigma_px,
                sigma_colour=settings.sigma_colour,
            ):
                messages[here].addcmul_(likeness, probabilities[there])
                messages[there].addcmul_(likeness, probabilities[here])
                closeness[here] += close
                closeness[there] += close
            messages /= closeness.clamp_min(tiny)
            probabilities = (logits + settings.weight * messages).softmax(dim=1)
        return probabilities
