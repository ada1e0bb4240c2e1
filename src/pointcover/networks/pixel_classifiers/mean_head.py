"""The mean of the probabilities of several heads."""

import math

import torch
from torch import Tensor, nn

from pointcover.networks.pixel_classifiers.pixel_features import Features


class MeanHead(nn.Module):
    """Average the probabilities of heads, or their logarithms.

    The output is the logarithm of the mean, so that softmax gives the mean probabilities.
    """

    weights: Tensor

    def __init__(self, heads: list[nn.Module], *, geometric: bool) -> None:
        """Take the heads, of equal weights at first."""
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.geometric = geometric
        self.register_buffer("weights", torch.full((len(heads),), 1 / len(heads)))

    def forward(self, view: Features) -> Tensor:
        """Score the pixels of a view: log-probabilities (N, classes, H, W)."""
        parts = [head(view).float().log_softmax(dim=1) for head in self.heads]
        if self.geometric:
            weighted = [part * weight for part, weight in zip(parts, self.weights, strict=True)]
            return torch.stack(weighted).sum(dim=0).log_softmax(dim=1)
        logs = self.weights.log().clamp(min=math.log(1e-30))
        weighted = [part + log for part, log in zip(parts, logs, strict=True)]
        return torch.stack(weighted).logsumexp(dim=0)
