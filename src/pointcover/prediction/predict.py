"""Inference: predictions of one network or several, tile by tile, from one view or from eight."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from pointcover.networks.segmenter import Segmenter
from pointcover.tileset.dataset import Batch

Predicted = tuple[Tensor, Tensor, Tensor, Tensor]
"""A batch: images (B, bands, H, W) uint8, masks (B, H, W) uint8, predictions (B, H, W) uint8, and
their confidence (B, H, W) float32, the probability of the predicted class."""

Correct = Callable[[Tensor], Tensor]
"""Logits (B, C, H, W) of one network → corrected ones of the same shape."""

Refine = Callable[[Tensor, Tensor], Tensor]
"""Images (B, bands, H, W) and class probabilities (B, C, H, W) → better probabilities."""


@torch.inference_mode()
def predict(
    fabric: Fabric,
    models: Sequence[Segmenter],
    tiles: DataLoader[Batch],
    *,
    average_views: bool = False,
    corrections: Sequence[Correct] = (),
    refine: Refine | None = None,
) -> Iterator[Predicted]:
    """Predict whole tiles.

    Args:
        fabric: device and precision.
        models: predict; several are an ensemble, whose prediction is the mean of their softmax.
        tiles: images and masks.
        average_views: test-time augmentation: the mean of the softmax over the eight symmetries of
            the square (D4), at eight times the cost.
        corrections: of the logits of each model, such as for the ground's shares of classes; none
            leaves them.
        refine: is applied to the probabilities of all, such as a conditional random field.

    Yields:
        Predicted, on the device of `fabric`.
    """
    modules = [fabric.setup_module(model).eval() for model in models]
    networks = correct_each(modules, corrections)
    score = make_score(networks, average_views=average_views, refine=refine)
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
    """Average the class probabilities of networks, each from one view or from eight.

    What `refine` then makes of them, with the images beside them, is what is given.
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
