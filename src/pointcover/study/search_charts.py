"""Draw a search's figures as SVG, as those of a study."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pointcover.study.charts import COLOURS, COLUMNS, style_plain, svg_of
from pointcover.study.search_plan import OBJECTIVE, Range, Search
from pointcover.study.trials import Trial, best_of


def draw_history(trials: Sequence[Trial]) -> str:
    """Draw the score of each trial, and the best one so far; return an <svg> element."""
    scored = [(trial.number, trial.score) for trial in trials if trial.score is not None]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    style_plain(axes)
    numbers = [number for number, _ in scored]
    best = [max(score for n, score in scored if n <= number) for number in numbers]
    axes.plot(numbers, [score for _, score in scored], "o", color=COLOURS[0], markersize=5)
    axes.step(numbers, best, where="post", color=COLOURS[1], linewidth=1.5)
    axes.set_xlabel("trial")
    axes.set_ylabel(OBJECTIVE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return svg_of(figure)


def draw_settings(search: Search, trials: Sequence[Trial]) -> str:
    """Draw the scores by each setting, the best trial filled; return an <svg> element."""
    scored = [trial for trial in trials if trial.score is not None]
    best = best_of(scored)
    names = list(search.params)
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(8, 2.6 * rows), layout="constrained")
    plots = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat
    for axes, name in zip(plots, names, strict=False):
        style_plain(axes)
        space = search.params[name]
        axes.set_title(name.removeprefix("train."), fontsize=8)
        if isinstance(space, Range):
            places = {trial.number: trial.params[name] for trial in scored}
            axes.set_xscale("log" if space.log else "linear")
        else:
            choices = list(space)
            places = {trial.number: choices.index(trial.params[name]) for trial in scored}
            axes.set_xticks(range(len(choices)), [str(one)[:14] for one in choices])
            axes.set_xlim(-0.5, len(choices) - 0.5)
        for trial in scored:
            face = COLOURS[0] if trial is best else "none"
            axes.plot(
                places[trial.number],
                trial.score,
                "o",
                markersize=5,
                color=COLOURS[0],
                markerfacecolor=face,
            )
    for axes in list(figure.axes)[len(names) :]:
        axes.remove()
    figure.axes[0].set_ylabel(OBJECTIVE)
    return svg_of(figure)
