"""Pictures of a report: the error matrix, and areas with their intervals."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from pointcover.assessment.assess import Assessment
from pointcover.assessment.tables import M2_PER_HA
from pointcover.figures import draw_cells, save_figure
from pointcover.labels import format_colour

DPI: Final = 110


def draw_matrix(path: Path, found: Assessment) -> None:
    """Write a PNG of the error matrix: proportions of the area, counts of points below."""
    names, values = found.classes.names, found.estimates.proportions
    side = 1.8 + 0.85 * len(names)
    figure = Figure(figsize=(side + 0.2, side + 0.3), layout="constrained")
    axes = figure.subplots()
    # Colours by the proportion of the map's class, so that rare classes are seen.
    rows = values.sum(axis=1, keepdims=True)
    shown = np.divide(values, rows, out=np.zeros(values.shape), where=rows > 0)
    counts = found.estimates.counts
    texts = [
        f"{100 * value:.2f} %\n{count}"
        for value, count in zip(values.flat, counts.flat, strict=True)
    ]
    draw_cells(axes, shown, texts, names)
    axes.set_xlabel("reference class (labelled)")
    axes.set_ylabel("class of the map")
    axes.set_title("Percent of the area, and points", fontsize=10)
    save_figure(figure, path, dpi=DPI)


def draw_areas(path: Path, found: Assessment) -> None:
    """Write a PNG of each class's area: by counting pixels, and estimated with its interval."""
    names = found.classes.names
    figure = Figure(figsize=(max(5.0, 1.8 + 1.1 * len(names)), 3.8), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    areas = [one.scaled(1 / M2_PER_HA) for one in found.estimates.areas]
    axes.bar(
        places - 0.2,
        found.mapped_m2 / M2_PER_HA,
        0.36,
        color="0.75",
        edgecolor="0.4",
        label="pixels of the map",
    )
    axes.bar(
        places + 0.2,
        [one.value for one in areas],
        0.36,
        yerr=[one.half_width or 0 for one in areas],
        color=[format_colour(colour) for colour in found.classes.colours],
        edgecolor="0.2",
        capsize=4,
        label="estimated, 95 %",
    )
    axes.set_xticks(places, names, rotation=20 if len(names) > 4 else 0)
    axes.set_ylabel("ha")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    axes.set_title("Area: by counting pixels (grey) and estimated (in class colours)", fontsize=10)
    save_figure(figure, path, dpi=DPI)
