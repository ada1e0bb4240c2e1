"""A study's figures: SVG that takes its ink from the page, readable on dark and on light."""

import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pointcover.study.plan import DENSE
from pointcover.study.statistics import Interval
from pointcover.study.summary import Cell, Line, Summary, line_name, references_of

_INK = "#010203"
"""Stands for the page's text colour, which SVG calls currentColor."""

# Okabe and Ito, told apart by the colour-blind: those that show on black and on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6BB1", "#7F7F7F")
MARKERS = "osD^vPX*"
COLUMNS = 3
MARGIN = 0.1
"""mIoU above and below the means that a figure shows."""


def draw_curves(summary: Summary) -> str:
    """Draw mIoU against clicks per tile, with intervals, the dense reference and published figures.

    Returns:
        An <svg> element.
    """
    figure, axes = _one_plot("clicks per tile", "test mIoU")
    _draw_lines(
        axes, summary.lines, lambda cell: cell.mean("clicks_per_tile"), lambda cell: cell.miou
    )
    _draw_dense(axes, summary.lines, lambda cell: cell.miou)
    published: list[float] = []
    for number, line in enumerate(summary.lines):
        clicks = {cell.points: cell.mean("clicks_per_tile") for cell in line.cells}
        places = [
            (clicks[claim.points], claim.miou)
            for claim in summary.study.published
            if claim.method == line.method and claim.points in clicks
            and claim.is_of(line.axes)
        ]  # fmt: skip
        published += [miou for _, miou in places]
        if places:
            axes.plot(
                *zip(*places, strict=True), linestyle="none", marker=MARKERS[number % len(MARKERS)],
                markerfacecolor="none", color=COLOURS[number % len(COLOURS)],
                label=f"{line.name}, published",
            )  # fmt: skip
    return _finish(figure, axes, summary.lines, published)


def draw_costs(summary: Summary) -> str:
    """Draw mIoU against hours of clicking."""
    seconds = summary.study.seconds_per_click
    figure, axes = _one_plot(f"hours of clicking, {seconds:g} s a click", "test mIoU")
    _draw_lines(axes, summary.lines, lambda cell: cell.hours(seconds), lambda cell: cell.miou)
    _draw_dense(axes, summary.lines, lambda cell: cell.miou)
    return _finish(figure, axes, summary.lines, [])


def draw_classes(summary: Summary) -> str:
    """Draw the IoU of each class against clicks per tile, a plot a class."""
    scored = [
        name
        for name in summary.classes
        if any(record.iou.get(name) is not None for record in summary.records)
    ]
    count = len(scored)
    rows = max(1, -(-count // COLUMNS))
    figure = Figure(figsize=(8, 2.5 * rows + 0.6), layout="constrained")
    plots = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat
    for axes, name in zip(plots, scored, strict=False):
        _style(axes, "clicks per tile", "")
        axes.set_title(name, fontsize=9)

        def iou(cell: Cell, name: str = name) -> Interval | None:
            value = cell.mean_iou(name)
            return None if value is None else Interval(value, None, None, len(cell.records))

        _draw_lines(axes, summary.lines, lambda cell: cell.mean("clicks_per_tile"), iou)
        _draw_dense(axes, summary.lines, iou)
    for axes in list(figure.axes)[count:]:
        axes.remove()
    first = figure.axes[0]
    first.set_ylabel("test IoU")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False,
        labelcolor=_INK,
    )  # fmt: skip
    return _svg(figure)


def _one_plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    _style(axes, x_label, y_label)
    return figure, axes


def _style(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_lines(
    axes: Axes, lines: Sequence[Line], place: Callable[[Cell], float | None],
    value: Callable[[Cell], Interval | None],
) -> None:  # fmt: skip
    for number, line in enumerate(lines):
        points = [
            (x, interval)
            for cell in line.cells
            if (x := place(cell)) and (interval := value(cell)) is not None
        ]
        if points:
            axes.errorbar(
                [x for x, _ in points], [interval.value for _, interval in points],
                yerr=[interval.half_width or 0 for _, interval in points],
                label=line.name, color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)], markersize=5, linewidth=1.5, capsize=3,
            )  # fmt: skip


def _draw_dense(
    axes: Axes, lines: Sequence[Line], value: Callable[[Cell], Interval | None]
) -> None:
    for number, (at, cell) in enumerate(references_of(lines).items()):
        interval = value(cell)
        if interval is not None:
            dash = ("--", ":", "-.")[number % 3]
            axes.axhline(
                interval.value, color=_INK, linestyle=dash, linewidth=1, label=line_name(DENSE, at)
            )
            if interval.low is not None and interval.high is not None:
                axes.axhspan(interval.low, interval.high, color=_INK, alpha=0.07, linewidth=0)


def _finish(figure: Figure, axes: Axes, lines: Sequence[Line], others: Sequence[float]) -> str:
    """Show all means: the intervals of two seeds may reach from 0 to 1, and would flatten them."""
    cells = [cell for line in lines for cell in (*line.cells, line.dense) if cell]
    means = [interval.value for cell in cells if (interval := cell.miou) is not None]
    if means:
        low, high = min([*means, *others]), max([*means, *others])
        axes.set_ylim(max(0, low - MARGIN), min(1, high + MARGIN))
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="best")
    return _svg(figure)


def _svg(figure: Figure) -> str:
    for axes in figure.axes:
        axes.tick_params(colors=_INK, which="both", labelsize=8)
        for spine in axes.spines.values():
            spine.set_edgecolor(_INK)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(_INK)
    figure.patch.set_alpha(0)
    out = io.StringIO()
    # Text stays text, to be searched and read aloud; the same figure is the same bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pointcover"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
