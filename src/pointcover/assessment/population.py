"""The population of a sample: how many units and how much area strata and classes have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointcover.assessment.class_maps import ClassMap, Digest
from pointcover.assessment.strata import Strata
from pointcover.labels import IGNORE_INDEX
from pointcover.raster.raster_io import Window

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Population:
    """All units of some maps."""

    units: Counts
    """(H, K) units by stratum and class of the map."""
    areas_m2: Floats
    """(H, K)."""
    windows: list[tuple[int, Window, Counts]]
    """Number of the map, window, and (H,) units by stratum, in the order of drawing."""
    digests: list[str]
    """Of the maps."""


def count_population(maps: Sequence[ClassMap], strata: Strata) -> Population:
    """Count the units of maps, window by window.

    Raises:
        ValueError: a map is damaged, or no pixel has data.
    """
    shape = len(strata.names), len(maps[0].classes)
    units, areas_m2 = np.zeros(shape, np.int64), np.zeros(shape)
    windows, digests = [], []
    for number, each in enumerate(maps):
        digest = Digest(each.info)
        for window in each.windows():
            ids = each.read_ids(window)
            digest.add(ids)
            found = each.units_of(ids, window)
            places = strata.read(each, window, found)
            known = places != IGNORE_INDEX
            joint = places[known].astype(np.int64) * shape[1] + found.ids[known]
            counted = np.bincount(joint, minlength=shape[0] * shape[1]).reshape(shape)
            units += counted
            areas_m2 += np.bincount(
                joint, found.areas_m2[known], minlength=shape[0] * shape[1]
            ).reshape(shape)
            windows.append((number, window, counted.sum(axis=1)))
        digests.append(digest.text())
    if not units.any():
        paths = ", ".join(str(each.path) for each in maps)
        raise ValueError(f"{paths}: no pixel has data, so there is nothing to sample")
    return Population(units, areas_m2, windows, digests)
