"""The trials of a search: chosen by Optuna from the scores of those before, and kept in a file.

Nothing of Optuna is kept. A trial depends on the section `search`, its number and the scores of the
trials before it, so a search that was stopped goes on as if it had not been.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pointcover.runtime.atomic_files import digest_values, own_file, publish_json, read_json
from pointcover.study.samplers import SAMPLERS
from pointcover.study.search_plan import Choices, Params, Range, Search
from pointcover.validation import Section, validate

MISSING: Final = (
    "a search needs the package optuna, which is not installed: `pip install 'pointcover[search]'` "
    "(in a clone, `pip install -e '.[search]'`)"
)

DIGITS: Final = 4
"""Significant digits of a number that is drawn, so that people can read and copy it."""


@dataclass(frozen=True)
class Trial:
    """One trial, and what came of it."""

    number: int
    params: Params
    scores: Mapping[int, float] = field(default_factory=dict)
    """Validation score by seed."""
    tests: Mapping[int, float] = field(default_factory=dict)
    """Test mIoU by seed, which no choice depends on."""
    seeds: int = 1
    """How many there are to be."""
    fault: str = ""
    """Why it has no score, where it has none."""

    @property
    def score(self) -> float | None:
        """The mean over seeds; None where a seed is missing."""
        if len(self.scores) < self.seeds:
            return None
        return sum(self.scores.values()) / len(self.scores)

    @property
    def test(self) -> float | None:
        """The mean test mIoU over seeds; None where a seed is missing."""
        return sum(self.tests.values()) / len(self.tests) if len(self.tests) == self.seeds else None


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """Return the trial with the highest score, of equal ones the first; None without a score."""
    scored = [(trial.score, -trial.number, trial) for trial in trials if trial.score is not None]
    return max(scored)[2] if scored else None


def ask(search: Search, before: Sequence[Trial], number: int) -> list[Params]:
    """Choose the trials from a number on that are chosen at a time.

    Args:
        search: the section of the study file.
        before: the trials with lower numbers.
        number: of the first one.

    Raises:
        ValueError: optuna is not installed.
    """
    study = _remember(search, before)
    spaces = _spaces(search)
    found = []
    for each in range(number, min(number + search.at_once, search.trials)):
        # One for each trial: after a stop, a generator would begin anew.
        study.sampler = SAMPLERS[search.sampler](
            int(digest_values([search.seed, each])[:8], 16) & 0x7FFFFFFF
        )
        drawn = study.ask(spaces).params
        found.append({key: _value(search.params[key], drawn[key]) for key in search.params})
    return found


def importances(search: Search, trials: Sequence[Trial]) -> dict[str, float]:
    """Return how much each setting explains of the differences between scores, by fANOVA.

    Empty where fewer than four trials have a score, or all have the same one (Hutter et al. 2014).
    """
    scored = [trial for trial in trials if trial.score is not None]
    if len(scored) < 4 or len({trial.score for trial in scored}) == 1:
        return {}
    optuna = _optuna()
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(
        _remember(search, scored), evaluator=evaluator, params=list(search.params)
    )
    return {key: float(value) for key, value in found.items()}


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise ValueError(MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _remember(search: Search, trials: Sequence[Trial]) -> Any:
    """Return a study of Optuna, in memory, that knows the scores of trials."""
    optuna, spaces = _optuna(), _spaces(search)
    study = optuna.create_study(direction="maximize")
    for trial in sorted(trials, key=lambda one: one.number):
        if trial.score is not None:
            params = {key: _drawn(search.params[key], trial.params[key]) for key in search.params}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=spaces, value=trial.score)
            )
    return study


def _spaces(search: Search) -> dict[str, Any]:
    kinds = _optuna().distributions
    found: dict[str, Any] = {}
    for name, values in search.params.items():
        if not isinstance(values, Range):
            found[name] = kinds.CategoricalDistribution([_text(value) for value in values])
        elif values.is_whole:
            step = int(values.step or 1)
            high = values.high - (int(values.high) - int(values.low)) % step
            found[name] = kinds.IntDistribution(values.low, high, log=values.log, step=step)
        else:
            high = _last(values) if values.step else float(values.high)
            found[name] = kinds.FloatDistribution(
                float(values.low), high, log=values.log, step=values.step
            )
    return found


def _last(values: Range) -> float:
    """Return the largest value that is a whole number of steps above the smallest."""
    low, high, step = (Decimal(str(one)) for one in (values.low, values.high, values.step))
    return float(low + (high - low) // step * step)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _drawn(space: Range | Choices, value: Any) -> Any:
    """Return a setting's value as Optuna has it, whose choices are texts."""
    return value if isinstance(space, Range) else _text(value)


def _value(space: Range | Choices, drawn: Any) -> Any:
    """Return the value of a setting, a number with few digits."""
    if not isinstance(space, Range):
        return next(value for value in space if _text(value) == drawn)
    if space.is_whole:
        return int(drawn)
    if space.step is not None:
        return float(drawn)
    return min(max(float(f"{drawn:.{DIGITS}g}"), float(space.low)), float(space.high))


class _Kept(Section):
    """What the file of trials holds."""

    search: str
    """Digest of all that trials depend on."""
    run: str | None = None
    params: tuple[Params, ...] = ()


class KeptTrials:
    """The settings of trials by number, in a file, so that a stopped search goes on with them.

    A trial that failed and is repeated keeps its settings, and so do those after it.
    """

    def __init__(self, path: Path, depends_on: Sequence[Any]) -> None:
        """Read the file; one of another search is not used.

        Args:
            path: of the file.
            depends_on: all that trials depend on.

        Raises:
            ValueError: the file is damaged.
        """
        self._path = path
        self._kept = _Kept(search=digest_values(list(depends_on)))
        self.was_other = False
        """Whether the file was of another search."""
        if path.is_file():
            with own_file(path, "remove it, and run the study again"):
                kept = validate(_Kept, read_json(path), path)
            self.was_other = kept.search != self._kept.search
            if not self.was_other:
                self._kept = kept

    @property
    def params(self) -> tuple[Params, ...]:
        """Settings of the trials that were chosen."""
        return self._kept.params

    @property
    def run(self) -> str | None:
        """Id of the search's run in MLflow."""
        return self._kept.run

    def add(self, params: Sequence[Params]) -> None:
        """Keep the settings of further trials."""
        self._write(params=(*self._kept.params, *params))

    def keep_run(self, run: str) -> None:
        """Keep the id of the search's run."""
        self._write(run=run)

    def _write(self, **values: Any) -> None:
        self._kept = self._kept.model_copy(update=values)
        publish_json(self._path, self._kept.model_dump(mode="json"))
