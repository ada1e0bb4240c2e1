"""Conduct a search: choose trials, run their experiments, report, record a run with children."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pointcover.runtime.progress import Progress
from pointcover.study.conducting import StudyRun, command_of, complaint_on
from pointcover.study.inputs import Inputs
from pointcover.study.plan import (
    Member,
    Study,
    members_of_trial,
    override,
    params_of,
    read_study,
)
from pointcover.study.records import Record
from pointcover.study.running import (
    Ended,
    Job,
    JobPool,
    kept_record,
    make_jobs,
    run_jobs,
    state_of_code,
)
from pointcover.study.search_plan import OBJECTIVE, Params, Range, Search
from pointcover.study.search_report import HTML, MARKDOWN, SearchSummary, write_search_report
from pointcover.study.sync import sync_study
from pointcover.study.trials import KeptTrials, Trial, ask, best_of
from pointcover.tracking import runs as tracking
from pointcover.yaml_files import read_yaml

TRIALS: Final = "trials.json"
SCORE: Final = f"search/{OBJECTIVE.replace('/', '_')}"
BEST: Final = f"{SCORE}_best"

Run = Callable[[Sequence[Member]], Iterator[Ended]]
"""Runs the experiments of some trials, and yields each when it ends."""


@dataclass
class Searched:
    """What became of a search."""

    count: int
    """Number of trials."""
    trials: list[Trial] = field(default_factory=list)
    failed: list[Ended] = field(default_factory=list)

    @property
    def scored(self) -> int:
        """Number of trials with a score."""
        return sum(trial.score is not None for trial in self.trials)

    def complaint(self) -> str:
        """Return a message on the failed experiments, each with the end of its log."""
        others = "the finished trials are in the report" if self.scored else "no report was written"
        return complaint_on(self.failed, f"{len(self.failed)} experiments failed; {others}")


@dataclass(frozen=True)
class _Plan:
    """A search, read and checked."""

    path: Path
    study: Study
    search: Search
    base: Mapping[str, Any]
    """Contents of params.yaml."""
    prefix: str
    kept: KeptTrials
    inputs: Inputs
    """Contents of the data, read once for all trials."""

    @classmethod
    def read(cls, run: StudyRun, root: Path, out: Path) -> "_Plan":
        study = read_study(run.path, run.scale, run.settings)
        assert study.search is not None
        base = read_yaml(root / "params.yaml")
        _check_space(study, study.search, base, run.path)
        space = study.search.model_dump(mode="json", exclude={"trials"})
        inputs = Inputs(root)
        depends_on = [
            study.points,
            study.seeds,
            space,
            _fixed(study, study.search, base, run.path, inputs),
            state_of_code(root),
        ]
        kept = KeptTrials(out / TRIALS, depends_on)
        return cls(run.path, study, study.search, base, run.name, kept, inputs)

    def params(self, before: Sequence[Trial]) -> list[Params]:
        """Return the settings of the next trials: those that are kept, or chosen ones."""
        number = len(before)
        end = min(number + self.search.at_once, self.search.trials)
        known = list(self.kept.params[number:end])
        if len(known) < end - number:
            known += ask(self.search, before, number)[len(known) :]
            self.kept.add(known[len(self.kept.params) - number :])
        return known

    def members(self, number: int, params: Params) -> list[Member]:
        """Return the experiments of a trial.

        Raises:
            ValueError: its settings do not go together.
        """
        members = members_of_trial(self.study, number, params)
        for member in members:
            params_of(member, self.base, self.path)
        return members

    def jobs(self, members: Sequence[Member], root: Path) -> list[Job]:
        """Return the jobs of experiments."""
        settings = [params_of(member, self.base, self.path) for member in members]
        return make_jobs(self.prefix, members, settings, root, self.inputs)

    def summary(self, trials: Sequence[Trial]) -> SearchSummary:
        """Return the summary of trials."""
        dataset = str(self.base.get("dataset"))
        return SearchSummary(self.study, self.search, tuple(trials), dataset)


def is_search(path: Path, scale: str) -> bool:
    """Return whether a study file has a section `search`.

    Raises:
        FileNotFoundError, ValueError: it cannot be read.
    """
    values = read_yaml(path)
    small = values.get("small") if scale == "small" else None
    return bool(values.get("search") or (isinstance(small, dict) and small.get("search")))


def conduct_search(run: StudyRun, root: Path, out: Path, pool: JobPool) -> Searched:
    """Run the trials of a search that have no result yet, and write its report.

    The report is also written if experiments fail, or a signal stops the search.

    Args:
        run: the study file, its scale and settings.
        root: the project's folder.
        out: folder of trials.json, report.html, report.md, tables, records and logs.
        pool: number of experiments that run in parallel.

    Raises:
        ValueError: the file or its settings are invalid, or optuna is missing.
        FileNotFoundError: there is no such file, or `root` is not a project.
    """
    plan = _Plan.read(run, root, out)
    ask(plan.search, [], 0)  # before anything is recorded: is optuna there?
    progress = Progress(plan.prefix, plan.search.trials, "trial", leave=True, smoothing=0)
    tags = {tracking.STUDY_TAG: plan.prefix}
    name = f"search {plan.prefix}"
    with tracking.start_run(root, name, tags=tags, resume_id=plan.kept.run) as parent, progress:
        if plan.kept.was_other:
            progress.milestone(
                f"{out / TRIALS} was of a search of other settings, code or data: begun anew",
                in_terminal=True,
            )
        plan.kept.keep_run(parent.id)

        def variables(job: Job) -> dict[str, str]:
            return {
                tracking.STUDY_VARIABLE: plan.prefix,
                tracking.METHOD_VARIABLE: job.member.method,
                tracking.PARENT_VARIABLE: parent.id,
            }

        def run_members(members: Sequence[Member]) -> Iterator[Ended]:
            jobs = plan.jobs(members, root)
            with contextlib.closing(run_jobs(jobs, root, out, variables, pool)) as ended:
                yield from ended

        searched = Searched(plan.search.trials)
        reached = parent.logged_steps(SCORE)
        names: dict[str, str] = {}
        try:
            for trial in _run_trials(plan, run_members, searched, names):
                _note(trial, searched, progress)
                best = best_of(searched.trials)
                if trial.score is not None and trial.number not in reached and best is not None:
                    scores = {SCORE: trial.score, BEST: best.score}
                    parent.log_metrics(scores, step=trial.number)
        finally:
            if searched.scored:
                summary = plan.summary(searched.trials)
                write_search_report(out, summary, command_of(run.path, run.scale))
        if searched.scored:
            _record(parent, run.path, out, summary)
            of_run = {tracking.STUDY_TAG: plan.prefix, tracking.PARENT_TAG: parent.id}
            sync_study(
                root,
                {one: {**of_run, tracking.METHOD_TAG: method} for one, method in names.items()},
            )
    return searched


def rewrite_search_report(run: StudyRun, root: Path, out: Path) -> None:
    """Write the report of a search again from its records; nothing is run.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: the file or the results cannot be read.
    """
    plan = _Plan.read(run, root, out)
    trials = []
    for number, params in enumerate(plan.kept.params[: plan.search.trials]):
        try:
            members = plan.members(number, params)
        except ValueError as error:
            trials.append(Trial(number, params, seeds=len(plan.study.seeds), fault=str(error)))
            continue
        jobs = plan.jobs(members, root)
        records = [record for job in jobs if (record := kept_record(job, out)) is not None]
        trials.append(_trial(number, params, plan.study, records))
    if not any(trial.score is not None for trial in trials):
        raise FileNotFoundError(
            f"{out} has no results of {run.path}: run the study, or name the folder with --out"
        )
    summary = plan.summary(trials)
    write_search_report(out, summary, command_of(run.path, run.scale))


def _run_trials(
    plan: _Plan, run: Run, searched: Searched, names: dict[str, str]
) -> Iterator[Trial]:
    """Run the trials, and add each to those that were searched when it has ended.

    Args:
        plan: of the search.
        run: runs experiments.
        searched: gets the trials, in their order, and what failed.
        names: get the trial of each experiment.
    """
    while len(searched.trials) < plan.search.trials:
        first = len(searched.trials)
        chosen = plan.params(searched.trials)
        faults: dict[int, str] = {}
        members: list[Member] = []
        for number, params in enumerate(chosen, first):
            try:
                members += plan.members(number, params)
            except ValueError as error:
                faults[number] = str(error)
        records: dict[str, list[Record]] = {}
        broken: dict[str, Path] = {}
        for ended in run(members):
            method = ended.job.member.method
            if ended.record is None:
                searched.failed.append(ended)
                broken[method] = ended.log
            else:
                names[ended.record.experiment] = method
                records.setdefault(method, []).append(ended.record)
        for number, params in enumerate(chosen, first):
            method = f"trial {number}"
            trial = _trial(number, params, plan.study, records.get(method, []))
            fault = faults.get(number) or (
                f"failed, see {broken[method]}" if method in broken else ""
            )
            trial = replace(trial, fault=fault or trial.fault)
            searched.trials.append(trial)
            yield trial


def _trial(number: int, params: Params, study: Study, records: Sequence[Record]) -> Trial:
    """Return a trial with the scores of its records."""
    scores = {one.seed: value for one in records if (value := one.numbers["val_miou"]) is not None}
    tests = {one.seed: value for one in records if (value := one.numbers["miou"]) is not None}
    fault = "" if len(scores) == len(study.seeds) else "no result"
    if len(records) == len(study.seeds) and fault:
        fault = "no validation tile has a label, so there is no score"
    return Trial(number, params, scores, tests, len(study.seeds), fault)


def _note(trial: Trial, searched: Searched, progress: Progress) -> None:
    """Print what came of a trial."""
    progress.update()
    said = ", ".join(f"{key} {value}" for key, value in trial.params.items())
    if trial.score is None:
        reason = trial.fault.partition("\n  - ")[2] or trial.fault
        progress.milestone(f"trial {trial.number}: {said}: {reason}", in_terminal=True)
        return
    best = best_of(searched.trials)
    mark = ", the best so far" if best is trial else ""
    text = f"trial {trial.number}: {said}: {OBJECTIVE} {trial.score:.3f}{mark}"
    progress.milestone(text, in_terminal=True)


def _check_space(study: Study, search: Search, base: Mapping[str, Any], path: Path) -> None:
    """Check that each searched setting exists, and that its ends or choices are allowed.

    Raises:
        ValueError: a name is unknown, or a value is not allowed whatever the others are.
    """
    faults: dict[str, str] = {}
    for name, values in search.params.items():
        each = [values.low, values.high] if isinstance(values, Range) else list(values)
        said = []
        for value in each:
            (member, *_) = members_of_trial(study, 0, {name: value})
            try:
                params_of(member, base, path)
            except ValueError as error:
                said.append(str(error))
        # One that is allowed tells that the name is known; others may need settings beside them.
        if len(said) == len(each) or (isinstance(values, Range) and said):
            faults[name] = said[0]
    if faults:
        raise ValueError(
            "\n".join(f"search.params.{name}: {fault}" for name, fault in faults.items())
        )


def _fixed(
    study: Study, search: Search, base: Mapping[str, Any], path: Path, inputs: Inputs
) -> dict[str, Any]:
    """Return what is the same in all trials, and determines the names of their experiments.

    Returns:
        all settings but the searched ones and those of the machine, with the contents of files in
        place of their paths.
    """
    (member, *_) = members_of_trial(study, 0, dict.fromkeys(search.params))
    values = override(member, base, path)
    values.pop("machine", None)
    return inputs.name(values)


def _record(parent: tracking.Run, path: Path, out: Path, summary: SearchSummary) -> None:
    """Record the report, and the best trial."""
    for file in (path, out / HTML, out / MARKDOWN, out / TRIALS):
        parent.log_file(file, "report")
    best = summary.best
    if best is None:
        return
    parent.log_metrics({"test/miou": best.test}, step=len(summary.trials))
    parent.set_tags({"best_trial": str(best.number)})
    parent.describe(summary.sentence())
