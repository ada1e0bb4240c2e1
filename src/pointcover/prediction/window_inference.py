"""Score windows with torch, and compute the layers of a map on its device."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.prediction.predict import ScoreParts
from pointcover.prediction.settings import LayerSettings
from pointcover.prediction.sliding_window import Part

Score = Callable[[Tensor], Tensor]
"""Class probabilities (B, C, H, W) float32 of images (B, bands, H, W) uint8, H and W multiples of
32, on the device of the images."""

PERCENT: Final = 100
"""Probabilities and entropies are stored as whole percents, which fit in a byte."""


class Layers(Protocol):
    """The layers of a strip, as bytes computed from a network's scores."""

    def count(self, classes: int) -> int:
        """Return the number of layers."""

    def encode(self, scores: Tensor) -> Tensor:
        """Convert scores (B, C, H, W) to layers (B, layers, H, W) uint8, 254 at most."""


class MapLayers:
    """The layers of a map: class, confidence, and those of the settings."""

    def __init__(self, settings: LayerSettings) -> None:
        """Set the optional layers."""
        self.settings = settings

    def count(self, classes: int) -> int:
        """Return the number of layers."""
        return 2 + self.settings.entropy + classes * self.settings.probabilities

    def encode(self, scores: Tensor) -> Tensor:
        """Convert class probabilities to the layers of a map.

        Args:
            scores: (B, C, H, W) float32 with a sum of 1 over the classes.

        Returns:
            (B, layers, H, W) uint8: class id, confidence, then entropy and probabilities by the
            settings, in rounded percents. An entropy of 100 % is that of equal probabilities.
        """
        confidence, class_ids = scores.max(dim=1, keepdim=True)
        found = [class_ids.to(torch.uint8), _percent(confidence)]
        if self.settings.entropy:
            found.append(_percent(entropy_of(scores)))
        if self.settings.probabilities:
            found.append(_percent(scores))
        return torch.cat(found, dim=1)


@dataclass(frozen=True)
class WindowInference:
    """How windows are scored by torch, and which layers are kept; an `Inference`."""

    scorer: Score
    """Of a network or an ensemble."""
    channels: int
    """Channels of the scores: the classes, and further values of the score."""
    layers: Layers
    """The layers that are computed from the scores and kept."""
    batch_size: int
    """Windows that are scored at a time."""
    device: torch.device
    """Device of `scorer`."""
    score_parts: ScoreParts | None = None
    """Used instead of `scorer` where only a part of each window is kept."""

    @property
    def layers_count(self) -> int:
        """Layers that are computed from the scores and kept."""
        return self.layers.count(self.channels)

    @property
    def parts_at_a_time(self) -> int:
        """Windows of which a part is scored at a time; 0 without `score_parts`.

        On a CPU pixel classifiers score one window after the other: more would only take memory.
        """
        if self.score_parts is None:
            return 0
        return 1 if self.device.type == "cpu" else self.batch_size

    @torch.inference_mode()
    def score(self, windows: npt.NDArray[Any], parts: Sequence[Part] | None) -> Tensor:
        """Return the scores of windows, on the device."""
        images = torch.from_numpy(windows).to(self.device, non_blocking=True)
        if self.score_parts is not None and parts is not None:
            return self.score_parts(images, parts)
        return self.scorer(images)

    @torch.inference_mode()
    def encode(self, scores: Tensor) -> Tensor:
        """Convert scores to layers, on the device."""
        return self.layers.encode(scores)

    def encode_mean(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Convert averaged scores to layers."""
        return np.asarray(self.encode(torch.from_numpy(scores)).numpy(), np.uint8)

    def fetch(self, values: Tensor) -> npt.NDArray[Any]:
        """Return scores or layers as an array of numpy."""
        return np.asarray(values.cpu().numpy())


def entropy_of(scores: Tensor) -> Tensor:
    """Return the normalised entropy, from 0 to 1, of probabilities: (B, C, H, W) → (B, 1, H, W)."""
    entropy: Tensor = torch.special.entr(scores).sum(dim=1, keepdim=True)
    return entropy / math.log(scores.shape[1])


def _percent(fractions: Tensor) -> Tensor:
    return (fractions * PERCENT).round().clamp(0, PERCENT).to(torch.uint8)
