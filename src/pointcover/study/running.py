"""Run a study's experiments in parallel; a study that was stopped resumes."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pointcover.config.params import Params
from pointcover.runtime.atomic_files import (
    digest_values,
    own_file,
    publish_json,
    publish_text,
    read_json,
    sha256,
)
from pointcover.runtime.code_lock import LOCK
from pointcover.study.inputs import Inputs
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
    has_finished,
    is_in_copy,
    list_experiments,
    read_outputs,
    untracked_in,
)
from pointcover.yaml_files import read_yaml

TILE_STAGE: Final = "tile"
"""Stage with outputs that experiments have in common; only one experiment at a time runs it."""

POLL_S: Final = 1.0
"""Interval in which logs are checked for the end of that stage."""


@dataclass(frozen=True)
class Job:
    """A member with the name of its DVC experiment.

    The name ends with a digest of everything that determines the result. So if an experiment of
    this name exists, its result is valid.
    """

    member: Member
    name: str
    data: str
    """Digest of the inputs of tiling. Jobs with the same digest wait until the first has tiles."""
    needs: tuple[str, ...] = ()
    """Names of the jobs of an ensemble's other models."""
    after: str | None = None
    """Name of the job of the previous round."""
    inputs: tuple[tuple[str, str], ...] = ()
    """The settings that are paths of inputs, by their names."""

    @property
    def waits_for(self) -> set[str]:
        """Names of jobs that must end before this one starts."""
        return {*self.needs, *([self.after] if self.after else [])}


@dataclass(frozen=True)
class Ended:
    """A job that ended: with a record, or without one if it failed."""

    job: Job
    record: Record | None
    log: Path
    was_known: bool = False
    """Whether its result existed already, so that nothing was computed."""


def make_jobs(
    prefix: str,
    members: Sequence[Member],
    params: Sequence[Params],
    root: Path,
    inputs: Inputs | None = None,
) -> list[Job]:
    """Return a job for each member, named by its slug and a digest of settings, code and data.

    Args:
        prefix: of all names; the name of the study.
        members: of the study.
        params: all settings of each member.
        root: the project's folder, with dvc.yaml.
        inputs: contents of its data, if they were read before.

    Raises:
        FileNotFoundError: there is no dvc.yaml.
    """
    code = state_of_code(root)
    files = inputs or Inputs(root)
    names: dict[tuple[str, str, int, int], str] = {}  # of jobs, by their members' identities
    jobs = []
    # In the order of depth, so that the names of the jobs that a job needs are known.
    for member, settings in sorted(zip(members, params, strict=True), key=lambda m: m[0].depth):
        values = files.name(settings.model_dump(mode="json", exclude={"machine"}))
        tiles = [values[key] for key in ("dataset", "source", "synthetic", "tile")]
        needs = tuple(names[other.identity] for other in member.needs)
        after = names[member.after.identity] if member.after else None
        before = [names[other.identity] for other in member.before]
        name = f"{prefix}-{member.slug}-{digest_values([values, code, *before])[:8]}"
        names[member.identity] = name
        paths = (
            ("source", settings.source),
            ("annotations", settings.annotations),
            ("train.weights_file", settings.train.weights_file),
        )
        jobs.append(Job(member, name, digest_values(tiles), needs, after, paths))
    return jobs


@dataclass(frozen=True)
class JobPool:
    """Number of experiments that run in parallel, and of GPUs."""

    at_once: int = 1
    gpus: int = 0
    """Number of GPUs; if there are several, each place of the pool uses one."""


def run_jobs(
    jobs: Sequence[Job],
    root: Path,
    out: Path,
    extra: Callable[[Job], Mapping[str, str]],
    pool: JobPool = JobPool(),
) -> Generator[Ended]:
    """Run the jobs that have no record yet, and yield each job when it ends.

    Records in `out` are used as they are, and DVC experiments of the same name are read. All other
    jobs are run. If one fails, the others continue. A signal, or closing the generator, stops the
    running jobs.

    Args:
        jobs: in the order in which to run them.
        root: the project's folder.
        out: folder of records and logs.
        extra: environment variables of a job's stages.
        pool: number of jobs that run in parallel.
    """
    gpus = pool.gpus
    known = list_experiments(root)
    todo: list[Job] = []
    for job in jobs:
        record = kept_record(job, out)
        if record is None and job.name in known:
            record = _read_known(job, root, known[job.name].commit, out)
        if record is None:
            todo.append(job)
        else:
            yield Ended(job, record, _log_path(job, out), was_known=True)
    copied = untracked_in(root, "sources") if todo else []
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
        for key, path in job.inputs:
            if not is_in_copy(root, path):
                settings[key] = str((root / path).resolve())
        if job.needs:
            settings["evaluate.ensemble"] = str(_gather_models(job, root))
        if job.after:
            settings["annotations"] = str(_fetch_labels(job, root))
        command = experiment_command(job.name, settings, copied)
        processes.run(command, root, log, variables)
        # The exit code is not reliable: of 90 experiments, 15 at a time, three were saved by DVC
        # but ended with "conflicts with existing experiment", as a second attempt does.
        kept = list_experiments(root).get(job.name)
        if kept is None:
            return Ended(job, None, log)
        seconds = time.monotonic() - began
        return Ended(job, _read_record(job, root, kept.commit, out, seconds), log)

    places = list(range(pool.at_once))
    tiled: set[str] = set()  # `data` of jobs with tiles in DVC's cache
    ended = {job.name for job in jobs} - {job.name for job in todo}
    running: dict[Future[Ended], tuple[Job, int]] = {}
    with ThreadPoolExecutor(pool.at_once) as threads:
        try:
            while todo or running:
                tiled |= {
                    job.data
                    for job, _ in running.values()
                    if job.data not in tiled and has_finished(_log_path(job, out), TILE_STAGE)
                }
                for job in list(todo):
                    is_tiling = job.data in {other.data for other, _ in running.values()}
                    can_start = (job.data in tiled or not is_tiling) and ended.issuperset(
                        job.waits_for
                    )
                    if places and can_start:
                        todo.remove(job)
                        place = places.pop(0)
                        running[threads.submit(work, job, place)] = (job, place)
                poll_s = POLL_S if todo and places else None
                for future in wait(running, poll_s, FIRST_COMPLETED).done:
                    job, place = running.pop(future)
                    places.append(place)
                    tiled.add(job.data)
                    ended.add(job.name)
                    yield future.result()
        finally:
            processes.stop()


def _gather_models(job: Job, root: Path) -> Path:
    """Fetch the other models of an ensemble, each to its own folder; return the folder of all.

    Raises:
        FileNotFoundError: a model was not trained.
    """
    known = list_experiments(root)
    missing = [name for name in job.needs if name not in known]
    if missing:
        raise FileNotFoundError(
            f"the ensemble {job.name} needs the models of {', '.join(missing)}, which failed: see "
            f"their logs"
        )
    folder = root.absolute() / ".pointcover" / "ensembles" / job.name
    for name in job.needs:
        fetch_folder(root, known[name].commit, "models", folder / name)
    return folder


def _fetch_labels(job: Job, root: Path) -> Path:
    """Fetch the labels with which a round begins: those of the previous one, and its answers.

    Raises:
        FileNotFoundError: the previous round failed.
    """
    before, known = job.member.after, list_experiments(root)
    if before is None or job.after not in known:
        raise FileNotFoundError(
            f"the round {job.name} needs the labels of {job.after}, which failed: see its log"
        )
    (acquisition,) = dict(before.settings)["suggest.acquisitions"]
    folder = root.absolute() / ".pointcover" / "rounds" / job.name
    fetch_folder(root, known[job.after].commit, f"data/next/{acquisition}", folder)
    return folder


def _log_path(job: Job, out: Path) -> Path:
    return out / "logs" / f"{job.name}.log"


def kept_record(job: Job, out: Path) -> Record | None:
    """Return the record of a job that an earlier run of the study kept, if there is one.

    Raises:
        ValueError: it is damaged.
    """
    path = out / "records" / f"{job.name}.json"
    if not path.exists():
        return None
    with own_file(path, "run the study again"):
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
    """Read the record of an existing DVC experiment.

    Raises:
        FileNotFoundError: its files are not in DVC's cache.
    """
    try:
        return _read_record(job, root, commit, out, None)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; or remove it with `dvc exp remove {job.name}`, so that this study runs it"
        ) from None


def _read_record(job: Job, root: Path, commit: str, out: Path, seconds: float | None) -> Record:
    """Read a record from DVC's cache, and save it in `out`."""
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


def state_of_code(root: Path) -> str:
    """Return a digest of dvc.yaml and of all code files that its stages depend on.

    Raises:
        FileNotFoundError: there is no dvc.yaml.
    """
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
    lock = root / LOCK  # of a project whose code is installed
    tops = [root / "dvc.yaml", *([lock] if lock.is_file() else [])]
    return digest_values([[str(file.relative_to(root)), sha256(file)] for file in [*tops, *files]])
