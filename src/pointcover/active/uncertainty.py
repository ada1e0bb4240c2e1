"""Acquisition functions: how uncertain a model is of each pixel."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.predict import each_view, make_score, score_once
from pointcover.prediction.sliding_window import (
    Score,
    entropy_of,
)

Acquisition = Literal["margin", "entropy", "disagreement"]


MOST: Final = 254
"""The greatest uncertainty, as a byte: the value above says that no click may lie there."""


class Uncertainties:
    """What is kept of a pixel's scores: its class, and the uncertainty about it."""

    def count(self, classes: int) -> int:
        """Count the layers: the class and the uncertainty."""
        return 2

    def describe(self, scores: Tensor) -> Tensor:
        """Return class ids and uncertainties, from 0 to MOST, IGNORE_INDEX where no click may lie.

        Args:
            scores: (B, C + 1, H, W) float32, probabilities and uncertainty, of `make_acquisition`.

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
    likeliest = probabilities.topk(2, dim=1).values
    return 1 - (likeliest[:, :1] - likeliest[:, 1:])


def near_edges(class_ids: Tensor, distance_px: int) -> Tensor:
    """Return where another class lies at most so far away, down and across: (B, 1, H, W) bool.

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


def score_disagreement(networks: Sequence[Callable[[Tensor], Any]], *, by_views: bool) -> Score:
    """Return the mean probabilities of networks or views, and how much these disagree.

    That is the entropy of the mean less the mean entropy (the mutual information that Houlsby et
    al. 2011, Bayesian active learning for classification, call BALD), relative to the greatest
    entropy: high where each is sure of something else, low where all are unsure alike.

    Args:
        networks: two at least, or one with `by_views`.
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


def make_acquisition(
    networks: Sequence[Callable[[Tensor], Any]],
    acquisition: Acquisition,
    *,
    average_views: bool,
    edge_px: int,
) -> Score:
    """Return what scores images, and the uncertainty about each pixel.

    `margin` is 1 less how far the likeliest class is ahead of the next one, `entropy` that of the
    probabilities, `disagreement` that of networks or views.

    Args:
        networks: several are an ensemble.
        acquisition: of uncertainty.
        average_views: take eight turned and flipped views of each.
        edge_px: no click lies so near to where the network sees another class (down or across):
            what is there is hard to tell for an annotator, too. 0 leaves no pixel out.

    Returns:
        Images (B, bands, H, W) → (B, C + 1, H, W) float32: probabilities, and uncertainties from 0
        to 1, or -1 where no click may lie.

    Raises:
        ValueError: one view of one network is to disagree with itself.
    """
    if acquisition == "disagreement":
        if len(networks) < 2 and not average_views:
            raise ValueError(
                "one model alone cannot disagree: give others with --also, or its eight views with "
                "--tta, or choose margin or entropy"
            )
        uncertain = score_disagreement(networks, by_views=average_views)
    else:
        uncertain = _with_uncertainties(
            make_score(networks, average_views=average_views),
            margin_of if acquisition == "margin" else entropy_of,
        )
    if not edge_px:
        return uncertain

    def score(images: Tensor) -> Tensor:
        scores = uncertain(images)
        near = near_edges(scores[:, :-1].argmax(dim=1, keepdim=True), edge_px)
        return torch.cat([scores[:, :-1], scores[:, -1:].masked_fill(near, -1)], dim=1)

    return torch.inference_mode()(score)


def _with_uncertainties(score: Score, uncertainty_of: Callable[[Tensor], Tensor]) -> Score:
    def both(images: Tensor) -> Tensor:
        probabilities = score(images)
        return torch.cat([probabilities, uncertainty_of(probabilities).clamp(0, 1)], dim=1)

    return torch.inference_mode()(both)
