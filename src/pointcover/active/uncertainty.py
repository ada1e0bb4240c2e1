"""Uncertainties of class probabilities, and where no query may lie."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.predict import each_view, make_score, score_once
from pointcover.prediction.sliding_window import Score, entropy_of

Networks = Sequence[Callable[[Tensor], Any]]
"""Each turns images (B, bands, H, W) into logits (B, C, H, W); several are an ensemble."""

MOST: Final = 254
"""The greatest uncertainty as a byte; 255 marks pixels where no query may lie."""


class Uncertainties:
    """The layers that queries are chosen by: the predicted class, and its uncertainty."""

    def count(self, classes: int) -> int:
        """Count the layers: the class and the uncertainty."""
        return 2

    def encode(self, scores: Tensor) -> Tensor:
        """Return class ids and uncertainties, from 0 to MOST, IGNORE_INDEX where no query may lie.

        Args:
            scores: (B, C + 1, H, W) float32, probabilities and uncertainty.

        Returns:
            (B, 2, H, W) uint8.
        """
        ids = scores[:, :-1].argmax(dim=1, keepdim=True)
        uncertainties = scores[:, -1:]
        kept = (uncertainties * MOST).round().clamp(0, MOST)
        return torch.cat([ids, torch.where(uncertainties < 0, IGNORE_INDEX, kept)], dim=1).to(
            torch.uint8
        )


def margin_of(probabilities: Tensor) -> Tensor:
    """Return 1 - (first - second probability): (B, C, H, W) → (B, 1, H, W)."""
    greatest = probabilities.topk(2, dim=1).values
    return 1 - (greatest[:, :1] - greatest[:, 1:])


def near_edges(class_ids: Tensor, distance_px: int) -> Tensor:
    """Return where another class lies within a distance along each axis: (B, 1, H, W) bool.

    Args:
        class_ids: (B, 1, H, W).
        distance_px: half the side of the square in which classes are compared.
    """
    values = class_ids.float()
    side, pad = 2 * distance_px + 1, distance_px

    def greatest(values: Tensor) -> Tensor:
        along = max_pool2d(values, (side, 1), 1, (pad, 0))
        return max_pool2d(along, (1, side), 1, (0, pad))

    return greatest(values) != -greatest(-values)


def score_disagreement(networks: Networks, *, by_views: bool) -> Score:
    """Return what scores images by the disagreement of networks or views, beside their mean.

    It is the entropy of the mean minus the mean entropy (the mutual information that Houlsby et
    al. 2011, Bayesian active learning for classification, call BALD), relative to the greatest
    entropy: high where each is confident of another class, low where all are equally uncertain.

    Args:
        networks: at least two, or one with `by_views`.
        by_views: take eight turned and flipped views of each.

    Returns:
        Images (B, bands, H, W) → (B, C + 1, H, W) float32.
    """

    def members(images: Tensor) -> Iterator[Tensor]:
        for network in networks:
            if by_views:
                yield from each_view(network, images)
            else:
                yield score_once(network, images)

    def score(images: Tensor) -> Tensor:
        count = 0
        total: Any = 0.0
        entropies: Any = 0.0
        for scores in members(images):
            count += 1
            total = total + scores
            entropies = entropies + entropy_of(scores)
        mean = total / count
        return torch.cat([mean, (entropy_of(mean) - entropies / count).clamp(0, 1)], dim=1)

    return torch.inference_mode()(score)


def score_uncertainty(
    networks: Networks, uncertainty_of: Callable[[Tensor], Tensor], *, average_views: bool
) -> Score:
    """Return what scores images by their mean probabilities, and the uncertainty of these.

    Args:
        networks: several are an ensemble.
        uncertainty_of: probabilities (B, C, H, W) → (B, 1, H, W).
        average_views: take eight turned and flipped views of each.

    Returns:
        Images (B, bands, H, W) → (B, C + 1, H, W) float32.
    """
    predicted = make_score(networks, average_views=average_views)

    def score(images: Tensor) -> Tensor:
        probabilities = predicted(images)
        return torch.cat([probabilities, uncertainty_of(probabilities).clamp(0, 1)], dim=1)

    return torch.inference_mode()(score)


def away_from_edges(uncertain: Score, edge_px: int) -> Score:
    """Return a score whose uncertainty is -1 within a distance of another predicted class.

    Args:
        uncertain: gives (B, C + 1, H, W), probabilities and uncertainty.
        edge_px: the distance, down and across.
    """

    def score(images: Tensor) -> Tensor:
        scores = uncertain(images)
        near = near_edges(scores[:, :-1].argmax(dim=1, keepdim=True), edge_px)
        return torch.cat([scores[:, :-1], scores[:, -1:].masked_fill(near, -1)], dim=1)

    return torch.inference_mode()(score)
