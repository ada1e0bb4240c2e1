"""Drawing a sample of maps: population, size, allocation, points."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointcover.assessment.allocation import ALLOCATIONS, SIMPLE
from pointcover.assessment.class_maps import ClassMap, check_apart
from pointcover.assessment.design import Design, DesignStratum, SampledMap
from pointcover.assessment.drawing import draw_points
from pointcover.assessment.points_of_strata import allocate
from pointcover.assessment.population import Population, count_population
from pointcover.assessment.sample_size import (
    Expectation,
    expect_area,
    expect_overall,
    points_for,
)
from pointcover.assessment.settings import SampleSettings
from pointcover.assessment.strata import ClassStrata, FileStrata, NoStrata, Strata
from pointcover.text import compose, shorten

Counts = npt.NDArray[np.int64]

M2_PER_HA = 10_000


AREA = re.compile(r"(?P<name>.+)=(?P<value>[0-9]*\.?[0-9]+) ?(?P<unit>ha|%)")


@dataclass(frozen=True)
class Size:
    """How large a sample is to be: one of these is said."""

    points: int | None = None
    half_width: float | None = None
    """Of the interval of the overall accuracy."""
    area: str | None = None
    """Class and half-width of the interval of its area: `forest=5ha` or `forest=10%`."""

    def __post_init__(self) -> None:
        """Check that one is said.

        Raises:
            ValueError: none, or several.
        """
        said = [one for one in (self.points, self.half_width, self.area) if one is not None]
        if len(said) != 1:
            raise ValueError(
                f"{len(said)} sizes of the sample are said, wanted one of --points, --half-width "
                f"and --area-half-width"
            )


@dataclass(frozen=True, eq=False)
class _Aim:
    """What is expected of the strata, and how narrow the interval is to be."""

    text: str
    expected: Expectation
    half_width: float | None
    """As a proportion of the area; None where the number of points is said."""


def draw_sample(
    maps: Sequence[ClassMap], settings: SampleSettings, size: Size, strata_file: Path | None = None
) -> Design:
    """Draw a probability sample of maps, as one population.

    Args:
        maps: of the same classes; they do not overlap.
        settings: how it is drawn.
        size: how large it is.
        strata_file: strata that are not the map's classes.

    Raises:
        ValueError: maps overlap, strata leave out a part of them, or the size does not fit.
    """
    strata = _strata_of(maps, settings, strata_file)
    check_apart(maps)
    population = count_population(maps, strata)
    aim = _aim_at(size, maps[0].classes.names, population, settings.expected_accuracy)
    give = partial(_allocate, population, aim.expected, settings)
    count = size.points
    if count is None:
        assert aim.half_width is not None, "a size is one or the other"
        fewest = int(np.minimum(population.units.sum(axis=1), settings.minimum).sum())
        count = points_for(aim.expected, aim.half_width, give, fewest)
    points = give(count)
    drawn = draw_points(maps, strata, population, points, settings.seed)
    used = np.flatnonzero(population.units.sum(axis=1)).tolist()
    numbers = {h: place for place, h in enumerate(used)}
    return Design(
        maps=tuple(
            SampledMap(
                name=each.path.stem,
                digest=digest,
                height=each.info.height,
                width=each.info.width,
                crs=each.crs,
            )
            for each, digest in zip(maps, population.digests, strict=True)
        ),
        classes=maps[0].classes.names,
        colours=maps[0].classes.colours,
        block_px=settings.block_px,
        strata_are=strata.kind,
        strata=tuple(
            DesignStratum(
                name=strata.names[h],
                units=int(population.units[h].sum()),
                area_m2=float(population.areas_m2[h].sum()),
                points=int(points[h]),
            )
            for h in used
        ),
        allocation=settings.allocation,
        seed=settings.seed,
        assumed=tuple(_assumed(aim, points, settings)),
        points=tuple(
            point.model_copy(update={"stratum": numbers[point.stratum]}) for point in drawn
        ),
    )


def _strata_of(
    maps: Sequence[ClassMap], settings: SampleSettings, strata_file: Path | None
) -> Strata:
    if strata_file is not None and settings.allocation == SIMPLE:
        raise ValueError(
            f"allocation {SIMPLE!r} has no strata, but {strata_file} is a file of them: leave one "
            f"of both out"
        )
    if strata_file is not None:
        return FileStrata(strata_file)
    if settings.allocation == SIMPLE:
        return NoStrata()
    return ClassStrata(maps[0].classes.names)


def _allocate(
    population: Population, expected: Expectation, settings: SampleSettings, points: int
) -> Counts:
    wished = ALLOCATIONS[settings.allocation](expected.weights, expected.deviations)
    units = population.units.sum(axis=1)
    return allocate(np.where(units > 0, wished, 0.0), units.tolist(), points, settings.minimum)


def _aim_at(size: Size, names: Sequence[str], population: Population, accuracy: float) -> _Aim:
    """Return what is expected of what the size is about."""
    areas_m2 = population.areas_m2
    if size.area is None:
        wanted = "" if size.half_width is None else f" of half-width {size.half_width:g}"
        text = f"an interval{wanted} of the overall accuracy"
        return _Aim(text, expect_overall(areas_m2, accuracy), size.half_width)
    match = AREA.fullmatch(size.area)
    name = compose(match["name"]) if match else ""
    if match is None or name not in names:
        raise ValueError(
            f"--area-half-width: got {size.area!r}, wanted a class and its half-width, such as "
            f"{names[0]}=5ha or {names[0]}=10% (of its mapped area); classes: {shorten(names)}"
        )
    class_id, value = names.index(name), float(match["value"])
    mapped_m2 = float(areas_m2[:, class_id].sum())
    if not mapped_m2 > 0 or not value > 0:
        raise ValueError(
            f"--area-half-width: got {size.area!r}, but the map has {mapped_m2 / M2_PER_HA:g} ha "
            f"of {match['name']!r}: choose a class that it has, and a half-width above 0"
        )
    wanted_m2 = value * M2_PER_HA if match["unit"] == "ha" else value / 100 * mapped_m2
    text = (
        f"an interval of half-width {wanted_m2 / M2_PER_HA:.4g} ha of the area of "
        f"{match['name']!r}, which has {mapped_m2 / M2_PER_HA:.4g} ha in the map"
    )
    expected = expect_area(areas_m2, accuracy, class_id)
    return _Aim(text, expected, wanted_m2 / float(areas_m2.sum()))


def _assumed(aim: _Aim, points: Counts, settings: SampleSettings) -> list[str]:
    """Return what was assumed of the map before a point was labelled."""
    said = []
    if aim.half_width is not None:
        said.append(
            f"size: {points.sum()} points for {aim.text}, assuming a user's accuracy of "
            f"{settings.expected_accuracy:g} for each class"
        )
    elif settings.allocation == "neyman":
        said.append(
            f"allocation: for {aim.text}, assuming a user's accuracy of "
            f"{settings.expected_accuracy:g} for each class"
        )
    if settings.allocation != SIMPLE:
        said.append(f"minimum: {settings.minimum} points of a stratum, or all of its units")
    return said
