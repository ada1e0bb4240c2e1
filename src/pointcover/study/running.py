"""Run a study's experiments: side by side, each once, going on where it stopped."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pointcover.config.params import Params
from pointcover.runtime.atomic_files import (
    digest_values,
    publish_json,
    publish_text,
    read_json,
    sha256,
)
from pointcover.study.plan import Member
from pointcover.study.records import Record, numbers_of
from pointcover.tracking.dvc_experiments import (
    ANNOTATION,
    TEST,
    TILING,
    TRAINING,
    Processes,
    experiment_command,
    fetch_folder,
    has_behind,
    list_experiments,
    read_outputs,
    untracked_in,
)
from pointcover.validation import read_yaml

CUTTING: Final = "tile"
"""The stage whose outputs experiments share, so that one has it alone."""

LOOK_S: Final = 1.0
"""How often to look whether it is over, while there is place for others."""


@dataclass(frozen=True)
class Job:
    """A member with its name among DVC's experiments.

    The name ends with a digest of all that decides the result, so that where the name exists, its
    result holds.
    """

    member: Member
    name: str
    data: str
    """Digest of what tiles depend on: those who share it wait for the first to have cut them."""
    needs: tuple[str, ...] = ()
    """Names of jobs whose models join this one's in an ensemble."""
    after: str | None = None
    """Name of the job of the round before."""

    @property
    def waits_for(self) -> set[str]:
        """Names of jobs that must have ended before."""
        return {*self.needs, *([self.after] if self.after else [])}


@dataclass(frozen=True)
class Ended:
    """A job that ended: with its record, or without one and a log that says why."""

    job: Job
    record: Record | None
    log: Path
    was_known: bool = False
    """It has been run before: nothing was computed."""


def make_jobs(
    prefix: str, members: Sequence[Member], params: Sequence[Params], root: Path
) -> list[Job]:
    """Name each member by its label and a digest of settings, code and data.

    Args:
        prefix: of all names: the study's.
        members: of the study.
        params: all settings of each.
        root: the project's folder, with dvc.yaml.

    Raises:
        FileNotFoundError: there is no dvc.yaml.
    """
    code = _state_of_code(root)
    states: dict[str, str] = {}
    names: dict[tuple[str, str, int, int], str] = {}  # of jobs, by their members' places
    jobs = []
    # Those that need others come after them, whose names are then known.
    for member, settings in sorted(zip(members, params, strict=True), key=lambda m: m[0].depth):
        said = settings.model_dump(mode="json", exclude={"machine"})
        for path in (settings.source, settings.annotations, settings.evaluate.ensemble):
            states.setdefault(path, _state_of_files(root / path))
            said[f"files of {path}"] = states[path]
        tiles = [said[key] for key in ("dataset", "source", "synthetic", "tile")]
        needs = tuple(names[other.place] for other in member.needs)
        after = names[member.after.place] if member.after else None
        before = [names[other.place] for other in member.before]
        name = f"{prefix}-{member.slug}-{digest_values([said, code, *before])[:8]}"
        names[member.place] = name
        jobs.append(Job(member, name, digest_values(tiles), needs, after))
    return jobs


@dataclass(frozen=True)
class JobPool:
    """How many experiments are run in parallel."""

    at_once: int = 1
    gpus: int = 0
    """How many there are; with several, each place in the pool has one."""


def run_jobs(
    jobs: Sequence[Job],
    root: Path,
    out: Path,
    extra: Callable[[Job], Mapping[str, str]],
    pool: JobPool = JobPool(),
) -> Generator[Ended]:
    """Return the record of each job as it ends, running those that have none yet.

    What `out` holds is taken as it is, an experiment that DVC knows by its name is read, all
    others are run. Where one fails the others go on. A signal, or the caller's leaving, ends
    those that run.

    Args:
        jobs: in the order in which to run them.
        root: the project's folder.
        out: keeps records and logs.
        extra: variables of the environment of a job's stages.
        pool: how many are run in parallel.
    """
    gpus = pool.gpus
    known = list_experiments(root)
    todo: list[Job] = []
    for job in jobs:
        record = _kept_record(job, out)
        if record is None and job.name in known:
            record = _read_known(job, root, known[job.name].commit, out)
        if record is None:
            todo.append(job)
        else:
            yield Ended(job, record, _log_path(job, out), was_known=True)
    copied = ["sources"] if todo and untracked_in(root, "sources") else []
    processes = Processes()

    def work(job: Job, place: int) -> Ended:
        try:
            return run_one(job, place)
        except (OSError, ValueError) as error:
            publish_text(_log_path(job, out), f"{error}\n")
            return Ended(job, None, _log_path(job, out))

    def run_one(job: Job, place: int) -> Ended:
        variables = dict(extra(job))
        if gpus > 1:
            variables["CUDA_VISIBLE_DEVICES"] = str(place % gpus)
        began = time.monotonic()
        log = _log_path(job, out)
        settings = dict(job.member.settings)
        if job.needs:
            settings["evaluate.ensemble"] = str(_gather_models(job, root))
        if job.after:
            settings["annotations"] = str(_fetch_answers(job, root))
        command = experiment_command(job.name, settings, copied)
        processes.run(command, root, log, variables)
        # Not by its exit code: of ninety experiments, 15 at a time, three were kept by DVC and yet
        # ended with "conflicts with existing experiment", as a second attempt does.
        kept = list_experiments(root).get(job.name)
        if kept is None:
            return Ended(job, None, log)
        seconds = time.monotonic() - began
        return Ended(job, _read_record(job, root, kept.commit, out, seconds), log)

    places = list(range(pool.at_once))
    cut: set[str] = set()  # data whose tiles are in DVC's cache
    settled = {job.name for job in jobs} - {job.name for job in todo}
    under_way: dict[Future[Ended], tuple[Job, int]] = {}
    with ThreadPoolExecutor(pool.at_once) as threads:
        try:
            while todo or under_way:
                cut |= {
                    job.data
                    for job, _ in under_way.values()
                    if job.data not in cut and has_behind(_log_path(job, out), CUTTING)
                }
                for job in list(todo):
                    is_cutting = job.data in {other.data for other, _ in under_way.values()}
                    can_begin = (job.data in cut or not is_cutting) and settled.issuperset(
                        job.waits_for
                    )
                    if places and can_begin:
                        todo.remove(job)
                        place = places.pop(0)
                        under_way[threads.submit(work, job, place)] = (job, place)
                look_s = LOOK_S if todo and places else None
                for future in wait(under_way, look_s, FIRST_COMPLETED).done:
                    job, place = under_way.pop(future)
                    places.append(place)
                    cut.add(job.data)
                    settled.add(job.name)
                    yield future.result()
        finally:
            processes.stop()


def _gather_models(job: Job, root: Path) -> Path:
    """Fetch the other models of an ensemble, each into a folder of its own.

    Raises:
        FileNotFoundError: one of them was not trained.
    """
    known = list_experiments(root)
    missing = [name for name in job.needs if name not in known]
    if missing:
        raise FileNotFoundError(
            f"the ensemble {job.name} lacks the models of {', '.join(missing)}, which failed: see "
            f"their logs"
        )
    folder = root.absolute() / ".pointcover" / "ensembles" / job.name
    for name in job.needs:
        fetch_folder(root, known[name].commit, "models", folder / name)
    return folder


def _fetch_answers(job: Job, root: Path) -> Path:
    """Fetch the clicks with which a round begins: all of the round before, and its questions'.

    Raises:
        FileNotFoundError: the round before failed.
    """
    before, known = job.member.after, list_experiments(root)
    if before is None or job.after not in known:
        raise FileNotFoundError(
            f"the round {job.name} goes on from {job.after}, which failed: see its log"
        )
    (measure,) = dict(before.settings)["suggest.acquisitions"]
    folder = root.absolute() / ".pointcover" / "rounds" / job.name
    fetch_folder(root, known[job.after].commit, f"data/next/{measure}", folder)
    return folder


def _log_path(job: Job, out: Path) -> Path:
    return out / "logs" / f"{job.name}.log"


def _kept_record(job: Job, out: Path) -> Record | None:
    path = out / "records" / f"{job.name}.json"
    if not path.exists():
        return None
    kept = read_json(path)
    return Record(
        job.member.method,
        job.member.axes,
        job.member.points,
        job.member.seed,
        job.name,
        kept["numbers"],
        kept["iou"],
    )


def _read_known(job: Job, root: Path, commit: str, out: Path) -> Record:
    """Read the record of an experiment that was run before.

    Raises:
        FileNotFoundError: its files are gone from DVC's cache.
    """
    try:
        return _read_record(job, root, commit, out, None)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; or `dvc exp remove {job.name}`, and this study runs it anew"
        ) from None


def _read_record(job: Job, root: Path, commit: str, out: Path, seconds: float | None) -> Record:
    """Read a record out of DVC's cache and keep it."""
    files = read_outputs(root, commit, (TILING, ANNOTATION, TRAINING, TEST))
    test = files[TEST]
    record = Record(
        job.member.method,
        job.member.axes,
        job.member.points,
        job.member.seed,
        job.name,
        numbers_of(files[TILING], files[ANNOTATION], files[TRAINING], test, seconds),
        {name: entry["iou"] for name, entry in test["by_class"].items()},
    )
    publish_json(out / "records" / f"{job.name}.json", asdict(record))
    return record


def _state_of_code(root: Path) -> str:
    """Digest dvc.yaml and every file of code that its stages depend on."""
    stages = [stage.get("do", stage) for stage in read_yaml(root / "dvc.yaml")["stages"].values()]
    named = {
        dep for stage in stages for dep in stage["deps"] if dep.startswith(("src/", "stages/"))
    }
    files = sorted(
        file
        for dep in named
        for file in ([root / dep] if (root / dep).is_file() else (root / dep).rglob("*"))
        if file.is_file() and file.suffix != ".pyc"
    )
    return digest_values(
        [[str(file.relative_to(root)), sha256(file)] for file in [root / "dvc.yaml", *files]]
    )


def _state_of_files(path: Path) -> str:
    """Digest names, sizes and times of a folder's files, or of one file: seconds for millions.

    DVC looks at their contents; here a change of time alone means that it is asked again.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    states = [(str(file), file.stat()) for file in files if file.is_file()]
    return digest_values([[name, state.st_size, state.st_mtime_ns] for name, state in states])
