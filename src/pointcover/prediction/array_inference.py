"""Score windows with functions on arrays of numpy; compute the layers of a map without torch."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pointcover.prediction.settings import LayerSettings
from pointcover.prediction.sliding_window import Part

Scores = npt.NDArray[np.float32]
"""(B, C, H, W) class probabilities."""

Network = Callable[[npt.NDArray[Any]], Scores]
"""Images (B, bands, H, W), H and W multiples of 32 → their class probabilities."""

PERCENT: Final = np.float32(100)
"""Probabilities and entropies are stored as whole percents, which fit in a byte."""

TINY: Final = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class ArrayInference:
    """How windows are scored by networks outside torch, and which layers are kept.

    This is an `Inference`, whose scores and layers are arrays of numpy.
    """

    networks: Sequence[Network]
    """One or an ensemble, of which the probabilities are averaged."""
    channels: int
    """Number of classes."""
    layers: LayerSettings
    """The layers that are kept besides class and confidence."""
    batch_size: int
    """Windows that are scored at a time."""
    average_views: bool = False
    """Average the probabilities of the eight symmetries of the square (D4)."""
    shifts: Sequence[Sequence[float]] = ()
    """For each network, what is added to the logarithm of the probability of each class, such as
    for other class priors; may be empty."""

    @property
    def layers_count(self) -> int:
        """Layers that are computed from the scores and kept."""
        return 2 + self.layers.entropy + self.channels * self.layers.probabilities

    @property
    def parts_at_a_time(self) -> int:
        """Windows of which a part is scored at a time: 0, since networks score whole windows."""
        return 0

    def score(self, windows: npt.NDArray[Any], parts: Sequence[Part] | None) -> Scores:
        """Return the class probabilities of windows."""
        total: Scores | None = None
        for number, network in enumerate(self.networks):
            shifts = self.shifts[number] if self.shifts else None
            scores = self._score_once(network, windows, shifts)
            total = scores if total is None else total + scores
        assert total is not None
        return total / np.float32(len(self.networks))

    def encode(self, scores: Scores) -> npt.NDArray[np.uint8]:
        """Convert class probabilities to the layers of a map.

        Args:
            scores: (B, C, H, W) float32 with a sum of 1 over the classes.

        Returns:
            (B, layers, H, W) uint8: class id, confidence, then entropy and probabilities by the
            settings, in rounded percents. An entropy of 100 % is that of equal probabilities.
        """
        best, ids = find_best(scores)
        found = [ids[:, None], _percent(best)[:, None]]
        if self.layers.entropy:
            found.append(_percent(_entropy_of(scores)))
        if self.layers.probabilities:
            found.append(_percent(scores))
        return np.concatenate(found, axis=1)

    def encode_mean(self, scores: Scores) -> npt.NDArray[np.uint8]:
        """Convert averaged scores to layers, as `encode` does."""
        return self.encode(scores)

    def fetch(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return scores or layers as they are."""
        return values

    def _score_once(
        self,
        network: Network,
        windows: npt.NDArray[Any],
        shifts: Sequence[float] | None,
    ) -> Scores:
        if not self.average_views:
            return _shift(network(windows), shifts)
        total: Scores | None = None
        for scores in _each_view(network, windows):
            shifted = _shift(scores, shifts)
            total = shifted if total is None else total + shifted
        assert total is not None
        return total / np.float32(8)


def find_best(scores: Scores) -> tuple[Scores, npt.NDArray[np.uint8]]:
    """Return the largest probability (B, H, W) of (B, C, H, W), and its class id.

    Of equal ones it is the first. Comparing classes one by one takes a fraction of the time of
    `argmax` along the second axis.
    """
    best, ids = scores[:, 0].copy(), np.zeros(scores[:, 0].shape, np.uint8)
    for number in range(1, scores.shape[1]):
        larger = scores[:, number] > best
        np.copyto(best, scores[:, number], where=larger)
        np.copyto(ids, np.uint8(number), where=larger)
    return best, ids


def _each_view(network: Network, windows: npt.NDArray[Any]) -> Iterator[Scores]:
    """Yield probabilities of the eight symmetries of the square, in the windows' orientation."""
    for turns in range(4):
        for is_flipped in (False, True):
            view = np.rot90(windows, turns, (-2, -1))
            scores = network(np.ascontiguousarray(view[..., ::-1] if is_flipped else view))
            scores = scores[..., ::-1] if is_flipped else scores
            yield np.ascontiguousarray(np.rot90(scores, -turns, (-2, -1)))


def _shift(scores: Scores, shifts: Sequence[float] | None) -> Scores:
    """Add shifts to the logarithms of probabilities, and normalise them to a sum of 1."""
    if shifts is None:
        return scores
    logits = np.log(np.maximum(scores, TINY)) + np.array(shifts, np.float32)[:, None, None]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _entropy_of(scores: Scores) -> Scores:
    """Return the normalised entropy, from 0 to 1: (B, C, H, W) → (B, 1, H, W)."""
    terms = scores * np.log(np.maximum(scores, TINY))
    entropy = -terms.sum(axis=1, keepdims=True) / np.float32(math.log(scores.shape[1]))
    return np.asarray(entropy, np.float32)


def _percent(fractions: Scores) -> npt.NDArray[np.uint8]:
    return np.asarray((fractions * PERCENT).round().clip(0, PERCENT), np.uint8)
