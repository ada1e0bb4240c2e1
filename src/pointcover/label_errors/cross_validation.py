"""Out-of-sample class probabilities of labelled pixels, by cross-validation over groups."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold

from pointcover.image_labels.class_weights import weight_pixels
from pointcover.label_errors.confident_learning import Flags, Floats, Ids
from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.training.classifiers.fit import MEAN, ClassifierFit
from pointcover.training.classifiers.fitter import score_pixels
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.settings import NO_FILE, TrainSettings


def classifier_of(settings: TrainSettings) -> TrainSettings:
    """Return the settings with a pixel classifier: their own, or else classifier_mean."""
    if MODELS[settings.model].fitted_by == PIXEL_CLASSIFIER:
        return settings
    wanted = {"model": MEAN, "loss": "cross_entropy", "gamma": None}
    if not settings.encoder.startswith("tu-") and settings.encoder != "none":
        wanted |= {"encoder": "none", "weights": "none", "weights_file": NO_FILE}
    return settings.model_copy(update=wanted)


@dataclass(frozen=True)
class CrossValidation:
    """How classifiers are fitted on all groups but some, and score those."""

    settings: TrainSettings
    """Of a pixel classifier."""
    fit: ClassifierFit
    names: tuple[str, ...]
    """Of the classes."""
    folds: int
    group: str
    """What a group is called, for messages."""

    def probabilities(
        self,
        features: PixelFeatures,
        pixels: LabelledPixels,
        trusted: Flags,
        progress: Callable[[], object] = lambda: None,
    ) -> tuple[Floats, Flags]:
        """Score labelled pixels by fits without their groups.

        Args:
            features: with which the pixels' were computed.
            pixels: labelled ones; features are not computed again.
            trusted: (P,) whether a label is used in fits; all are scored.
            progress: called after each fold.

        Returns:
            (P, K) class probabilities, and (P,) whether other groups have labels of a pixel's
            class: a model without them would doubt all of these.

        Raises:
            ValueError: there is one group, or labels of one class.
        """
        self._check(pixels)
        found = np.zeros((len(pixels.classes), len(self.names)))
        is_known = np.zeros(len(pixels.classes), bool)
        count = min(self.folds, len(np.unique(pixels.groups)))
        for fitted, left in GroupKFold(count).split(pixels.classes, groups=pixels.groups):
            fitted = _trusted_of(fitted, pixels.classes, trusted)
            weighted = weight_pixels(self.settings, self.names, take(pixels, fitted))
            classifier = self.fit.fit(features, weighted, band_stds=None)
            logits = score_pixels(classifier, take(pixels, left))[0, :, 0]
            found[left] = logits.double().softmax(dim=0).T.numpy()
            is_known[left] = np.isin(pixels.classes[left], pixels.classes[fitted])
            progress()
        return found, is_known

    def _check(self, pixels: LabelledPixels) -> None:
        known = np.unique(pixels.classes)
        if len(known) < 2:
            raise ValueError(
                f"all labels are {self.names[known[0]]!r}, so there is nothing to tell apart: "
                f"label other classes, too"
            )
        if len(np.unique(pixels.groups)) < 2:
            other = ", or choose --group-by tile" if self.group != "tile" else ""
            raise ValueError(
                f"all labels lie in one {self.group}, and cross-validation leaves out one at "
                f"least: label a second {self.group}{other}"
            )


def _trusted_of(fitted: npt.NDArray[np.intp], classes: Ids, trusted: Flags) -> npt.NDArray[np.intp]:
    """Return the trusted ones of some pixels, and all of a class that has no trusted one.

    Otherwise that class would be unknown to the model, and no label of it would be judged.
    """
    with_trusted = np.unique(classes[fitted][trusted[fitted]])
    return fitted[trusted[fitted] | ~np.isin(classes[fitted], with_trusted)]


def take(pixels: LabelledPixels, chosen: npt.NDArray[np.intp]) -> LabelledPixels:
    """Return some of the labelled pixels."""
    return LabelledPixels(
        {block: values[chosen] for block, values in pixels.features.items()},
        pixels.classes[chosen],
        pixels.groups[chosen],
        pixels.is_clicked[chosen],
        pixels.weights[chosen],
    )


def average_by(numbers: Ids, values: Floats) -> Floats:
    """Return the mean of values (P, K) over the pixels of each label, (N, K).

    Args:
        numbers: (P,) of the label that each pixel belongs to, from 0 to N - 1.
        values: of the pixels.
    """
    count = int(numbers.max()) + 1
    totals = np.zeros((count, values.shape[1]))
    np.add.at(totals, numbers, values)
    return np.asarray(totals / np.bincount(numbers, minlength=count)[:, np.newaxis])
