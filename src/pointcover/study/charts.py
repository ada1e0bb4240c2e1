"""Draw a study's figures as SVG in the text colour of the page, for light and dark pages."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pointcover.study.plan import DENSE
from pointcover.study.statistics import Interval
from pointcover.study.summary import Cell, Line, Summary, line_name, references_of

_INK = "#010203"
"""Placeholder for the page's text colour, which is `currentColor` in SVG."""

# From the colour-blind safe palette of Okabe and Ito, those visible on black and on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6BB1", "#7F7F7F")
MARKERS = "osD^vPX*"
COLUMNS = 3
MOST_ON_CURVE = 6
"""Budgets with more methods than this have a plot of their own, with one row a method."""
MARGIN = 0.1
"""Part of the mIoU axis above and below the means."""
ONE_PLACE = 1.01
"""x values with a smaller ratio of the largest to the smallest count as one, and get a margin."""


def draw_curves(summary: Summary) -> str:
    """Draw mIoU by clicks per tile, with intervals, dense reference and published results.

    Returns:
        an <svg> element.
    """
    figure, axes = _one_plot("clicks per tile", "test mIoU")
    shown = _curved(summary.lines)
    _draw_lines(axes, shown, lambda cell: cell.mean("clicks_per_tile"), lambda cell: cell.miou)
    _draw_dense(axes, summary.lines, lambda cell: cell.miou)
    published: list[float] = []
    for number, line in shown:
        clicks = {cell.points: cell.mean("clicks_per_tile") for cell in line.cells}
        places = [(clicks[points], miou) for points, miou in _claims(summary, line)]
        published += [miou for _, miou in places]
        if places:
            axes.plot(
                *zip(*places, strict=True),
                linestyle="none",
                markerfacecolor="none",
                label=f"{line.name}, published",
                **look(number),
            )
    return _finish(figure, axes, [line for _, line in shown], published)


def draw_methods(summary: Summary) -> str:
    """Draw the methods of each budget with more than MOST_ON_CURVE, one row a method.

    Returns:
        an <svg> element; empty if there is no such budget.
    """
    budgets = _crowded(summary.lines)
    if not budgets:
        return ""
    by_budget = {
        points: [
            (number, line, miou)
            for number, line in enumerate(summary.lines)
            for cell in line.cells
            if cell.points == points and (miou := cell.miou) is not None
        ]
        for points in budgets
    }
    dense = [
        (number, cell.miou.value)
        for number, cell in enumerate(references_of(summary.lines).values())
        if cell.miou
    ]
    heights = [0.26 * len(rows) + 0.9 for rows in by_budget.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    plots = figure.subplots(len(budgets), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (points, rows) in zip(plots, by_budget.items(), strict=True):
        axes.set_title(f"{points:,} points", fontsize=9)
        axes.set_xlabel("test mIoU")
        style_plain(axes)
        shown = [value for _, value in dense]
        for at, (number, line, miou) in enumerate(rows):
            axes.errorbar(
                miou.value, at, xerr=miou.half_width or 0, markersize=5, capsize=3, **look(number)
            )
            claimed = [score for budget, score in _claims(summary, line) if budget == points]
            axes.plot(
                claimed,
                [at] * len(claimed),
                linestyle="none",
                markersize=5,
                markerfacecolor="none",
                **look(number),
            )
            shown += [miou.value, *claimed]
        axes.set_yticks(range(len(rows)), [line.name for _, line, _ in rows])
        axes.invert_yaxis()
        for number, value in dense:
            axes.axvline(value, color=_INK, linestyle=_dash(number), linewidth=1)
        axes.set_xlim(max(0, min(shown) - MARGIN), min(1, max(shown) + MARGIN))
    return svg_of(figure)


def _claims(summary: Summary, line: Line) -> list[tuple[int, float]]:
    """Return the published results of a line at its budgets: points and mIoU."""
    return [
        (claim.points, claim.miou)
        for claim in summary.study.published
        if claim.method == line.method and claim.points in _budgets(line) and claim.is_of(line.axes)
    ]


def draw_costs(summary: Summary) -> str:
    """Draw mIoU by annotation time; return an <svg> element."""
    seconds = summary.study.seconds_per_click
    figure, axes = _one_plot(f"annotation time in hours, {seconds:g} s a click", "test mIoU")
    shown = _curved(summary.lines)
    _draw_lines(axes, shown, lambda cell: cell.hours(seconds), lambda cell: cell.miou)
    _draw_dense(axes, summary.lines, lambda cell: cell.miou)
    return _finish(figure, axes, [line for _, line in shown], [])


def draw_classes(summary: Summary) -> str:
    """Draw the IoU of each class by clicks per tile, one plot a class; return an <svg> element."""
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

        _draw_lines(axes, _curved(summary.lines), lambda cell: cell.mean("clicks_per_tile"), iou)
        _draw_dense(axes, summary.lines, iou)
    for axes in list(figure.axes)[count:]:
        axes.remove()
    first = figure.axes[0]
    first.set_ylabel("test IoU")
    _add_legend(figure, first)
    return svg_of(figure)


def _crowded(lines: Sequence[Line]) -> list[int]:
    """Return the budgets with more methods than MOST_ON_CURVE."""
    points = sorted({cell.points for line in lines for cell in line.cells})
    return [p for p in points if sum(p in _budgets(line) for line in lines) > MOST_ON_CURVE]


def _curved(lines: Sequence[Line]) -> list[tuple[int, Line]]:
    """Return lines drawn as curves, with their numbers: not those of one crowded budget only."""
    crowded = _crowded(lines)
    numbered = list(enumerate(lines))
    return [
        (number, line)
        for number, line in numbered
        if len(line.cells) != 1 or line.cells[0].points not in crowded
    ] or numbered


def _budgets(line: Line) -> set[int]:
    return {cell.points for cell in line.cells}


def look(number: int) -> dict[str, Any]:
    """Return a line's colour and marker; the pairs of the first 64 lines are distinct."""
    marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return {"color": COLOURS[number % len(COLOURS)], "marker": marker}


def _dash(number: int) -> str:
    return ("--", ":", "-.")[number % 3]


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
    style_plain(axes)


def style_plain(axes: Axes) -> None:
    """Draw a light grid, and no frame at the top and on the right."""
    axes.grid(alpha=0.25)
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_lines(
    axes: Axes,
    numbered: Sequence[tuple[int, Line]],
    place: Callable[[Cell], float | None],
    value: Callable[[Cell], Interval | None],
) -> None:
    drawn = {
        number: [
            (x, interval)
            for cell in line.cells
            if (x := place(cell)) and (interval := value(cell)) is not None
        ]
        for number, line in numbered
    }
    places = [x for points in drawn.values() for x, _ in points]
    if places and max(places) < ONE_PLACE * min(places):
        axes.set_xlim(min(places) / 2, 2 * max(places))
    for number, line in numbered:
        if points := drawn[number]:
            axes.errorbar(
                [x for x, _ in points],
                [interval.value for _, interval in points],
                yerr=[interval.half_width or 0 for _, interval in points],
                label=line.name,
                markersize=5,
                linewidth=1.5,
                capsize=3,
                **look(number),
            )


def _draw_dense(
    axes: Axes, lines: Sequence[Line], value: Callable[[Cell], Interval | None]
) -> None:
    for number, (at, cell) in enumerate(references_of(lines).items()):
        interval = value(cell)
        if interval is not None:
            axes.axhline(
                interval.value,
                color=_INK,
                linestyle=_dash(number),
                linewidth=1,
                label=line_name(DENSE, at),
            )
            if interval.low is not None and interval.high is not None:
                axes.axhspan(interval.low, interval.high, color=_INK, alpha=0.07, linewidth=0)


def _finish(figure: Figure, axes: Axes, lines: Sequence[Line], others: Sequence[float]) -> str:
    """Set the y axis by the means alone, since intervals of two seeds may reach from 0 to 1."""
    cells = [cell for line in lines for cell in (*line.cells, line.dense) if cell]
    means = [interval.value for cell in cells if (interval := cell.miou) is not None]
    if means:
        low, high = min([*means, *others]), max([*means, *others])
        axes.set_ylim(max(0, low - MARGIN), min(1, high + MARGIN))
    _add_legend(figure, axes)
    return svg_of(figure)


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Add the legend of `axes` below the plots."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=COLUMNS,
        fontsize=8,
        frameon=False,
        labelcolor=_INK,
    )


def svg_of(figure: Figure) -> str:
    """Return a figure as an <svg> element in the text colour of the page."""
    for axes in figure.axes:
        axes.tick_params(colors=_INK, which="both", labelsize=8)
        for spine in axes.spines.values():
            spine.set_edgecolor(_INK)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(_INK)
    figure.patch.set_alpha(0)
    out = io.StringIO()
    # Text is written as text, for search and screen readers. Equal figures have equal bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pointcover"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
