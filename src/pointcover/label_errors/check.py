"""Check point labels: find those that the cross-validated model doubts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pointcover.image_labels.source import LabelSource
from pointcover.label_errors.confident_learning import Flags, Floats, normalised_margin
from pointcover.label_errors.cross_validation import CrossValidation, average_by
from pointcover.label_errors.filters import find_doubted
from pointcover.label_errors.labels import Labels, read_labels
from pointcover.label_errors.settings import LabelErrorSettings
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.text import shorten
from pointcover.training.classifiers.features import make_features
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.settings import TrainSettings


@dataclass(frozen=True)
class CheckedLabels:
    """Labels, and what models that do not know them say of each."""

    source: LabelSource
    labels: Labels
    probabilities: Floats
    """(N, K)."""
    is_known: Flags
    """(N,) whether a model could tell: it had other labels of the class."""
    doubted: tuple[int, ...]
    """Indices of labels, the most doubted first."""

    @property
    def suggested(self) -> tuple[int, ...]:
        """The most probable class of each doubted label."""
        return tuple(self.probabilities[list(self.doubted)].argmax(axis=1).tolist())

    @property
    def margins(self) -> Floats:
        """(N,) of the labels' own classes against the most probable other ones."""
        return normalised_margin(self.probabilities, self.labels.class_ids)

    def counts(self) -> list[tuple[str, int, int]]:
        """Return the name of each class that has labels, their number, and how many are doubted."""
        names = self.source.classes.names
        given = np.bincount(self.labels.class_ids, minlength=len(names)).tolist()
        doubted = self.labels.class_ids[list(self.doubted)]
        wrong = np.bincount(doubted, minlength=len(names)).tolist()
        return [entry for entry in zip(names, given, wrong, strict=True) if entry[1]]

    def remarks(self) -> list[str]:
        """Return what the user should know of labels that could not be judged."""
        names, ids = self.source.classes.names, self.labels.class_ids
        unknown = [names[one] for one in np.unique(ids[~self.is_known])]
        if not unknown:
            return []
        return [
            f"{int((~self.is_known).sum())} labels of {shorten(unknown)} are not judged, since no "
            f"other group of the cross-validation has labels of their class: label it elsewhere, "
            f"too"
        ]


@dataclass(frozen=True)
class LabelCheck:
    """Features and settings by which labels are checked."""

    source: LabelSource
    features: PixelFeatures
    validation: CrossValidation
    settings: LabelErrorSettings

    @classmethod
    def prepare(
        cls, source: LabelSource, train: TrainSettings, settings: LabelErrorSettings
    ) -> "LabelCheck":
        """Build the features that the pixel classifiers of the settings need.

        Args:
            source: of the labels.
            train: of training; see `classifier_of`.
            settings: of the check.

        Raises:
            ValueError: an encoder's weights do not fit, or a head has no features.
            ConnectionError, FileNotFoundError: an encoder has no weights.
        """
        names = source.classes.names
        fit = ClassifierFit(train.model, train.classifier, len(names), settings.seed)
        features = make_features(train, fit, source.bands).eval()
        validation = CrossValidation(train, fit, names, settings.folds, settings.group_by)
        return cls(source, features, validation, settings)

    def read(self) -> Labels:
        """Compute the features of all labels once.

        Raises:
            ValueError: an image is damaged.
        """
        most = self.validation.settings.classifier.max_pixels
        settings = self.settings
        return read_labels(self.source, self.features, settings.group_by, most, settings.seed)

    def judge(self, labels: Labels, progress: Callable[[], object] = lambda: None) -> CheckedLabels:
        """Find the labels that are probably wrong.

        Args:
            labels: with their features.
            progress: called after each fold.

        Raises:
            ValueError: the labels lie in one group, or are of one class.
        """
        numbers, count = labels.numbers, len(labels.class_ids)
        trusted = np.ones(count, bool)
        doubted: tuple[int, ...] = ()
        for _ in range(self.settings.rounds):
            trusted[list(doubted)] = False
            scores, is_known = self.validation.probabilities(
                self.features, labels.pixels, trusted[numbers], progress
            )
            probabilities = average_by(numbers, scores)
            known = np.zeros(count, bool)
            known[numbers] = is_known
            places = np.flatnonzero(known)
            given, found = labels.class_ids[places], probabilities[places]
            if len(places):
                doubted = tuple(
                    places[find_doubted(found, given, self.settings.filter_by)].tolist()
                )
            trusted[:] = True
        return CheckedLabels(self.source, labels, probabilities, known, doubted)
