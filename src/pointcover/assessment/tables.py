"""The tables of a report: rows of text."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pointcover.assessment.assess import Assessment
from pointcover.assessment.estimators import Estimate

M2_PER_HA: Final = 10_000
UNKNOWN: Final = "not known"
NONE: Final = "-"


@dataclass(frozen=True)
class Table:
    """One table."""

    name: str
    """Of its CSV file."""
    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables_of(found: Assessment) -> list[Table]:
    """Return the tables of an assessment."""
    return [area_table(found), accuracy_table(found), *matrix_tables(found), strata_table(found)]


def sentence_of(found: Assessment, class_id: int) -> str:
    """Return the sentence that a report may print of a class, such as `forest 1234 ± 56 ha`."""
    area = found.estimates.areas[class_id].scaled(1 / M2_PER_HA)
    half = area.half_width
    if half is None or not half > 0:
        return f"{found.classes.names[class_id]} {with_interval(area, hectares)} ha (95 %)"
    # Two digits of the half-width, and as many places of the area.
    places = max(0, 1 - math.floor(math.log10(half)))
    return f"{found.classes.names[class_id]} {area.value:.{places}f} ± {half:.{places}f} ha (95 %)"


def area_table(found: Assessment) -> Table:
    """Return the areas: estimated, and by counting pixels."""
    rows = []
    for k, name in enumerate(found.classes.names):
        area = found.estimates.areas[k].scaled(1 / M2_PER_HA)
        mapped = float(found.mapped_m2[k]) / M2_PER_HA
        bias = mapped - area.value
        relative = f"{bias / area.value:+.1%}" if area.value > 0 else NONE
        half = area.half_width
        within = half is not None and abs(bias) <= half
        rows.append(
            [
                name,
                hectares(area.value),
                UNKNOWN if half is None else hectares(half),
                str(int(found.mapped_pixels[k])),
                hectares(mapped),
                f"{bias:+.4g}",
                relative,
                UNKNOWN if half is None else "yes" if within else "no",
            ]
        )
    unit = "pixels" if found.design.block_px == 1 else "blocks"
    return Table(
        "areas",
        "Areas",
        "Estimated from the sample, with half the width of the interval of 95 %. Counting "
        f"{unit} of the map is biased by its confusions; the bias is that area less the estimated "
        "one.",
        [
            "class",
            "ha",
            "± ha",
            f"{unit} of the map",
            "ha of the map",
            "bias ha",
            "bias",
            "within ±",
        ],
        rows,
    )


def accuracy_table(found: Assessment) -> Table:
    """Return overall, user's and producer's accuracy, and F1."""
    estimates = found.estimates
    rows = [["all", with_interval(estimates.overall, proportion), NONE, NONE, str(found.labelled)]]
    for k, name in enumerate(found.classes.names):
        shown = (estimates.users[k], estimates.producers[k], estimates.f1[k])
        cells = [with_interval(one, proportion) for one in shown]
        rows.append([name, *cells, str(int(estimates.counts[k].sum()))])
    return Table(
        "accuracy",
        "Accuracy",
        "Proportions of the area, ± half the width of the interval of 95 %. The first row is the "
        "overall accuracy. User's accuracy: of what the map calls the class, the proportion that "
        "is it. Producer's accuracy: of what is the class, the proportion that the map calls so.",
        ["class", "overall or user's", "producer's", "F1", "points in the map"],
        rows,
    )


def matrix_tables(found: Assessment) -> list[Table]:
    """Return the error matrix in counts and in proportions of the area."""
    names = found.classes.names
    counts, proportions = found.estimates.counts, found.estimates.proportions
    header = ["map \\ reference", *names, "total"]
    return [
        Table(
            "matrix_counts",
            "Error matrix: points",
            "Labelled points, rows by class of the map, columns by the class that was labelled.",
            header,
            [
                [name, *map(str, counts[k].tolist()), str(int(counts[k].sum()))]
                for k, name in enumerate(names)
            ]
            + [["total", *map(str, counts.sum(axis=0).tolist()), str(int(counts.sum()))]],
        ),
        Table(
            "matrix_proportions",
            "Error matrix: proportions of the area",
            "Estimated; this and not the counts is what accuracies follow from.",
            header,
            [
                [name, *map(proportion, proportions[k]), proportion(float(proportions[k].sum()))]
                for k, name in enumerate(names)
            ]
            + [["total", *map(proportion, proportions.sum(axis=0)), proportion(proportions.sum())]],
        ),
    ]


def strata_table(found: Assessment) -> Table:
    """Return the design of the sample."""
    rows = [
        [
            one.name,
            str(one.units),
            hectares(one.area_m2 / M2_PER_HA),
            str(one.points),
            f"{one.points / one.units:.3g}",
        ]
        for one in found.design.strata
    ]
    return Table(
        "strata",
        "Sample",
        f"Allocation {found.design.allocation}, seed {found.design.seed}, unit: "
        f"{found.design.block_px} x {found.design.block_px} px.",
        ["stratum", "units", "ha", "points drawn", "inclusion probability"],
        rows,
    )


def with_interval(one: Estimate | None, show: Callable[[float], str]) -> str:
    """Return an estimate and half the width of its interval."""
    if one is None:
        return NONE
    half = UNKNOWN if one.half_width is None else show(one.half_width)
    return f"{show(one.value)} ± {half}"


def proportion(value: float) -> str:
    """Write a proportion."""
    return f"{value:.4f}"


def hectares(value: float) -> str:
    """Write hectares: whole ones where there are thousands, more digits where there are few."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
