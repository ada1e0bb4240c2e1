"""Draw a study's figures as SVG in the text colour of the page, for light and dark pages."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pointcover.study.plan import DENSE, axis_text
from pointcover.study.statistics import Interval
from pointcover.study.summary import Axes as AxesValues
from pointcover.study.summary import Cell, Line, Summary, line_name, references_of

_INK = "#010203"
"""Placeholder for the page's text colour, which is `currentColor` in SVG."""

# From the colour-blind safe palette of Okabe and Ito, those visible on black and on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6BB1", "#7F7F7F")
MARKERS = "osD^vPX*"
COLUMNS = 3
MOST_ON_CURVE = 6
"""Budgets with more methods than this have a plot of their own, with one row a method."""
LETTER, HANDLE = 0.065, 0.6
"""Width in inches of a letter of the legend, and of the rest of an entry."""
LEGEND = 0.3
"""Height in inches of a legend of one row."""
MARGIN = 0.1
"""Part of the mIoU axis above and below the means."""
ONE_PLACE = 1.01
"""x values with a smaller ratio of the largest to the smallest count as one, and get a margin."""


def draw_curves(summary: Summary) -> str:
    """Draw mIoU by clicks per tile, with intervals, dense reference and published results.

    Returns:
        an <svg> element.
    """
    panels = _panels(summary)
    figure, plots = _draw_scores(
        panels, "clicks per tile", lambda cell: cell.mean("clicks_per_tile")
    )
    published: list[float] = []
    for axes, (_, shown) in zip(plots, panels, strict=True):
        for number, line in shown:
            clicks = {cell.points: cell.mean("clicks_per_tile") for cell in line.cells}
            places = [(clicks[points], miou) for points, miou in _claims(summary, line)]
            published += [miou for _, miou in places]
            if places:
                axes.plot(
                    *zip(*places, strict=True),
                    linestyle="none",
                    markerfacecolor="none",
                    label=f"{line.method}, published",
                    **look(number),
                )
    return _finish(figure, panels, published)


def draw_methods(summary: Summary) -> str:
    """Draw the methods of each budget with more than MOST_ON_CURVE, one row a method.

    Returns:
        an <svg> element; empty if there is no such budget.
    """
    budgets = _crowded(summary.lines)
    if not budgets:
        return ""
    places = list(dict.fromkeys(line.axes for line in summary.lines))
    ordered = sorted(_numbered(summary.lines), key=lambda one: places.index(one[1].axes))
    by_budget = {
        points: [
            (number, line, miou)
            for number, line in ordered
            for cell in line.cells
            if cell.points == points and (miou := cell.miou) is not None
        ]
        for points in budgets
    }
    dense = [
        (number, line_name(DENSE, at), cell.miou.value)
        for number, (at, cell) in enumerate(references_of(summary.lines).items())
        if cell.miou
    ]
    heights = [0.26 * len(rows) + 0.9 for rows in by_budget.values()]
    figure = Figure(figsize=(8, sum(heights) + LEGEND * bool(dense)), layout="constrained")
    plots = figure.subplots(len(budgets), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (points, rows) in zip(plots, by_budget.items(), strict=True):
        axes.set_title(f"{points:,} points", fontsize=9)
        axes.set_xlabel("test mIoU")
        style_plain(axes)
        shown = [value for _, _, value in dense]
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
        for number, name, value in dense:
            axes.axvline(value, color=_INK, linestyle=_dash(number), linewidth=1, label=name)
        axes.set_xlim(max(0, min(shown) - MARGIN), min(1, max(shown) + MARGIN))
    if dense:
        _add_legend(figure)
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
    panels = _panels(summary)
    figure, _ = _draw_scores(
        panels,
        f"annotation time in hours, {seconds:g} s a click",
        lambda cell: cell.hours(seconds),
    )
    return _finish(figure, panels, [])


def draw_classes(summary: Summary) -> str:
    """Draw the IoU of each class by clicks per tile, one plot a class.

    Returns:
        an <svg> element; empty if no class has a score.
    """
    scored = [
        name
        for name in summary.classes
        if any(record.iou.get(name) is not None for record in summary.records)
    ]
    if not scored:
        return ""
    panels = [(name, *panel) for panel in _panels(summary) for name in scored]
    figure, plots = _plots(len(panels), COLUMNS, 2.5)
    for axes, (name, at, shown) in zip(plots, panels, strict=True):
        _style(axes, "clicks per tile")
        axes.set_title(line_name(name, at), fontsize=9)

        def iou(cell: Cell, name: str = name) -> Interval | None:
            value = cell.mean_iou(name)
            return None if value is None else Interval(value, None, None, len(cell.records))

        _draw_lines(axes, shown, lambda cell: cell.mean("clicks_per_tile"), iou)
        _draw_dense(axes, shown[0][1].dense, iou)
    for axes in plots[::COLUMNS]:
        axes.set_ylabel("test IoU")
    _add_legend(figure)
    return svg_of(figure)


Panel = tuple[AxesValues, list[tuple[int, Line]]]
"""The values of the study's axes, and the numbered lines with them."""


def _panels(summary: Summary) -> list[Panel]:
    """Return the lines that are drawn as curves, by the values of the study's axes.

    Not those of one crowded budget only, unless there are no others.
    """
    crowded = _crowded(summary.lines)
    numbered = _numbered(summary.lines)
    curved = [
        (number, line)
        for number, line in numbered
        if len(line.cells) != 1 or line.cells[0].points not in crowded
    ]
    panels: dict[AxesValues, list[tuple[int, Line]]] = {}
    for number, line in curved or numbered:
        panels.setdefault(line.axes, []).append((number, line))
    return list(panels.items())


def _numbered(lines: Sequence[Line]) -> list[tuple[int, Line]]:
    """Return lines with the numbers of their methods, which determine colours and markers."""
    methods = list(dict.fromkeys(line.method for line in lines))
    return [(methods.index(line.method), line) for line in lines]


def _draw_scores(
    panels: Sequence[Panel], x_label: str, place: Callable[[Cell], float | None]
) -> tuple[Figure, list[Axes]]:
    """Draw mIoU with intervals and dense references, one plot for each of the axes' values."""
    figure, plots = _plots(len(panels), 2, 4)
    for axes, (at, shown) in zip(plots, panels, strict=True):
        _style(axes, x_label)
        axes.set_title(", ".join(axis_text(key, value) for key, value in at), fontsize=9)
        _draw_lines(axes, shown, place, lambda cell: cell.miou)
        _draw_dense(axes, shown[0][1].dense, lambda cell: cell.miou)
    for axes in plots[::2]:
        axes.set_ylabel("test mIoU")
    return figure, plots


def _plots(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of plots that share the y axis, of a height in inches."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(8, height * rows + 0.6), layout="constrained")
    plots = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes in plots[count:]:
        axes.remove()
    return figure, plots[:count]


def _crowded(lines: Sequence[Line]) -> list[int]:
    """Return the budgets with more methods than MOST_ON_CURVE at some values of the axes."""
    counts = Counter((cell.points, line.axes) for line in lines for cell in line.cells)
    return sorted({points for (points, _), count in counts.items() if count > MOST_ON_CURVE})


def _budgets(line: Line) -> set[int]:
    return {cell.points for cell in line.cells}


def look(number: int) -> dict[str, Any]:
    """Return a line's colour and marker; the pairs of the first 64 lines are distinct."""
    marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return {"color": COLOURS[number % len(COLOURS)], "marker": marker}


def _dash(number: int) -> str:
    return ("--", ":", "-.")[number % 3]


def _style(axes: Axes, x_label: str) -> None:
    axes.set_xlabel(x_label)
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
                label=line.method,
                markersize=5,
                linewidth=1.5,
                capsize=3,
                **look(number),
            )


def _draw_dense(axes: Axes, dense: Cell | None, value: Callable[[Cell], Interval | None]) -> None:
    if dense is not None and (interval := value(dense)) is not None:
        axes.axhline(interval.value, color=_INK, linestyle=_dash(0), linewidth=1, label=DENSE)
        if interval.low is not None and interval.high is not None:
            axes.axhspan(interval.low, interval.high, color=_INK, alpha=0.07, linewidth=0)


def _finish(figure: Figure, panels: Sequence[Panel], others: Sequence[float]) -> str:
    """Set the y axis by the means alone, since intervals of two seeds may reach from 0 to 1."""
    lines = [line for _, shown in panels for _, line in shown]
    cells = [cell for line in lines for cell in (*line.cells, line.dense) if cell]
    means = [interval.value for cell in cells if (interval := cell.miou) is not None]
    if means:
        low, high = min([*means, *others]), max([*means, *others])
        figure.axes[0].set_ylim(max(0, low - MARGIN), min(1, high + MARGIN))
    _add_legend(figure)
    return svg_of(figure)


def _add_legend(figure: Figure) -> None:
    """Add a legend below the plots, with as many columns as the longest name leaves room for."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(str(label), handle)
    longest = max(map(len, named), default=0)
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=max(1, min(COLUMNS, int(figure.get_figwidth() / (longest * LETTER + HANDLE)))),
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
