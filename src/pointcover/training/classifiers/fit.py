"""Fit a pixel classifier on labelled pixels: one head, or several that are averaged."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor

from pointcover.networks.pixel_classifiers.classifier import PixelClassifier
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    HeadSettings,
    LinearHeadSettings,
    MeanHeadSettings,
    PixelClassifierSettings,
    SmoothingSettings,
    TreesHeadSettings,
)
from pointcover.runtime.progress import show_duration
from pointcover.training.classifiers.heads import HEADS
from pointcover.training.classifiers.labelled_pixels import (
    LabelledPixels,
    PixelTable,
    UnlabelledPixels,
)
from pointcover.training.classifiers.settings import ClassifierSettings

logger = logging.getLogger(__name__)

MEAN = "classifier_mean"
"""The model that averages heads."""

PERCEPTRON: Final = "perceptron"
"""The head that can learn from unlabelled pixels."""

TEMPERATURE: Final = 0.5
"""Of the probabilities of unlabelled pixels: below 1 sharpens them (Berthelot et al. 2019,
"MixMatch")."""

_CHUNK: Final = 1 << 14
"""Unlabelled pixels whose probabilities are computed at once."""

LEAST_STD: Final = 1.0
"""Of a band with values from 0 to 255: one that varies less is constant but for rounding."""

FittedHead = tuple[LinearHeadSettings | TreesHeadSettings, dict[str, Tensor]]


@dataclass(frozen=True)
class ClassifierFit:
    """A way of fitting pixel classifiers; the same one gives the same classifier."""

    model: str
    """A key of HEADS, or `classifier_mean`."""
    settings: ClassifierSettings
    classes: int
    seed: int

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads."""
        return self.settings.mean_of if self.model == MEAN else (self.model,)

    @property
    def unlabelled_pixels(self) -> int:
        """Number of unlabelled pixels that `fit` should be given."""
        return self.settings.perceptron.unlabelled_pixels if PERCEPTRON in self.heads else 0

    def fit(
        self, features: PixelFeatures, pixels: LabelledPixels, band_stds: Sequence[float] | None
    ) -> PixelClassifier:
        """Fit the heads on features that were collected, and join them with these.

        With unlabelled pixels, the perceptron is fitted a second time, also on the probabilities
        that the joined heads give these (Xie et al. 2020, "Self-training with Noisy Student").

        Args:
            features: with which the pixels' were computed; become a part of the classifier.
            pixels: labelled ones.
            band_stds: standard deviation of each band of the train images, of values from 0 to
                255; None if only the heads are used: then the classifier does not smooth.
        """
        smoothing = None if band_stds is None else self._smoothing(band_stds)
        fitted = [self._fit_head(name, features, pixels) for name in self.heads]
        classifier = self._join(features, fitted, smoothing)
        if pixels.unlabelled is None or PERCEPTRON not in self.heads:
            return classifier
        scored = replace(pixels, unlabelled=with_probabilities(classifier, pixels.unlabelled))
        second = self._fit_head(PERCEPTRON, features, scored)
        fitted = [
            second if name == PERCEPTRON else first
            for name, first in zip(self.heads, fitted, strict=True)
        ]
        return self._join(features, fitted, smoothing)

    def _join(
        self,
        features: PixelFeatures,
        fitted: Sequence[FittedHead],
        smoothing: SmoothingSettings | None,
    ) -> PixelClassifier:
        return join_heads(features, fitted, self.classes, self.settings.average, smoothing)

    def _smoothing(self, band_stds: Sequence[float]) -> SmoothingSettings | None:
        radius_px = self.settings.smoothing_px
        if not radius_px:
            return None
        stds = tuple(max(std, LEAST_STD) for std in band_stds)
        return SmoothingSettings(radius_px=radius_px, band_stds=stds)

    def _fit_head(self, name: str, features: PixelFeatures, pixels: LabelledPixels) -> FittedHead:
        settings = getattr(self.settings, name)
        there = features.settings.blocks
        inputs = tuple(block for block in settings.inputs if block in there)
        started_s = time.perf_counter()
        fitted = HEADS[name](
            settings.model_copy(update={"inputs": inputs}), pixels, self.classes, self.seed
        )
        logger.info("%s: fitted in %s", name, show_duration(time.perf_counter() - started_s))
        return fitted


@torch.no_grad()
def with_probabilities(classifier: PixelClassifier, pixels: UnlabelledPixels) -> UnlabelledPixels:
    """Return unlabelled pixels with the probabilities that a classifier gives them, sharpened."""
    parts = [
        classifier.head(PixelTable(pixels.part(slice(start, start + _CHUNK))))[0, :, 0]
        for start in range(0, len(pixels), _CHUNK)
    ]
    logs = torch.cat(parts, dim=1).float().log_softmax(dim=0)
    probabilities = (logs / TEMPERATURE).softmax(dim=0)
    return replace(pixels, probabilities=probabilities.T.contiguous().numpy())


def join_heads(
    features: PixelFeatures,
    fitted: Sequence[FittedHead],
    classes: int,
    average: Literal["geometric", "arithmetic"],
    smoothing: SmoothingSettings | None = None,
) -> PixelClassifier:
    """Join fitted heads with their features.

    Args:
        features: become a part of the classifier.
        fitted: settings and state dict of each head.
        classes: of the class table.
        average: of several heads.
        smoothing: over neighbours of similar colour, if any.
    """
    head: HeadSettings = fitted[0][0]
    state = fitted[0][1]
    if len(fitted) > 1:
        heads = tuple(settings for settings, _ in fitted)
        head = MeanHeadSettings(heads=heads, average=average)
        state = {
            f"heads.{number}.{name}": values
            for number, (_, part) in enumerate(fitted)
            for name, values in part.items()
        } | {"weights": torch.full((len(fitted),), 1 / len(fitted))}
    classifier = PixelClassifier(
        PixelClassifierSettings(
            bands=features.bands,
            classes=classes,
            features=features.settings,
            margin_px=features.margin_with(smoothing.radius_px if smoothing else 0),
            alignment_px=features.alignment_px,
            head=head,
            smoothing=smoothing,
        )
    )
    classifier.features = features
    classifier.head.load_state_dict(state, strict=True)
    return classifier
