"""Inference: predictions of one network or several, tile by tile, from one view or from eight."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointcover.tileset.dataset import Batch

Predicted = tuple[Tensor, Tensor, Tensor, Tensor]
"""A batch: images (B, bands, H, W) uint8, masks (B, H, W) uint8, predictions (B, H, W) uint8, and
their confidence (B, H, W) float32, the probability of the predicted class."""

Correct = Callable[[Tensor], Tensor]
"""Logits (B, C, H, W) of one network → corrected ones of the same shape."""

Refine = Callable[[Tensor, Tensor], Tensor]
"""Images (B, bands, H, W) and class probabilities (B, C, H, W) → better probabilities."""


@dataclass(frozen=True)
class Predictor:
    """Networks, and how class probabilities are made of their logits."""

    models: Sequence[nn.Module]
    """Several are an ensemble, whose prediction is the mean of their softmax."""
    average_views: bool = False
    """Test-time augmentation: the mean of the softmax over the eight symmetries of the square (D4),
    at eight times the cost."""
    corrections: Sequence[Correct] = ()
    """Of the logits of each model, such as for other class priors; none leaves them."""
    refine: Refine | None = None
    """Applied to the mean probabilities, such as a conditional random field."""

    def score_on(self, fabric: Fabric) -> Callable[[Tensor], Tensor]:
        """Return what computes class probabilities of images on the device of a Fabric."""
        modules = [fabric.setup_module(model).eval() for model in self.models]
        networks = correct_each(modules, self.corrections)
        return make_score(networks, average_views=self.average_views, refine=self.refine)


@torch.inference_mode()
def predict(fabric: Fabric, predictor: Predictor, tiles: DataLoader[Batch]) -> Iterator[Predicted]:
    """Predict whole tiles.

    Args:
        fabric: device and precision.
        predictor: the networks.
        tiles: images and masks.

    Yields:
        Predicted, on the device of `fabric`.
    """
    score = predictor.score_on(fabric)
    for images, masks in fabric.setup_dataloaders(tiles, use_distributed_sampler=False):
        # `max` names the first of equal classes, as `argmax` does, in an eighth of its time.
        most, predictions = score(images).max(dim=1)
        yield images, masks, predictions.to(torch.uint8), most


def correct_each(
    networks: Sequence[Callable[[Tensor], Any]], corrections: Sequence[Correct]
) -> list[Callable[[Tensor], Any]]:
    """Return networks whose logits are corrected, each by its own correction; none leaves them."""

    def join(network: Callable[[Tensor], Any], correct: Correct) -> Callable[[Tensor], Any]:
        return lambda images: correct(network(images))

    if not corrections:
        return list(networks)
    return [join(*pair) for pair in zip(networks, corrections, strict=True)]


def score_once(network: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Return a network's class probabilities, (B, C, H, W) float32, of (B, bands, H, W) images."""
    return torch.as_tensor(network(images).float().softmax(dim=1))


def make_score(
    networks: Sequence[Callable[[Tensor], Any]],
    *,
    average_views: bool,
    refine: Refine | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return what averages the class probabilities of networks, each from one view or eight.

    `refine` is applied to the mean.
    """
    once = score_views if average_views else score_once

    def score(images: Tensor) -> Tensor:
        scores = once(networks[0], images)
        for network in networks[1:]:
            scores = scores + once(network, images)
        scores = scores / len(networks) if len(networks) > 1 else scores
        return scores if refine is None else refine(images, scores)

    return torch.inference_mode()(score)


def each_view(network: Callable[[Tensor], Any], images: Tensor) -> Iterator[Tensor]:
    """Return a network's class probabilities from each of the eight symmetries of the square (D4).

    Args:
        network: (B, bands, H, W) → logits (B, C, H, W).
        images: square: H equals W.

    Yields:
        (B, C, H, W) float32, turned back to how the images lie.
    """
    for turns in range(4):
        for is_flipped in (False, True):
            view = torch.rot90(images, turns, (-2, -1))
            view = view.flip(-1) if is_flipped else view
            scores = score_once(network, view)
            scores = scores.flip(-1) if is_flipped else scores
            yield torch.rot90(scores, -turns, (-2, -1))


def score_views(network: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Average what `each_view` gives: (B, C, H, W) float32, which sum to 1 over the classes."""
    total: Tensor | float = 0.0
    for scores in each_view(network, images):
        total = total + scores
    return torch.as_tensor(total) / 8
