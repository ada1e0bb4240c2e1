"""Conduct a study: read its file, run its experiments, write the report, record it in MLflow."""

import contextlib
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointcover.runtime.atomic_files import sha256
from pointcover.runtime.progress import Progress
from pointcover.study.plan import (
    Scale,
    check_members,
    members_of,
    read_study,
    warnings_of_data,
)
from pointcover.study.records import Record, read_records, write_records
from pointcover.study.report import HTML, MARKDOWN, write_report
from pointcover.study.running import Ended, Job, JobPool, make_jobs, run_jobs
from pointcover.study.summary import Summary, exceeded_references, score, summarise
from pointcover.study.sync import sync_study
from pointcover.tracking import runs as tracking
from pointcover.yaml_files import read_yaml

PARAMS = "params.yaml"
RESULTS = "results.csv"
LOG_LINES = 6
RESULTS_TAG = "pointcover.results_sha256"

logger = logging.getLogger(__name__)


@dataclass
class Conducted:
    """Results of a study's experiments."""

    count: int
    """Number of experiments."""
    records: list[Record] = field(default_factory=list)
    failed: list[Ended] = field(default_factory=list)
    dataset: str = "synthetic"
    """Of params.yaml."""

    @property
    def missing(self) -> int:
        """Number of experiments with neither result nor error, since the study was stopped."""
        return self.count - len(self.records) - len(self.failed)

    def complaint(self) -> str:
        """Return a message on the failed experiments, each with the end of its log."""
        others = "the finished ones are in the report" if self.records else "no report was written"
        failed = f"{len(self.failed)} of {self.count} experiments failed"
        return complaint_on(self.failed, f"{failed}; {others}")

    def warnings(self, summary: Summary) -> list[str]:
        """Return warnings that belong before the results."""
        found = warnings_of_data(members_of(summary.study), self.dataset, "study")
        if self.failed or self.missing:
            found.append(
                f"{len(self.failed)} of {self.count} experiments failed and {self.missing} have "
                f"not been run: means are over the finished ones."
            )
        return found + exceeded_references(summary)


@dataclass(frozen=True)
class StudyRun:
    """A study file, and how it is run."""

    path: Path
    scale: Scale = "full"
    """`small` applies the section `small` of the file."""
    settings: Mapping[str, Any] | None = None
    """Override the file's settings of all experiments, by dotted names."""

    @property
    def name(self) -> str:
        """Name of the study, with which those of its experiments begin."""
        return f"{self.path.stem}-small" if self.scale == "small" else self.path.stem


def conduct(run: StudyRun, root: Path, out: Path, pool: JobPool) -> Conducted:
    """Run the experiments of a study that have no results yet, and write its report.

    The report is also written if experiments fail, or a signal stops the study.

    Args:
        run: the study file, its scale and settings.
        root: the project's folder.
        out: folder of results.csv, report.html, report.md, tables, records and logs.
        pool: number of experiments that run in parallel.

    Raises:
        ValueError: the file or its settings are invalid.
        FileNotFoundError: there is no such file, or `root` is not a project.
    """
    path, scale = run.path, run.scale
    study = read_study(path, scale, run.settings)
    members = members_of(study)
    base = read_yaml(root / PARAMS)
    params = check_members(members, base, path)
    prefix = run.name
    jobs = make_jobs(prefix, members, params, root)
    conducted = Conducted(len(jobs), dataset=str(base.get("dataset")))

    def study_variables(job: Job) -> dict[str, str]:
        """Return environment variables by which a job's MLflow run is tagged."""
        return {
            tracking.STUDY_VARIABLE: prefix,
            tracking.METHOD_VARIABLE: job.member.method,
        }

    progress = Progress(prefix, len(jobs), "experiment", leave=True, smoothing=0)
    try:
        with (
            contextlib.closing(run_jobs(jobs, root, out, study_variables, pool)) as ended_jobs,
            progress,
        ):
            for ended in ended_jobs:
                _note(ended, conducted, progress)
    finally:
        if conducted.records:
            order = {job.name: place for place, job in enumerate(jobs)}
            conducted.records.sort(key=lambda record: order[record.experiment])
            write_records(out / RESULTS, conducted.records)
            summary = summarise(study, conducted.records)
            write_report(out, summary, command_of(path, scale), conducted.warnings(summary))
    if conducted.records:
        _record(root, prefix, out, summary)
        sync_study(
            root,
            {
                record.experiment: {
                    tracking.STUDY_TAG: prefix,
                    tracking.METHOD_TAG: record.method,
                }
                for record in conducted.records
            },
        )
    return conducted


def complaint_on(failed: Sequence[Ended], what: str) -> str:
    """Return a message on failed experiments, with what to do and the end of the log of each."""
    head = (
        f"{what}. Correct the errors in their logs and run the same command, which runs only those "
        f"without a result:"
    )
    logs = [f"{one.job.member.label} ({one.log}):\n{_last_lines(one.log)}" for one in failed]
    return "\n\n".join([head, *logs])


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:])


def _note(ended: Ended, conducted: Conducted, progress: Progress) -> None:
    """Add the result of a job, and print it."""
    label = ended.job.member.label
    progress.update(was_done=ended.was_known)
    if ended.record is None:
        conducted.failed.append(ended)
        progress.milestone(f"{label}: failed, see {ended.log}", in_terminal=True)
    else:
        conducted.records.append(ended.record)
        if not ended.was_known:
            miou = score(ended.record.numbers["miou"])
            progress.milestone(f"{label}: test mIoU {miou}", in_terminal=True)


def read_results(path: Path, out: Path, scale: Scale = "full") -> tuple[Summary, list[str]]:
    """Return the summary of a study's results in `out`, and its warnings.

    An experiment that sets no dataset has that of params.yaml in this folder, if there is one.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: the file or the results cannot be read.
    """
    study = read_study(path, scale)
    records = read_records(out / RESULTS)
    base = read_yaml(Path(PARAMS)) if Path(PARAMS).is_file() else {"dataset": "synthetic"}
    conducted = Conducted(len(members_of(study)), records, dataset=str(base.get("dataset")))
    summary = summarise(study, records)
    return summary, conducted.warnings(summary)


def rewrite_report(path: Path, out: Path, scale: Scale = "full") -> None:
    """Write a study's report again from the results in `out`, without running experiments.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: the file or the results cannot be read.
    """
    summary, warnings = read_results(path, out, scale)
    write_report(out, summary, command_of(path, scale), warnings)


def command_of(path: Path, scale: Scale) -> str:
    """Return the command that runs a study."""
    words: Sequence[str] = ["pointcover", "study", path.as_posix()]
    return shlex.join([*words, *(["--scale", scale] if scale != "full" else [])])


def _record(root: Path, name: str, out: Path, summary: Summary) -> None:
    """Record the report in MLflow, unless the same results are recorded or the store is away."""
    digest = sha256(out / RESULTS)
    tags = {tracking.STUDY_TAG: name, RESULTS_TAG: digest}
    try:
        if tracking.is_tagged(root, RESULTS_TAG, digest):
            return
        with tracking.start_run(root, f"study {name}", tags=tags) as run:
            values = {"study/experiments": len(summary.records), "study/noise": summary.floor}
            run.log_metrics(values)
            for file in (HTML, MARKDOWN, RESULTS):
                run.log_file(out / file, "report")
    except OSError as error:
        logger.warning(
            "%s. The report is in %s, and not in MLflow: run the study again when it can be used",
            error,
            out,
        )
