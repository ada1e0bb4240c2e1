"""What a sampler takes and returns: the simulated annotator, and clicks in order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pointcover.annotation.samplers.settings import SamplerSettings
from pointcover.labels import ClassTable, Mask

Pixels = npt.NDArray[np.intp]
"""(N,) positions of pixels in a flattened tile: row · W + col."""


@dataclass(frozen=True)
class Annotator:
    """A simulated annotator: the settings, and the classes that a click can be labelled with."""

    settings: SamplerSettings
    classes: ClassTable

    @property
    def errs(self) -> bool:
        """Whether clicks may land elsewhere or get a wrong class."""
        return self.settings.position_noise_px > 0 or self.settings.label_noise_rate > 0


@dataclass(frozen=True)
class Clicks:
    """Clicks in the order in which they are made."""

    pixels: Pixels
    """No pixel twice; the pixels of a stroke are consecutive, from one end to the other."""
    numbers: Pixels
    """(N,) the click that each pixel belongs to: 0, 1, 2 …; a stroke has several pixels."""

    @classmethod
    def single(cls, pixels: Pixels) -> Self:
        """Make one click of each pixel."""
        return cls(pixels, np.arange(pixels.size))


Sampler = Callable[[Mask, Pixels, int, Annotator, np.random.Generator], Clicks]
"""Takes a dense mask, the pixels of it that may be clicked (labelled, in ascending order), the
budget in clicks, the annotator and a generator. Returns at most that many clicks."""
