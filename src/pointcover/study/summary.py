"""Summarise a study: scores by method and budget, label efficiency, and comparisons, as tables."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pointcover.study.plan import DENSE, Study, axis_text
from pointcover.study.records import Record, scores_by_seed
from pointcover.study.statistics import (
    Difference,
    Interval,
    Needed,
    area_under_curve,
    clicks_needed,
    compare,
    mean_interval,
    noise_floor,
    ratio_interval,
)

NONE = "-"
Axes = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Table:
    """A table of texts, for CSV, Markdown and HTML."""

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Cell:
    """Records of all seeds of one method at one budget."""

    points: int
    records: tuple[Record, ...]

    @property
    def miou(self) -> Interval | None:
        """Return the mean test mIoU with its interval over seeds."""
        scores = list(scores_by_seed(self.records).values())
        return mean_interval(scores) if scores else None

    def mean(self, name: str) -> float | None:
        """Return the mean of a number over seeds; None if a seed lacks it."""
        return _mean([record.numbers[name] for record in self.records])

    def hours(self, seconds_per_click: float) -> float | None:
        """Return the mean annotation time in hours; None without clicks."""
        clicks = self.mean("clicks")
        return clicks * seconds_per_click / 3600 if clicks else None

    def mean_iou(self, name: str) -> float | None:
        """Return the mean IoU of a class over the seeds that have one."""
        return _mean([iou for r in self.records if (iou := r.iou.get(name)) is not None])


@dataclass(frozen=True)
class Line:
    """A method at one value of each axis: its budgets, and the dense reference of the same axes."""

    name: str
    method: str
    axes: Axes
    cells: tuple[Cell, ...]
    """In ascending order of the budgets."""
    dense: Cell | None

    def scores(self) -> dict[float, dict[int, float]]:
        """Return mIoU by mean clicks per tile and by seed."""
        return {
            clicks: scores_by_seed(cell.records)
            for cell in self.cells
            if (clicks := cell.mean("clicks_per_tile")) and scores_by_seed(cell.records)
        }

    def scores_by_points(self) -> dict[float, dict[int, float]]:
        """Return mIoU by nominal budget and by seed."""
        return {cell.points: scores_by_seed(cell.records) for cell in self.cells}


@dataclass(frozen=True)
class Summary:
    """A study with its results and tables, the input of a report."""

    study: Study
    records: tuple[Record, ...]
    lines: tuple[Line, ...]
    classes: tuple[str, ...]
    floor: float | None
    tables: tuple[Table, ...] = field(default=())


def summarise(study: Study, records: Sequence[Record]) -> Summary:
    """Group a study's records by method and budget, and compute its tables.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("the study has no result yet: see the logs of its experiments, and run it")
    lines = _lines_of(study, records)
    cells = [cell for line in lines for cell in line.cells]
    cells += references_of(lines).values()
    floor = noise_floor([list(scores_by_seed(cell.records).values()) for cell in cells])
    classes = tuple(dict.fromkeys(name for record in records for name in record.iou))
    bare = Summary(study, tuple(records), lines, classes, floor)
    makers: tuple[Callable[[Summary], Table | None], ...] = (
        budgets_table,
        results_table,
        efficiency_table,
        questions_table,
        differences_table,
        published_table,
        classes_table,
        experiments_table,
    )
    tables = tuple(table for make in makers if (table := make(bare)) is not None)
    return replace(bare, tables=tables)


def _lines_of(study: Study, records: Sequence[Record]) -> tuple[Line, ...]:
    by_line: dict[tuple[str, Axes], dict[int, list[Record]]] = {}
    dense: dict[Axes, list[Record]] = {}
    for record in records:
        if record.method == DENSE:
            dense.setdefault(record.axes, []).append(record)
        else:
            budgets = by_line.setdefault((record.method, record.axes), {})
            budgets.setdefault(record.points, []).append(record)
    references = {axes: Cell(0, tuple(found)) for axes, found in dense.items()}
    order = list(study.methods)
    ranked = sorted(by_line, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
    lines = [
        Line(
            line_name(method, axes),
            method,
            axes,
            tuple(Cell(points, tuple(budgets[points])) for points in sorted(budgets)),
            references.get(axes),
        )
        for method, axes in ranked
        for budgets in [by_line[method, axes]]
    ]
    alone = [axes for axes in references if axes not in {line.axes for line in lines}]
    lines += [Line(line_name(DENSE, axes), DENSE, axes, (), references[axes]) for axes in alone]
    return tuple(lines)


def references_of(lines: Sequence[Line]) -> dict[Axes, Cell]:
    """Return the dense reference of each combination of the axes' values."""
    return {line.axes: line.dense for line in lines if line.dense}


def exceeded_references(summary: Summary) -> list[str]:
    """Return a warning for each dense reference that a method exceeds by more than the noise."""
    warnings = []
    for axes, dense in references_of(summary.lines).items():
        beside = [
            (cell.miou.value, f"{line.name} at {cell.points} points")
            for line in summary.lines
            if line.axes == axes
            for cell in line.cells
            if cell.miou
        ]
        if not beside or not dense.miou:
            continue
        miou, name = max(beside)
        if miou > dense.miou.value + (summary.floor or 0):
            warnings.append(
                f"{name} scores {miou:.3f}, {line_name(DENSE, axes)} {dense.miou.value:.3f}: the "
                f"dense reference is undertrained, so fractions of dense, N90 and N95 are not "
                f"meaningful. Under `dense:` in the study file, set more epochs, "
                f"`train.balance: class`, or a better network."
            )
    return warnings


def line_name(method: str, axes: Axes) -> str:
    """Return the name of a line in figures and tables: the method, and the values of the axes."""
    return ", ".join([method, *(axis_text(key, value) for key, value in axes)])


def budgets_table(summary: Summary) -> Table | None:
    """Return mIoU by method and budget; None if there is only one budget."""
    budgets = sorted({cell.points for line in summary.lines for cell in line.cells})
    if len(budgets) < 2:
        return None
    dense = references_of(summary.lines)
    rows = [
        (line_name(DENSE, axes), *("" for _ in budgets), plus_minus(cell.miou))
        for axes, cell in dense.items()
    ]
    for line in summary.lines:
        found = {cell.points: plus_minus(cell.miou) for cell in line.cells}
        if found:
            rows.append((line.name, *(found.get(one, "") for one in budgets), *("",) * bool(dense)))
    seeds = sorted({len(cell.records) for line in summary.lines for cell in line.cells})
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    note = (
        f"mIoU on the dense test masks, by points: mean over {counts} seed(s) ± half of the 95 % "
        f"interval (t distribution)."
    )
    header = ("method", *map(str, budgets), *("all pixels",) * bool(dense))
    return Table("budgets", "mIoU by budget", note, header, tuple(rows))


def results_table(summary: Summary) -> Table:
    """Return scores and annotation costs by method and budget."""
    rows = []
    for axes, dense in references_of(summary.lines).items():
        rows.append(_result_row(line_name(DENSE, axes), dense, None, summary.study))
    for line in summary.lines:
        for cell in line.cells:
            rows.append(_result_row(line.name, cell, line.dense, summary.study))
    seconds = summary.study.seconds_per_click
    note = (
        f"mIoU on the dense test masks: mean over seeds ± half of the 95 % interval (t "
        f"distribution). Fraction of dense: ratio to the dense model of the same seed. Clicks are "
        f"those that were made, at {seconds:g} s a click. Labelled fraction: of all train pixels, "
        f"including propagated labels. Wrong labels: fraction of the propagated labels."
    )
    header = (
        "method",
        "points",
        "mIoU",
        "fraction of dense",
        "clicks per tile",
        "clicks per km²",
        "labelled fraction",
        "wrong labels",
        "hours",
        "seeds",
    )
    return Table("results", "Scores and costs by label budget", note, header, tuple(rows))


def _result_row(name: str, cell: Cell, dense: Cell | None, study: Study) -> tuple[str, ...]:
    is_dense = not cell.points
    clicks, area = cell.mean("clicks"), cell.mean("area_km2")
    ratio = None
    if dense:
        ratio = ratio_interval(scores_by_seed(cell.records), scores_by_seed(dense.records))
    return (
        name,
        NONE if is_dense else str(cell.points),
        plus_minus(cell.miou),
        plus_minus(ratio, in_percent=True),
        NONE if is_dense else number(cell.mean("clicks_per_tile")),
        NONE if is_dense or not clicks or not area else number(clicks / area),
        percent(cell.mean("labelled_fraction")),
        percent(cell.mean("label_error")),
        NONE if is_dense else number(cell.hours(study.seconds_per_click)),
        str(len(cell.records)),
    )


def efficiency_table(summary: Summary) -> Table | None:
    """Return the clicks that reach 90 and 95 % of dense, and the area under the curve."""
    rows = []
    for line in summary.lines:
        scores = line.scores()
        dense = scores_by_seed(line.dense.records) if line.dense else {}
        needed = [
            clicks_needed(scores, dense, part, np.random.default_rng(0)) for part in (0.9, 0.95)
        ]
        best = _best_of_baseline(summary, line.axes)
        needed.append(clicks_needed(scores, best, 1, np.random.default_rng(0)))
        means = {clicks: float(np.mean(list(seeds.values()))) for clicks, seeds in scores.items()}
        area = area_under_curve(means)
        if area is not None:
            budgets = sorted(means)
            rows.append((line.name, *(clicks_text(n, budgets) for n in needed), f"{area:.3f}"))
    if not rows:
        return None
    note = (
        "Clicks per tile that reach 90 and 95 % of the dense model's mIoU, and the mIoU of "
        f"{_baseline_of(summary.study)} with its largest budget, interpolated in log(clicks) "
        "after isotonic regression, with the 95 % bootstrap interval over seeds; "
        "< and > mean outside the budgets that were run. Area: the mean mIoU over log(clicks), "
        "between the method's own smallest and largest budget."
    )
    as_best = f"clicks for {_baseline_of(summary.study)}'s best"
    header = ("method", "N90", "N95", as_best, "area under mIoU over log(clicks)")
    return Table("efficiency", "Clicks for a fraction of dense", note, header, tuple(rows))


def _baseline_of(study: Study) -> str:
    return study.baseline or next(iter(study.methods))


def _best_of_baseline(summary: Summary, axes: Axes) -> dict[int, float]:
    """Return the baseline's scores at its largest budget, by seed."""
    baseline = _baseline_of(summary.study)
    for line in summary.lines:
        if line.method == baseline and line.axes == axes and line.cells:
            return scores_by_seed(line.cells[-1].records)
    return {}


def differences_table(summary: Summary) -> Table | None:
    """Compare every method with the baseline, within the same values of the axes."""
    baseline = _baseline_of(summary.study)
    lines = {line.name: line for line in summary.lines}
    pairs = [
        (line.name, line_name(baseline, line.axes))
        for line in summary.lines
        if line.method != baseline and line_name(baseline, line.axes) in lines
    ]
    rows = _difference_rows(_compared(summary, pairs))
    if not rows:
        return None
    return Table("differences", f"Against {baseline}", _difference_note(summary), _DIFFERENCE, rows)


def questions_table(summary: Summary) -> Table | None:
    """Return for each claim that one method is better than another whether it holds here."""
    axes = list(dict.fromkeys(line.axes for line in summary.lines))
    rows: list[tuple[str, ...]] = []
    questions = [
        (question, (line_name(question.better, at), line_name(question.than, at)))
        for question in summary.study.questions
        for at in axes
    ]
    found = {(d.better, d.than): d for d in _compared(summary, [pair for _, pair in questions])}
    for question, pair in questions:
        if pair in found:
            difference = found[pair]
            answer = {"better": "yes", "worse": "no, the opposite"}.get(
                difference.verdict, f"not shown: {difference.verdict}"
            )
            text = question.text or f"{pair[0]} is better than {pair[1]}"
            rows.append((text, *_difference_rows([difference])[0][:-1], answer))
    if not rows:
        return None
    header = ("claim", *_DIFFERENCE[:-1], "does it hold here?")
    return Table("questions", "Claims", _difference_note(summary), header, tuple(rows))


_DIFFERENCE = ("method", "than", "difference in mIoU", "p", "p (Holm)", "verdict")


def _compared(summary: Summary, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
    scores: dict[str, Mapping[float, Mapping[int, float]]] = {}
    for line in summary.lines:
        scores[line.name] = line.scores_by_points()
        if line.dense:  # it has no budget, so it is compared at each
            dense = scores_by_seed(line.dense.records)
            beside = scores.setdefault(line_name(DENSE, line.axes), {})
            scores[line_name(DENSE, line.axes)] = {
                **beside,
                **dict.fromkeys((cell.points for cell in line.cells), dense),
            }
    return compare(scores, pairs, summary.floor)


def _difference_rows(differences: Iterable[Difference]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            d.better,
            d.than,
            plus_minus(d.difference, signed=True),
            p_text(d.p_value),
            p_text(d.holm),
            d.verdict,
        )
        for d in differences
    )


def _difference_note(summary: Summary) -> str:
    floor = "not known (one seed)" if summary.floor is None else f"{summary.floor:.3f}"
    return (
        "Mean over the budgets that both have, by seed, ± half of the 95 % interval; paired "
        "t-test over seeds, with Holm's correction over this table. Noise floor (pooled standard "
        f"deviation between seeds of one configuration): {floor}; a difference smaller than its "
        "standard error from this noise is n.s. for any p."
    )


def published_table(summary: Summary) -> Table | None:
    """Return published results with those of this study."""
    rows = []
    for claim in summary.study.published:
        for line in summary.lines:
            if not claim.is_of(line.axes):
                continue
            cells = line.cells if line.method == claim.method else ()
            if claim.method == DENSE and line.dense:
                cells = (line.dense,)
            for cell in cells:
                if claim.points in (None, cell.points) or claim.method == DENSE:
                    budget = NONE if claim.points is None else str(claim.points)
                    name = line_name(claim.method, line.axes)
                    rows.append((name, budget, f"{claim.miou:.3f}", plus_minus(cell.miou)))
    if not rows:
        return None
    note = "Data and splits differ: compare the trends, not the values."
    header = ("method", "points", "published", "here")
    return Table("published", "Published results", note, header, tuple(dict.fromkeys(rows)))


def classes_table(summary: Summary) -> Table:
    """Return the IoU of each class."""
    rows = []
    seen: set[Axes] = set()
    for line in summary.lines:
        cells = [(line.name, cell) for cell in line.cells]
        if line.dense and line.axes not in seen:
            seen.add(line.axes)
            cells.insert(0, (line_name(DENSE, line.axes), line.dense))
        for name, cell in cells:
            ious = [score(cell.mean_iou(class_name)) for class_name in summary.classes]
            rows.append((name, str(cell.points) if cell.points else NONE, *ious))
    header = ("method", "points", *summary.classes)
    note = "Test IoU, mean over seeds."
    return Table("classes", "By class", note, header, tuple(rows))


def experiments_table(summary: Summary) -> Table:
    """Return the scores of each experiment, with its name."""
    rows = [
        (
            record.experiment,
            line_name(record.method, record.axes),
            NONE if record.method == DENSE else str(record.points),
            str(record.seed),
            score(record.numbers["miou"]),
            score(record.numbers["accuracy"]),
            number(record.numbers["clicks"]),
            number(record.numbers["seconds"]),
        )
        for record in summary.records
    ]
    header = ("experiment", "method", "points", "seed", "mIoU", "accuracy", "clicks", "seconds")
    note = (
        "Names are those of DVC experiments and MLflow runs. Seconds are missing where a result "
        "existed already."
    )
    return Table("experiments", "All experiments", note, header, tuple(rows))


def plus_minus(interval: Interval | None, *, in_percent: bool = False, signed: bool = False) -> str:
    """Format a value with half the width of its interval."""
    if interval is None:
        return NONE
    scale, digits, unit = (100, 1, " %") if in_percent else (1, 3, "")
    half = interval.half_width
    value = f"{scale * interval.value:{'+' if signed else ''}.{digits}f}"
    return value + (f" ± {scale * half:.{digits}f}" if half is not None else "") + unit


def clicks_text(needed: Needed | None, budgets: Sequence[float]) -> str:
    """Format clicks with their interval; values outside the budgets as < or >."""
    if needed is None:
        return NONE

    def one(value: float) -> str:
        if value == 0:
            return f"< {number(budgets[0])}"
        return f"> {number(budgets[-1])}" if math.isinf(value) else number(value)

    text = one(needed.clicks)
    if needed.low is None or needed.high is None:
        return text
    low, high = one(needed.low), one(needed.high)
    return text if text == low == high else f"{text} ({low} to {high})"


def p_text(value: float | None) -> str:
    """Format a p-value."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def score(value: float | None) -> str:
    """Format a score from 0 to 1."""
    return NONE if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Format a fraction as a percentage."""
    return NONE if value is None else f"{100 * value:.3g} %"


def number(value: float | None) -> str:
    """Format a count or a cost, with at least three digits."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
