"""Assessment: the labels of a sample beside a map, and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj

from pointcover.assessment.class_maps import ClassMap, commonest
from pointcover.assessment.design import Design, DesignPoint
from pointcover.assessment.estimators import (
    NO_DATA,
    Estimates,
    StratumSample,
    estimate,
)
from pointcover.assessment.population import Population, count_population
from pointcover.assessment.sample_file import LabelledSample
from pointcover.assessment.strata import ClassStrata
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.grids import GRID_TOLERANCE_PX
from pointcover.raster.raster_io import Window
from pointcover.text import shorten

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEW_POINTS = 5
"""Fewer points than this and a class's accuracy is worth a remark."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a sample says of maps."""

    maps: list[Path]
    classes: ClassTable
    design: Design
    estimator: str
    """In words."""
    estimates: Estimates
    """Areas in m²."""
    mapped_m2: Floats
    """(K,) area of each class by counting pixels of the maps."""
    mapped_pixels: Ids
    """(K,) units by class."""
    labelled: int
    remarks: list[str] = field(default_factory=list)
    """What a reader must know."""

    @property
    def total_m2(self) -> float:
        """Return the area of the maps."""
        return float(self.mapped_m2.sum())


def assess(
    maps: Sequence[ClassMap], sample: LabelledSample, *, other_map: bool = False
) -> Assessment:
    """Estimate accuracy and areas of maps from a labelled sample.

    Args:
        maps: those that the sample was drawn from, in any order, or others of the same land.
        sample: with its labels.
        other_map: the maps are others: the strata stay those of the sample (Stehman 2014).

    Raises:
        ValueError: maps and sample do not fit, or a stratum has no labelled point.
    """
    design = sample.design
    classes = maps[0].classes
    if classes.names != design.classes:
        raise ValueError(
            f"the sample has the classes {shorten(design.classes)}, but {maps[0].path} has "
            f"{shorten(classes.names)}: give the maps that it was drawn from"
        )
    population = count_population(maps, ClassStrata(classes.names))
    if other_map:
        map_ids = _read_elsewhere(maps, design)
    else:
        map_ids = _read_units(_sort_maps(maps, population.digests, design), design)
    labelled = sample.labels != IGNORE_INDEX
    remarks = _say_what_is_missing(design, labelled, map_ids)
    strata, strata_of_classes, estimator = _stratify(
        sample, map_ids, None if other_map else population
    )
    estimates = estimate(strata, len(classes), strata_of_classes=strata_of_classes)
    return Assessment(
        maps=[each.path for each in maps],
        classes=classes,
        design=design,
        estimator=estimator,
        estimates=estimates,
        mapped_m2=population.areas_m2.sum(axis=0),
        mapped_pixels=population.units.sum(axis=0),
        labelled=int(labelled.sum()),
        remarks=remarks + _say_what_is_uncertain(strata, classes.names, estimates),
    )


def _sort_maps(maps: Sequence[ClassMap], digests: Sequence[str], design: Design) -> list[ClassMap]:
    """Return the maps in the order of the design.

    Raises:
        ValueError: they are not those that the sample was drawn from.
    """
    by_digest = dict(zip(digests, maps, strict=True))
    drawn = {one.digest: one.name for one in design.maps}
    strange = [str(each.path) for digest, each in by_digest.items() if digest not in drawn]
    missing = [name for digest, name in drawn.items() if digest not in by_digest]
    if strange or missing:
        what = [f"not drawn from {shorten(strange)}"] if strange else []
        what += [f"missing {shorten(missing)}"] if missing else []
        raise ValueError(
            f"the sample is of other maps ({'; '.join(what)}): give the maps that it was drawn "
            f"from ({shorten(drawn.values())}), or say --other-map to assess a new map of the same "
            f"land with this sample"
        )
    return [by_digest[one.digest] for one in design.maps]


def _read_units(maps: Sequence[ClassMap], design: Design) -> Ids:
    """Read the class of each point's unit in the maps that it was drawn from."""
    found = np.full(len(design.points), NO_DATA, np.int64)
    for place in _by_blocks(design):
        point = design.points[place]
        found[place] = _unit_class(maps[point.map], point.row, point.col)
    return found


def _unit_class(each: ClassMap, row: int, col: int) -> int:
    ids = each.read_ids(each.unit_window(row, col))
    value = int(commonest(ids, each.block_px)[0, 0])
    return NO_DATA if value == IGNORE_INDEX else value


def _by_blocks(design: Design) -> list[int]:
    """Order points so that those in one block of a file are read after each other."""

    def key(place: int) -> tuple[int, int, int]:
        point = design.points[place]
        side = design.block_px
        return point.map, point.row * side // 512, point.col * side // 512

    return sorted(range(len(design.points)), key=key)


def _read_elsewhere(maps: Sequence[ClassMap], design: Design) -> Ids:
    """Read the class of each point's unit in maps that it was not drawn from.

    Raises:
        ValueError: units are blocks, and the maps cut the land into others; or a CRS leads nowhere.
    """
    found = np.full(len(design.points), NO_DATA, np.int64)
    for number, drawn in enumerate(design.maps):
        places = [place for place, point in enumerate(design.points) if point.map == number]
        xs = np.array([design.points[place].x for place in places])
        ys = np.array([design.points[place].y for place in places])
        for each in maps:
            crs = pyproj.CRS.from_wkt(each.crs)
            to_map = pyproj.Transformer.from_crs(drawn.crs, crs, always_xy=True)
            cols, rows = ~each.info.transform @ np.array(to_map.transform(xs, ys))
            inside = (rows >= 0) & (rows < each.info.height)
            inside &= (cols >= 0) & (cols < each.info.width)
            for at in np.flatnonzero(inside):
                point = design.points[places[at]]
                window = Window(int(cols[at]), int(rows[at]), 1, 1)
                if design.block_px > 1:
                    window = _block_at(each, point, (float(rows[at]), float(cols[at])))
                ids = each.read_ids(window)
                value = int(commonest(ids, design.block_px)[0, 0])
                if value != IGNORE_INDEX:
                    found[places[at]] = value
    return found


def _block_at(each: ClassMap, point: DesignPoint, place: tuple[float, float]) -> Window:
    """Return the pixels of a point's block in another map, whose blocks must be the same ones.

    The unit stays the piece of land that was labelled (Stehman and Wickham 2011, Pixels, blocks of
    pixels, and polygons, Remote Sensing of Environment 115): parts of two blocks are not it.

    Args:
        each: the map.
        point: with its unit.
        place: row and column of the point in the map.

    Raises:
        ValueError: the map's blocks are others.
    """
    row, col = each.unit_pixel(point.row, point.col)
    apart = max(abs(place[0] - row - 0.5), abs(place[1] - col - 0.5))
    if not apart <= GRID_TOLERANCE_PX:
        raise ValueError(
            f"the units of the sample are blocks of {each.block_px} px, and {each.path} lies on "
            f"another grid, which cuts the land into other blocks: bring it to the grid of the map "
            f"that the sample was drawn from (`gdalwarp -r mode -te … -ts …`), or draw a sample of "
            f"pixels"
        )
    return each.unit_window(point.row, point.col)


def _say_what_is_missing(
    design: Design, labelled: npt.NDArray[np.bool_], map_ids: Ids
) -> list[str]:
    """Return remarks on points that do not count."""
    said = []
    unlabelled = _ids(design.points, ~labelled)
    if unlabelled:
        said.append(
            f"{len(unlabelled)} of {len(labelled)} points have no class (id {shorten(unlabelled)}) "
            f"and are left out: the estimates hold if what they are has nothing to do with why "
            f"nobody labelled them"
        )
    outside = _ids(design.points, labelled & (map_ids == NO_DATA))
    if outside:
        said.append(
            f"at {len(outside)} labelled points the map has no data (id {shorten(outside)}): the "
            f"estimates are of the land where it has"
        )
    return said


def _ids(points: Sequence[DesignPoint], chosen: npt.NDArray[np.bool_]) -> list[int]:
    return sorted(point.id for point, one in zip(points, chosen, strict=True) if one)


def _stratify(
    sample: LabelledSample, map_ids: Ids, population: Population | None
) -> tuple[list[StratumSample], Mapping[int, int], str]:
    """Sort labelled points into strata, and choose the estimator.

    Args:
        sample: with its labels.
        map_ids: class of each point in the map.
        population: of the map, where it is the one that the sample was drawn from.

    Returns:
        the strata, those that are of a class by class, and the name of the estimator.
    """
    design = sample.design
    numbers = np.array([point.stratum for point in design.points])
    sizes = [(one.name, one.units, one.area_m2) for one in design.strata]
    of_classes: dict[int, int] = {}
    estimator = "stratified, strata are not the map's classes (Stehman 2014)"
    if design.strata_are == "none":
        estimator = "simple random sample"
        if population is not None:
            counts = np.bincount(map_ids[sample.labels != IGNORE_INDEX], minlength=1)
            there = np.flatnonzero(population.units.sum(axis=0))
            if all(k < len(counts) and counts[k] > 1 for k in there):
                estimator = "simple random sample, poststratified by the map's classes"
                of_classes = {int(k): place for place, k in enumerate(there)}
                numbers = np.array([of_classes[int(k)] for k in map_ids])
                units, areas_m2 = population.units.sum(axis=0), population.areas_m2.sum(axis=0)
                names = design.classes
                sizes = [(names[k], int(units[k]), float(areas_m2[k])) for k in there]
    elif design.strata_are == "classes" and population is not None:
        estimator = "stratified, strata are the map's classes (Olofsson et al. 2014)"
        of_classes = {design.classes.index(one.name): h for h, one in enumerate(design.strata)}
    labelled = sample.labels != IGNORE_INDEX
    areas = np.array([point.area_m2 for point in design.points])
    strata = []
    for h, (name, units_of, area_m2) in enumerate(sizes):
        chosen = labelled & (numbers == h)
        strata.append(
            StratumSample(
                name, units_of, area_m2, map_ids[chosen], sample.labels[chosen], areas[chosen]
            )
        )
    return strata, of_classes, estimator


def _say_what_is_uncertain(
    strata: Sequence[StratumSample], names: Sequence[str], estimates: Estimates
) -> list[str]:
    """Return remarks on numbers that few points carry."""
    said = []
    for stratum in strata:
        if len(stratum) == 1 and not stratum.is_census:
            said.append(
                f"stratum {stratum.name!r} has one labelled point, so intervals that it is part of "
                f"are not known: label a second one"
            )
    for k, name in enumerate(names):
        mapped, labelled = int(estimates.counts[k].sum()), int(estimates.counts[:, k].sum())
        if not labelled:
            said.append(
                f"no point was labelled {name!r}: its area is estimated as 0 and its producer's "
                f"accuracy is not known, which does not show that there is none"
            )
        elif labelled < FEW_POINTS:
            said.append(
                f"{_points(labelled)} labelled {name!r}: its producer's accuracy, F1 and area say "
                f"little"
            )
        if mapped and estimates.counts[k, k] == mapped:
            said.append(
                f"all {mapped} points on {name!r} in the map are right, so its interval has no "
                f"width; up to {min(1, 3 / mapped):.0%} wrong would fit, too (rule of three)"
            )
        elif 0 < mapped < FEW_POINTS:
            said.append(
                f"{_points(mapped)} on {name!r} in the map: its user's accuracy says little"
            )
        if labelled and estimates.counts[k, k] == labelled:
            said.append(
                f"all {labelled} points labelled {name!r} are {name!r} in the map, so its "
                f"producer's accuracy has no width; a larger sample may find some that the map "
                f"misses"
            )
    return said


def _points(count: int) -> str:
    return "only 1 point" if count == 1 else f"only {count} points"
