"""Compute the uncertainty of class probabilities, and exclude pixels near edges."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.predict import each_view, make_score, score_once
from pointcover.prediction.window_inference import Score, entropy_of

Networks = Sequence[Callable[[Tensor], Any]]
"""One network or an ensemble; each maps images (B, bands, H, W) to logits (B, C, H, W)."""

MOST: Final = 254
"""An uncertainty of 1 as a byte; 255 marks pixels that may not be queried."""


class Uncertainties:
    """Layers of a strip by which queries are chosen: predicted class and uncertainty."""

    def count(self, classes: int) -> int:
        """Return the number of layers, 2."""
        return 2

    def encode(self, scores: Tensor) -> Tensor:
        """Return class ids, and uncertainties from 0 to MOST or IGNORE_INDEX (not to be queried).

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


def confidence_of(probabilities: Tensor) -> Tensor:
    """Return first - second probability: (B, C, H, W) → (B, 1, H, W)."""
    return 1 - margin_of(probabilities)


def near_edges(class_ids: Tensor, distance_px: int) -> Tensor:
    """Return (B, 1, H, W) bool: whether another class lies within a distance along the axes.

    Args:
        class_ids: (B, 1, H, W).
        distance_px: of the pixels that are compared, in rows and in columns.
    """
    values = class_ids.float()
    side, pad = 2 * distance_px + 1, distance_px

    def greatest(values: Tensor) -> Tensor:
        along = max_pool2d(values, (side, 1), 1, (pad, 0))
        return max_pool2d(along, (1, side), 1, (0, pad))

    return greatest(values) != -greatest(-values)


def score_disagreement(networks: Networks, *, by_views: bool) -> Score:
    """Return a function from images to mean probabilities and disagreement of networks or views.

    The disagreement is the entropy of the mean minus the mean entropy, divided by the maximum
    entropy. It is the mutual information that Houlsby et al. 2011 (Bayesian active learning for
    classification) call BALD: high where members are confident of different classes, low where all
    are equally uncertain.

    Args:
        networks: at least two, or one with `by_views`.
        by_views: predict eight rotated and flipped views with each network.

    Returns:
        images (B, bands, H, W) → (B, C + 1, H, W) float32.
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
    """Return a function from images to mean probabilities and their uncertainty.

    Args:
        networks: one network or an ensemble.
        uncertainty_of: probabilities (B, C, H, W) → (B, 1, H, W).
        average_views: average over eight rotated and flipped views of each image, too.

    Returns:
        images (B, bands, H, W) → (B, C + 1, H, W) float32.
    """
    predicted = make_score(networks, average_views=average_views)

    def score(images: Tensor) -> Tensor:
        probabilities = predicted(images)
        return torch.cat([probabilities, uncertainty_of(probabilities).clamp(0, 1)], dim=1)

    return torch.inference_mode()(score)


def away_from_edges(uncertain: Score, edge_px: int) -> Score:
    """Return a score with an uncertainty of -1 within a distance of another predicted class.

    Args:
        uncertain: returns probabilities and uncertainty, (B, C + 1, H, W).
        edge_px: the distance along rows and columns.
    """

    def score(images: Tensor) -> Tensor:
        scores = uncertain(images)
        near = near_edges(scores[:, :-1].argmax(dim=1, keepdim=True), edge_px)
        return torch.cat([scores[:, :-1], scores[:, -1:].masked_fill(near, -1)], dim=1)

    return torch.inference_mode()(score)
