"""What a sampler is told and what it gives: the annotator's settings, and clicks in order."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pointcover.labels import MAX_CLASSES, Mask

Pixels = npt.NDArray[np.intp]
"""(N,) where pixels lie in a flattened tile: row · W + col."""


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """A simulated annotator: who clicks where, how often, and with what errors.

    Raises:
        ValueError: a value is out of its range, or two values do not go together.
    """

    sampler: str
    """Where the clicks fall: a key of SAMPLERS."""
    unit: str
    """What `points` counts: a key of UNITS."""
    points: int
    classes: int
    """Classes in the class table: an annotator who errs may name any of them."""
    boundary_px: float
    """Sampler `boundary`: the greatest distance of a click to a pixel of another class."""
    scribble_px: int
    """Sampler `scribbles`: the greatest number of pixels in a stroke."""
    positive_class: int | None = None
    """Sampler `positive`: the id of the one class that is clicked."""
    position_noise_px: float = 0.0
    """The greatest distance at which a click lands from where it was meant."""
    label_noise_rate: float = 0.0
    """The probability that a click gets the name of another class."""

    def __post_init__(self) -> None:
        """Refuse what no annotator can do."""
        _demand(self.points >= 1, "points", self.points, "1 or more: give a label budget")
        _demand(
            self.unit != "percent" or self.points <= 100,
            "points",
            self.points,
            "at most 100 with unit 'percent': no tile has more than all of its pixels",
        )
        _demand(
            2 <= self.classes <= MAX_CLASSES,
            "classes",
            self.classes,
            f"2 to {MAX_CLASSES}: give the length of the class table",
        )
        _demand(
            math.isfinite(self.boundary_px) and self.boundary_px >= 1,
            "boundary_px",
            self.boundary_px,
            "1 or more: the nearest pixel of another class is 1 away",
        )
        _demand(
            self.scribble_px >= 1,
            "scribble_px",
            self.scribble_px,
            "1 or more: give the longest stroke",
        )
        _demand(
            math.isfinite(self.position_noise_px) and self.position_noise_px >= 0,
            "position_noise_px",
            self.position_noise_px,
            "a finite distance of 0 or more",
        )
        _demand(
            0 <= self.label_noise_rate <= 1,
            "label_noise_rate",
            self.label_noise_rate,
            "a share from 0 to 1",
        )
        _demand(
            self.positive_class is None or 0 <= self.positive_class < self.classes,
            "positive_class",
            self.positive_class,
            f"a class id from 0 to {self.classes - 1}",
        )
        _demand(
            self.sampler != "positive" or self.positive_class is not None,
            "positive_class",
            None,
            "a class id with sampler 'positive': name the class that is clicked",
        )
        _demand(
            self.sampler != "scribbles" or self.unit != "percent",
            "unit",
            self.unit,
            "'per_tile', 'per_class' or 'total' with sampler 'scribbles': a share of the pixels "
            "is no number of strokes",
        )

    @property
    def errs(self) -> bool:
        """Whether clicks may land elsewhere or get a wrong class."""
        return self.position_noise_px > 0 or self.label_noise_rate > 0


@dataclass(frozen=True)
class Clicks:
    """Clicks in the order in which they are made."""

    pixels: Pixels
    """No pixel twice; those of a stroke lie together, from one end to the other."""
    numbers: Pixels
    """(N,) the click that each pixel belongs to: 0, 1, 2 …; a stroke has several pixels."""

    @classmethod
    def single(cls, pixels: Pixels) -> Self:
        """Make one click of each pixel."""
        return cls(pixels, np.arange(pixels.size))


Sampler = Callable[[Mask, Pixels, int, Annotator, np.random.Generator], Clicks]
"""From a dense mask, the pixels of it that may be clicked (labelled, rising), the budget in
clicks, the settings and a generator to at most that many clicks."""


def _demand(holds: bool, key: str, got: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"got {key}={got!r}, wanted {wanted}")
