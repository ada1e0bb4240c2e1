"""Number and accuracy of sparse labels: clicks, propagated pixels, and errors of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, Mask


@dataclass
class AnnotationReport:
    """Counts clicks and propagated pixels tile by tile, and compares them with dense masks."""

    names: Sequence[str]
    tiles: int = 0
    tiles_without_clicks: int = 0
    known: npt.NDArray[np.int64] = field(init=False)
    """Pixels by their class in the dense mask."""
    holding: npt.NDArray[np.int64] = field(init=False)
    """Tiles by the classes in their dense masks."""
    missing: npt.NDArray[np.int64] = field(init=False)
    """Of these tiles, those in which the class got no click."""
    clicks: npt.NDArray[np.int64] = field(init=False)
    """Clicked pixels by the class they were given; a stroke counts with all of its pixels."""
    wrong_clicks: npt.NDArray[np.int64] = field(init=False)
    unknown_clicks: npt.NDArray[np.int64] = field(init=False)
    right: npt.NDArray[np.int64] = field(init=False)
    wrong: npt.NDArray[np.int64] = field(init=False)
    unknown: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Start all counts at zero."""
        for counter in (
            "known",
            "holding",
            "missing",
            "clicks",
            "wrong_clicks",
            "unknown_clicks",
            "right",
            "wrong",
            "unknown",
        ):
            setattr(self, counter, np.zeros(len(self.names), np.int64))

    def add(self, dense: Mask, clicks: Mask, labels: Mask) -> None:
        """Count one tile: its dense mask, its clicks, and its sparse mask after propagation."""
        clicked = clicks != IGNORE_INDEX
        added = (labels != IGNORE_INDEX) & ~clicked
        same = dense == labels
        unlabelled = dense == IGNORE_INDEX
        self.tiles += 1
        self.tiles_without_clicks += int(not clicked.any())
        known, given = self._by_class(dense[~unlabelled]), self._by_class(clicks[clicked])
        self.known += known
        self.holding += known > 0
        self.missing += (known > 0) & (given == 0)
        self.clicks += given
        self.unknown_clicks += self._by_class(clicks[clicked & unlabelled])
        self.wrong_clicks += self._by_class(clicks[clicked & (dense != clicks) & ~unlabelled])
        self.right += self._by_class(labels[added & same])
        self.unknown += self._by_class(labels[added & unlabelled])
        self.wrong += self._by_class(labels[added & ~same & ~unlabelled])

    def include(self, other: "AnnotationReport") -> None:
        """Add what another report counted of other tiles."""
        for counter, value in vars(other).items():
            if counter != "names":
                setattr(self, counter, getattr(self, counter) + value)

    def summary(self) -> dict[str, Any]:
        """Return counts and fractions; null where the denominator is 0 or no dense mask tells.

        `labelled_fraction`, `wrong_clicks` and `error` count only pixels whose true class is known:
        the fraction of them that is labelled, the clicks with a wrong class, and the fraction of
        wrong labels among those propagated. By class, labels count under the class they were given;
        `tiles` are those that contain the class, `tiles_without_clicks` those of them in which it
        got no click.

        Of all labels, clicked and propagated: `purity` is the fraction that is correct, `precision`
        the same for the labels of one class, `macro_precision` the mean of that over the classes
        with labels, `recall` the fraction of a class's pixels that are correctly labelled.
        """
        correct = self.clicks - self.wrong_clicks - self.unknown_clicks + self.right
        given = correct + self.wrong_clicks + self.wrong
        precision = [_fraction(int(r), int(g)) for r, g in zip(correct, given, strict=True)]
        some = [value for value in precision if value is not None]
        propagated = self.right + self.wrong + self.unknown
        labelled = int(self.clicks.sum() + propagated.sum())
        is_known = bool(self.known.any())  # only dense masks tell which labels are correct

        def if_known(count: int) -> int | None:
            return int(count) if is_known else None

        checked = labelled - int(self.unknown.sum() + self.unknown_clicks.sum())
        return {
            "tiles": self.tiles,
            "tiles_without_clicks": self.tiles_without_clicks,
            "clicks": int(self.clicks.sum()),
            "wrong_clicks": if_known(self.wrong_clicks.sum()),
            "clicks_per_tile": _fraction(int(self.clicks.sum()), self.tiles),
            "propagated_pixels": int(propagated.sum()),
            "labelled_pixels": labelled,
            "labelled_fraction": _fraction(checked, int(self.known.sum())),
            "purity": _fraction(int(correct.sum()), int(given.sum())),
            "macro_precision": round(sum(some) / len(some), 6) if some else None,
            "error": _fraction(int(self.wrong.sum()), int((self.right + self.wrong).sum())),
            "by_class": {
                name: {
                    "tiles": if_known(self.holding[i]),
                    "tiles_without_clicks": if_known(self.missing[i]),
                    "clicks": int(self.clicks[i]),
                    "wrong_clicks": if_known(self.wrong_clicks[i]),
                    "propagated_pixels": int(propagated[i]),
                    "error": _fraction(int(self.wrong[i]), int(self.right[i] + self.wrong[i])),
                    "precision": precision[i],
                    "recall": _fraction(int(correct[i]), int(self.known[i])),
                }
                for i, name in enumerate(self.names)
            },
        }

    def _by_class(self, ids: Mask) -> npt.NDArray[np.int64]:
        return np.bincount(ids, minlength=len(self.names))


def _fraction(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
