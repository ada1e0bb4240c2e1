"""Scores of the classifier by cross-validation over squares of the ground, from the own points.

Points of one square are left out together: neighbours look alike, so a score over single points
would be far too good.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold

from pointcover.labelling.live_classifier import fit_live, mean_of, take
from pointcover.labelling.point_log import Record
from pointcover.labelling.settings import LabelSettings
from pointcover.metrics.bootstrap import LEAST_UNITS, miou_interval
from pointcover.metrics.confusion import scores as score_classes
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.training.classifiers.labelled_pixels import LabelledPixels, PixelTable

SURE: Final = 0.5
"""Probability of another class from which on a left-out point counts as surely different."""


@dataclass(frozen=True)
class Doubt:
    """A point whose left-out prediction is surely another class."""

    id: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class SpatialScores:
    """Scores of the classifier on points that lie in squares it was not fitted on."""

    points: int
    """Labelled pixels: of each point one, of a polygon several."""
    squares: int
    miou: float | None
    accuracy: float | None
    interval: tuple[float, float] | None
    """Of the mIoU, 95 %, by a bootstrap over squares; None with too few of them."""
    by_class: dict[str, dict[str, Any]]
    """IoU, precision, recall and number of points of each class."""
    doubts: tuple[Doubt, ...]
    """The surest first."""


def group_points(
    records: Sequence[Record], pixels: Sequence[tuple[float, float]], side_px: int
) -> npt.NDArray[np.int64]:
    """Return the number of each pixel's square, (P,); squares that share a polygon have one.

    Args:
        records: the label of each pixel.
        pixels: x and y of each.
        side_px: of the squares.
    """
    names: dict[tuple[str, int, int], int] = {}
    numbers = np.array(
        [
            names.setdefault((one.image, int(y // side_px), int(x // side_px)), len(names))
            for one, (x, y) in zip(records, pixels, strict=True)
        ],
        np.int64,
    )
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(one.id, int(number)), int(number))
        for one, number in zip(records, numbers, strict=True)
        if one.shape
    ]
    if not pairs:
        return numbers
    ends = np.array(pairs).T
    shape = (len(names), len(names))
    links = coo_array((np.ones(len(pairs), np.int8), (ends[0], ends[1])), shape)
    _, joined = connected_components(links, directed=False)
    return np.asarray(joined[numbers], np.int64)


def cross_validate(
    features: PixelFeatures,
    pixels: LabelledPixels,
    ids: Sequence[str],
    task: tuple[Sequence[str], LabelSettings],
    is_old: Callable[[], bool] = lambda: False,
) -> SpatialScores | None:
    """Score the classifier; None where `is_old` becomes true meanwhile, or there is one square.

    Args:
        features: with which those of the points were computed.
        pixels: points, and pixels of polygons.
        ids: of the label of each pixel.
        task: names of the classes, and the settings of the project.
        is_old: whether the result is no longer wanted.
    """
    names, settings = task
    squares = len(np.unique(pixels.groups))
    if squares < 2:
        return None
    points = np.flatnonzero(pixels.is_clicked)
    predicted = np.zeros(len(pixels.classes), np.int64)
    confidence = np.zeros(len(pixels.classes))
    folds = GroupKFold(min(settings.folds, squares))
    for fitted, left in folds.split(pixels.classes, groups=pixels.groups):
        if is_old():
            return None
        classifier = fit_live(features, take(pixels, fitted), len(names), settings)
        logs = mean_of(classifier.score(PixelTable(take(pixels, left))))[:, 0]
        predicted[left] = logs.argmax(dim=0).numpy()
        confidence[left] = logs.exp().amax(dim=0).numpy()
    is_wrong = (predicted != pixels.classes) & (confidence >= SURE)
    wrong = points[is_wrong[points]]
    surest: dict[str, Doubt] = {}  # of a polygon, its surest pixel
    for n in wrong[np.argsort(-confidence[wrong], kind="stable")].tolist():
        label, other = names[pixels.classes[n]], names[predicted[n]]
        surest.setdefault(ids[n], Doubt(ids[n], label, other, round(float(confidence[n]), 3)))
    doubts = tuple(surest.values())
    return _summarise(take(pixels, points), predicted[points], names, doubts)


def _summarise(
    pixels: LabelledPixels,
    predicted: npt.NDArray[np.int64],
    names: Sequence[str],
    doubts: tuple[Doubt, ...],
) -> SpatialScores:
    count = len(names)
    squares, places = np.unique(pixels.groups, return_inverse=True)
    confusions = np.zeros((len(squares), count, count), np.int64)
    np.add.at(confusions, (places, pixels.classes, predicted), 1)
    found = score_classes(confusions.sum(axis=0), names)
    interval = None
    if len(squares) >= LEAST_UNITS:
        interval = miou_interval(confusions, np.ones(count, bool), np.random.default_rng(0))
    totals = np.bincount(pixels.classes, minlength=count)
    by_class = {
        name: {**found["by_class"][name], "points": int(total)}
        for name, total in zip(names, totals, strict=True)
    }
    points = len(pixels.classes)
    return SpatialScores(
        points, len(squares), found["miou"], found["accuracy"], interval, by_class, doubts
    )
