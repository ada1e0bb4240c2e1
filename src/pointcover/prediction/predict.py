"""Predict tiles with one network or an ensemble, with or without test-time augmentation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointcover.features.gaussian import Part
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.tileset.dataset import Batch

Predicted = tuple[Tensor, Tensor, Tensor, Tensor]
"""A batch: images (B, bands, H, W) uint8, masks (B, H, W) uint8, predictions (B, H, W) uint8, and
confidence (B, H, W) float32, the probability of the predicted class."""

Correct = Callable[[Tensor], Tensor]
"""Logits (B, C, H, W) of one network → corrected logits of the same shape."""

Refine = Callable[[Tensor, Tensor], Tensor]
"""Images (B, bands, H, W) and class probabilities (B, C, H, W) → refined probabilities."""

ScoreParts = Callable[[Tensor, Sequence[Part]], Tensor]
"""Images, and of each the rows and columns that are wanted → class probabilities; those of other
pixels mean nothing."""


@dataclass(frozen=True)
class Predictor:
    """Networks, and how class probabilities are computed from their logits."""

    models: Sequence[nn.Module]
    """One model or an ensemble, of which the softmax is averaged."""
    average_views: bool = False
    """Test-time augmentation: average the softmax over the eight symmetries of the square (D4), at
    eight times the cost."""
    corrections: Sequence[Correct] = ()
    """For the logits of each model, such as for other class priors; may be empty."""
    refine: Refine | None = None
    """Applied to the mean probabilities, such as a conditional random field."""

    def score_on(self, fabric: Fabric) -> Callable[[Tensor], Tensor]:
        """Return a function from images to class probabilities, on the device of a Fabric."""
        modules = [fabric.setup_module(model).eval() for model in self.models]
        networks = correct_each(modules, self.corrections)
        return make_score(networks, average_views=self.average_views, refine=self.refine)

    def score_parts_on(self, fabric: Fabric) -> ScoreParts | None:
        """Return `score_on` of parts of images, if this takes less time than of whole images.

        That is so for pixel classifiers, unless views or neighbours are needed.
        """
        are_pixel = all(isinstance(model, PixelSegmenter) for model in self.models)
        if not are_pixel or self.average_views or self.refine:
            return None
        modules = [fabric.setup_module(model).eval() for model in self.models]

        @torch.inference_mode()
        def score(images: Tensor, parts: Sequence[Part]) -> Tensor:
            of_parts = [partial(module, parts=parts) for module in modules]
            networks = correct_each(of_parts, self.corrections)
            return make_score(networks, average_views=False)(images)

        return score


@torch.inference_mode()
def predict(fabric: Fabric, predictor: Predictor, tiles: DataLoader[Batch]) -> Iterator[Predicted]:
    """Predict whole tiles.

    Args:
        fabric: device and precision.
        predictor: the networks.
        tiles: images and masks.

    Yields:
        batches on the device of `fabric`; see Predicted.
    """
    score = predictor.score_on(fabric)
    for images, masks in fabric.setup_dataloaders(tiles, use_distributed_sampler=False):
        # `max` returns the first of equal classes, as `argmax` does, in an eighth of its time.
        most, predictions = score(images).max(dim=1)
        yield images, masks, predictions.to(torch.uint8), most


def correct_each(
    networks: Sequence[Callable[[Tensor], Any]], corrections: Sequence[Correct]
) -> list[Callable[[Tensor], Any]]:
    """Return networks with corrected logits, each by its own correction, if there are any."""

    def join(network: Callable[[Tensor], Any], correct: Correct) -> Callable[[Tensor], Any]:
        return lambda images: correct(network(images))

    if not corrections:
        return list(networks)
    return [join(*pair) for pair in zip(networks, corrections, strict=True)]


def score_once(network: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Return the class probabilities of images: (B, bands, H, W) → (B, C, H, W) float32."""
    return torch.as_tensor(network(images).float().softmax(dim=1))


def make_score(
    networks: Sequence[Callable[[Tensor], Any]],
    *,
    average_views: bool,
    refine: Refine | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return a function from images to the mean class probabilities of networks.

    Args:
        networks: one network or an ensemble.
        average_views: average over the eight views of D4, too; see `each_view`.
        refine: applied to the mean probabilities.
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
    """Yield a network's class probabilities of each of the eight symmetries of the square (D4).

    Args:
        network: (B, bands, H, W) → logits (B, C, H, W).
        images: (B, bands, H, W) with H = W.

    Yields:
        (B, C, H, W) float32, in the orientation of the images.
    """
    for turns in range(4):
        for is_flipped in (False, True):
            view = torch.rot90(images, turns, (-2, -1))
            view = view.flip(-1) if is_flipped else view
            scores = score_once(network, view)
            scores = scores.flip(-1) if is_flipped else scores
            yield torch.rot90(scores, -turns, (-2, -1))


def score_views(network: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Return the mean probabilities of `each_view`, (B, C, H, W) float32."""
    total: Tensor | float = 0.0
    for scores in each_view(network, images):
        total = total + scores
    return torch.as_tensor(total) / 8
