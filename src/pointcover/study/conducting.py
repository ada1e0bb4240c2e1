"""A study from its file to its report: plan, run, write, record in MLflow."""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pointcover.runtime.atomic_files import sha256
from pointcover.study.plan import Scale, check_members, members_of, read_study
from pointcover.study.records import Record, read_records, write_records
from pointcover.study.report import HTML, MARKDOWN, write_report
from pointcover.study.running import Ended, Job, JobPool, make_jobs, run_jobs
from pointcover.study.summary import Summary, outdone_references, score, summarise
from pointcover.study.sync import sync
from pointcover.tracking import runs as tracking
from pointcover.validation import read_yaml

RESULTS = "results.csv"
LOG_LINES = 6
RESULTS_TAG = "pointcover.results_sha256"


@dataclass
class Conducted:
    """What came of a study."""

    count: int
    records: list[Record] = field(default_factory=list)
    failed: list[Ended] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many have neither a result nor an error: the study was stopped."""
        return self.count - len(self.records) - len(self.failed)

    def complaint(self) -> str:
        """Return which experiments failed, each with the end of its log."""
        said = [
            f"{ended.job.member.label} ({ended.log}):\n{_last_lines(ended.log)}"
            for ended in self.failed
        ]
        head = (
            f"{len(self.failed)} of {self.count} experiments failed; the others are in the report. "
            f"Mend what their logs say and run the same command, which runs those alone:"
        )
        return "\n\n".join([head, *said])

    def warnings(self, summary: Summary) -> list[str]:
        """Return what a reader must know before the numbers."""
        found = []
        if summary.study.settings.get("dataset", "synthetic") == "synthetic":
            found.append(
                "On the drawn dataset: this shows that the study runs; its numbers are no results."
            )
        if self.failed or self.missing:
            found.append(
                f"{len(self.failed)} of {self.count} experiments failed and {self.missing} have "
                f"not been run: means are over those that were."
            )
        return found + outdone_references(summary)


@dataclass(frozen=True)
class StudyChoice:
    """A study file, and how it is run."""

    path: Path
    scale: Scale = "full"
    """Or small: the settings of the file's `small`."""
    settings: Mapping[str, Any] | None = None
    """For all experiments, in place of the file's."""


def conduct(choice: StudyChoice, root: Path, out: Path, pool: JobPool) -> Conducted:
    """Run what is not known yet of a study, and write its report.

    The report is written also where experiments fail, and where a signal stops the study.

    Args:
        choice: the study file, its scale and settings.
        root: the project's folder.
        out: gets results.csv, report.html, report.md, tables, records and logs.
        pool: how many experiments are run in parallel.

    Raises:
        ValueError: the file or its settings cannot be.
        FileNotFoundError: there is no such file, or no project here.
    """
    path, scale = choice.path, choice.scale
    study = read_study(path, scale, choice.settings)
    members = members_of(study)
    params = check_members(members, read_yaml(root / "params.yaml"), path)
    prefix = f"{path.stem}-small" if scale == "small" else path.stem
    jobs = make_jobs(prefix, members, params, root)
    conducted = Conducted(len(jobs))

    def belonging(job: Job) -> dict[str, str]:
        """Tell a job's MLflow run whose it is."""
        return {
            tracking.STUDY_VARIABLE: prefix,
            tracking.METHOD_VARIABLE: job.member.method,
        }

    progress = tqdm(total=len(jobs), desc=prefix, unit="exp", disable=None, smoothing=0)
    try:
        with (
            contextlib.closing(run_jobs(jobs, root, out, belonging, pool)) as ended_jobs,
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
        sync(
            root,
            {
                record.experiment: {
                    tracking.STUDY_TAG: prefix,
                    tracking.METHOD_TAG: record.method,
                }
                for record in conducted.records
            },
        )
        _record(root, prefix, out, summary)
    return conducted


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:])


def _note(ended: Ended, conducted: Conducted, progress: Any) -> None:
    """Take in what came of one job, and say it."""
    label = ended.job.member.label
    if ended.record is None:
        conducted.failed.append(ended)
        progress.write(f"{label}: failed, see {ended.log}")
    else:
        conducted.records.append(ended.record)
        if not ended.was_known:
            progress.write(f"{label}: test mIoU {score(ended.record.numbers['miou'])}")
    if ended.was_known and not progress.disable:
        progress.initial += 1  # it took no time, by which the rest must not be reckoned
    progress.update()


def read_results(path: Path, out: Path, scale: Scale = "full") -> tuple[Summary, list[str]]:
    """Sum up the results of a study that lie in `out`, and say what a reader must know of them.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: the file or the results cannot be read.
    """
    study = read_study(path, scale)
    records = read_records(out / RESULTS)
    conducted = Conducted(len(members_of(study)), records)
    summary = summarise(study, records)
    return summary, conducted.warnings(summary)


def rewrite_report(path: Path, out: Path, scale: Scale = "full") -> None:
    """Write a study's report anew from the results that lie in `out`; nothing is run.

    Raises:
        FileNotFoundError: as `read_results`.
        ValueError: as `read_results`.
    """
    summary, warnings = read_results(path, out, scale)
    write_report(out, summary, command_of(path, scale), warnings)


def command_of(path: Path, scale: Scale) -> str:
    """Return the command by which a study is run."""
    words: Sequence[str] = ["pointcover", "study", path.as_posix()]
    return shlex.join([*words, *(["--scale", scale] if scale != "full" else [])])


def _record(root: Path, name: str, out: Path, summary: Summary) -> None:
    """Keep the report in MLflow, once for the same results."""
    digest = sha256(out / RESULTS)
    if tracking.is_tagged(root, RESULTS_TAG, digest):
        return
    with tracking.start_run(
        root, f"study {name}", tags={tracking.STUDY_TAG: name, RESULTS_TAG: digest}
    ) as run:
        run.log_metrics({"study/experiments": len(summary.records), "study/noise": summary.floor})
        for file in (HTML, MARKDOWN, RESULTS):
            run.log_file(out / file, "report")
