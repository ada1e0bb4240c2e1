"""Write a search's report as CSV, Markdown, and one self-contained HTML page."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from pointcover.runtime.atomic_files import publish_csv, publish_text
from pointcover.study.plan import Study, members_of_trial, warnings_of_data
from pointcover.study.report import HTML as HTML
from pointcover.study.report import MARKDOWN as MARKDOWN
from pointcover.study.report import markdown_table, page_of
from pointcover.study.search_charts import draw_history, draw_settings
from pointcover.study.search_plan import OBJECTIVE, Range, Search
from pointcover.study.summary import NONE, Table, percent, score
from pointcover.study.trials import Trial, best_of, importances
from pointcover.tracking.dvc_experiments import override


@dataclass(frozen=True)
class SearchSummary:
    """A search and its trials."""

    study: Study
    search: Search
    trials: tuple[Trial, ...]
    dataset: str = "synthetic"
    """Of params.yaml."""

    @property
    def best(self) -> Trial | None:
        """The trial with the highest validation score."""
        return best_of(self.trials)

    @cached_property
    def importances(self) -> dict[str, float]:
        """How much each setting explains, see `trials.importances`."""
        return importances(self.search, self.trials)

    def sentence(self) -> str:
        """Return the result in a few sentences of Markdown."""
        best = self.best
        if best is None:
            return "No trial has a score."
        scored = sum(trial.score is not None for trial in self.trials)
        said = ", ".join(f"`{key}` {_text(value)}" for key, value in best.params.items())
        return (
            f"Best of {scored} trials by {OBJECTIVE}, the mean over {_count(self.study.seeds)}: "
            f"trial {best.number} with {score(best.score)}: {said}. Its test mIoU is "
            f"{score(best.test)}. The validation score of the best of many trials is too high by "
            f"this choice; the test score is not, if settings are not chosen by it afterwards."
        )

    def warnings(self) -> list[str]:
        """Return warnings that belong before the results."""
        found = warnings_of_data(members_of_trial(self.study, 0, {}), self.dataset, "search")
        without = [trial for trial in self.trials if trial.score is None]
        left = self.search.trials - len(self.trials)
        if without:
            found.append(
                f"Trials without a score: {len(without)} of {self.search.trials}; the remarks say "
                f"why."
            )
        if left > 0:
            found.append(f"Trials that have not been run: {left} of {self.search.trials}.")
        return found

    def tables(self) -> tuple[Table, ...]:
        """Return the settings of the best trial, and all trials."""
        return self._settings(), self._trials()

    def command(self) -> str:
        """Return the command that runs an experiment with the best trial's settings."""
        best = self.best
        settings = {**self.study.settings, **(best.params if best else {})}
        settings["points"] = self.study.points[0]
        words = ["dvc", "exp", "run"]
        for key, value in settings.items():
            words += ["-S", override(key, value)]
        return shlex.join(words)

    def _settings(self) -> Table:
        best = self.best
        rows = [
            (
                name,
                _space(space),
                _text(best.params[name]) if best else NONE,
                percent(self.importances.get(name)),
            )
            for name, space in self.search.params.items()
        ]
        note = (
            "Importance: the fraction of the differences between scores that a setting explains, "
            "by fANOVA (Hutter et al. 2014); with few trials it is a rough guide."
        )
        header = ("setting", "searched", "best trial", "importance")
        return Table("settings", "Settings", note, header, tuple(rows))

    def _trials(self) -> Table:
        names = list(self.search.params)
        ranked = sorted(self.trials, key=lambda one: (-(one.score or -1), one.number))
        rows = tuple(
            (
                str(trial.number),
                *(_text(trial.params[name]) for name in names),
                score(trial.score),
                " ".join(score(trial.scores.get(seed)) for seed in self.study.seeds),
                _reason(trial),
            )
            for trial in ranked
        )
        short = [name.removeprefix("train.") for name in names]
        header = ("trial", *short, OBJECTIVE, "by seed", "remark")
        note = "The best first. Test scores are not shown, so that no setting is chosen by them."
        return Table("trials", "Trials", note, header, rows)


def write_search_report(folder: Path, summary: SearchSummary, command: str) -> None:
    """Write report.html, report.md, and a CSV file for each table.

    Args:
        folder: of the files.
        summary: of the search; one trial at least has a score.
        command: that runs the search.
    """
    tables, warnings = summary.tables(), summary.warnings()
    for table in tables:
        publish_csv(folder / "tables" / f"{table.name}.csv", table.header, table.rows)
    study = summary.study
    parts = [f"# {study.title}", study.about.strip(), *(f"**{text}**" for text in warnings)]
    parts += [f"```sh\n{command}\n```", summary.sentence(), f"```sh\n{summary.command()}\n```"]
    parts += [f"## {one.title}\n\n{one.note}\n\n{markdown_table(one)}" for one in tables]
    publish_text(folder / MARKDOWN, "\n\n".join(part for part in parts if part) + "\n")
    page = page_of("search.html.j2").render(
        study=study,
        tables=tables,
        command=command,
        warnings=warnings,
        sentence=summary.sentence().replace("`", ""),
        best_command=summary.command(),
        history=Markup(draw_history(summary.trials)),
        slices=Markup(draw_settings(summary.search, summary.trials)),
        settings=_yaml(study),
        version=metadata.version("pointcover"),
        source="trials.json and the records",
    )
    publish_text(folder / HTML, page)


def _yaml(study: Study) -> str:
    values = study.model_dump(mode="json", exclude_defaults=True)
    shown = {key: values[key] for key in ("settings", "points", "seeds", "search") if key in values}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _space(space: Range | tuple[Any, ...]) -> str:
    if not isinstance(space, Range):
        return ", ".join(map(_text, space))
    details = (", logarithmic" if space.log else "") + (
        f", in steps of {space.step:g}" if space.step else ""
    )
    return f"{space.low:g} to {space.high:g}{details}"


def _reason(trial: Trial) -> str:
    """Return why a trial has no score, in one line."""
    return " ".join((trial.fault.partition("\n  - ")[2] or trial.fault).split())


def _count(seeds: Sequence[int]) -> str:
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
