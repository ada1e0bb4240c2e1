"""The curve of the score against the number of points, kept in the project folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pointcover.runtime.atomic_files import publish_text

if TYPE_CHECKING:
    from pointcover.labelling.spatial_scores import SpatialScores

FILE: Final = "scores.jsonl"

MORE: Final = 1.3
"""Where this many times the points did not raise the score, more of them pay little."""


@dataclass(frozen=True)
class CurvePoint:
    """The score of one number of points."""

    points: int
    minutes: float
    miou: float
    low: float | None
    high: float | None


class ScoreCurve:
    """The scores so far, one for each number of points."""

    def __init__(self, folder: Path) -> None:
        """Read the curve of a project; a damaged one begins anew."""
        self._path = folder / FILE
        self._points: dict[int, CurvePoint] = {}
        try:
            for line in self._path.read_text(encoding="utf-8").splitlines():
                found = CurvePoint(**json.loads(line))
                self._points[found.points] = found
        except (OSError, ValueError, TypeError):
            self._points = {}

    @property
    def points(self) -> Sequence[CurvePoint]:
        """The curve, by number of points."""
        return [self._points[count] for count in sorted(self._points)]

    def add(self, scores: "SpatialScores", minutes: float) -> None:
        """Add a score, and write the curve.

        Raises:
            OSError: the disk is full.
        """
        if scores.miou is None:
            return
        low, high = scores.interval or (None, None)
        self._points[scores.points] = CurvePoint(scores.points, minutes, scores.miou, low, high)
        text = "".join(json.dumps(asdict(point)) + "\n" for point in self.points)
        publish_text(self._path, text)

    def verdict(self) -> str:
        """Return what the curve says of more points; empty where it says nothing yet."""
        curve = self.points
        if not curve or curve[-1].low is None or curve[-1].high is None:
            return ""
        now = curve[-1]
        before = [one for one in curve if one.points * MORE <= now.points]
        if not before:
            return ""
        earlier, gain = before[-1], now.miou - before[-1].miou
        since = f"from {earlier.points} to {now.points} points"
        half = (now.high - now.low) / 2 if now.high is not None and now.low is not None else 0.0
        if gain < min(0.02, half):
            return (
                f"The score rose by {max(gain, 0):.3f} {since}, which is within its uncertainty: "
                f"more points of this kind pay little."
            )
        return f"The score rose by {gain:.3f} {since}: more points still pay."
