"""List DVC experiments, run them in copies of the tree, and read their results.

No other module uses DVC. Experiments are run by DVC's command line, and read with `dvc.api`, which
finds an experiment's files in the cache without changing the working folder.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pointcover.runtime.atomic_files import publish_folder
from pointcover.runtime.python_path import with_this_python

TILING: Final = "metrics/tile.json"
ANNOTATION: Final = "metrics/annotate.json"
TRAINING: Final = "metrics/train.json"
TEST: Final = "metrics/evaluate.json"
"""Paths of an experiment's metrics, by the stages that write them."""

LOCK_MESSAGES: Final = ("Unable to acquire lock", "is busy, it is being blocked by")
"""Messages of DVC if another DVC process holds its lock; only then is a command repeated."""

LOCK_TRIES: Final = 20

BARE: Final = re.compile(r"(?!(?:null|true|false|inf|nan)$)[a-z_][\w./-]*", re.ASCII | re.I)
"""Texts that Hydra's grammar and shells read as they are, without quotes."""


class Experiment(NamedTuple):
    """A finished experiment: its git commit, and the commit of its baseline."""

    commit: str
    baseline: str


def list_experiments(root: Path) -> dict[str, Experiment]:
    """Return all finished experiments by name, of any baseline.

    Raises:
        ValueError: `root` is not a git repository.
    """
    listed = _git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = {}
    for line in listed.splitlines():
        ref, commit = line.split()
        parts = ref.split("/")  # refs/exps/<2 digits>/<38 digits>/<name>
        if len(parts) == 5 and len(parts[2]) == 2 and len(parts[3]) == 38:
            found[parts[4]] = Experiment(commit, parts[2] + parts[3])
    return found


def head_commit(root: Path) -> str | None:
    """Return the git commit that a folder is at; None where it has none, or git is missing."""
    try:
        return _git(root, "rev-parse", "HEAD").strip() or None
    except (ValueError, OSError):
        return None


def read_files(root: Path, commit: str, paths: Sequence[str]) -> dict[str, str]:
    """Read text files of an experiment from git and DVC's cache.

    Args:
        root: the project's folder.
        commit: of the experiment.
        paths: of the files, relative to the root.

    Returns:
        the texts by path.

    Raises:
        FileNotFoundError: the experiment has no such file, or it is not in the cache.
    """
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(str(root), rev=commit)
    found = {}
    for path in paths:
        try:
            found[path] = str(files.read_text(path, encoding="utf-8"))
        except FileNotFoundError:
            raise _not_cached(path, commit) from None
    return found


def _not_cached(path: str, commit: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"{path} of experiment {commit[:8]} is neither in DVC's cache nor in its remote, or the "
        f"remote does not answer: `dvc pull` says which; or run this experiment again"
    )


def fetch_folder(root: Path, commit: str, path: str, to: Path) -> None:
    """Copy an output folder of an experiment, such as its model, from DVC's cache.

    Raises:
        FileNotFoundError: the experiment has no such folder, or it is not in the cache.
    """
    from dvc.api import DVCFileSystem

    with publish_folder(to) as aside:
        try:
            aside.rmdir()  # if it exists, `get` makes another folder inside
            DVCFileSystem(str(root), rev=commit).get(path, str(aside), recursive=True)
        except FileNotFoundError:
            raise _not_cached(path, commit) from None


def read_outputs(root: Path, commit: str, paths: Sequence[str]) -> dict[str, Any]:
    """Read JSON files of an experiment; see `read_files`."""
    return {path: json.loads(text) for path, text in read_files(root, commit, paths).items()}


def experiment_command(
    name: str, settings: Mapping[str, Any], copied: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs an experiment in a copy of the tree.

    Args:
        name: of the experiment.
        settings: values by their dotted names in params.yaml.
        copied: paths that git does not track, which are copied, too.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name]
    for path in copied:
        command += ["--copy-paths", path]
    for key, value in settings.items():
        command += ["--set-param", override(key, value)]
    return command


def override(key: str, value: object) -> str:
    """Return a setting in the grammar of `dvc exp run -S` (Hydra's).

    A table's keys are added to those in params.yaml (`++`), since most tables are empty there.
    Quotes are written only where the grammar needs them. For a shell, quote the whole setting.
    """
    sign = "++" if isinstance(value, dict) else ""
    return f"{sign}{key}={_literal(value)}"


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_literal(item) for item in value) + "]"
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if BARE.fullmatch(value) else f"'{quoted}'"
    return json.dumps(value)


def _key(name: object) -> str:
    """Return a table's key with backslash escapes, since the grammar allows no quotes there."""
    return re.sub(r"([\\()\[\]{}:=,])", r"\\\1", str(name))


class Processes:
    """Commands that run in parallel, and can be stopped together."""

    def __init__(self) -> None:
        """Start without processes."""
        self._running: set[subprocess.Popen[bytes]] = set()
        self.is_stopped = False

    def run(
        self, command: Sequence[str], folder: Path, log: Path, extra: Mapping[str, str]
    ) -> None:
        """Run a command, and repeat it while another process holds DVC's lock.

        Args:
            command: with its arguments.
            folder: the working folder.
            log: file of the output; each attempt overwrites it.
            extra: environment variables, in addition to those of this process.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = with_this_python(extra)
        for attempt in range(LOCK_TRIES):
            with log.open("wb") as out:
                code = self._run_once(command, folder, out, environment)
            output = log.read_text(encoding="utf-8", errors="replace")
            if code == 0 or self.is_stopped or not any(text in output for text in LOCK_MESSAGES):
                return
            time.sleep(min(30, 0.5 * 1.5**attempt) * random.uniform(0.5, 1))

    def _run_once(
        self, command: Sequence[str], folder: Path, out: Any, environment: Mapping[str, str]
    ) -> int:
        # In a session of its own, so that Ctrl-C reaches only this process, which then stops the
        # others. By a wrapper, since `preexec_fn` may deadlock in a process with threads. It does
        # not ignore interrupts, as everything does that a shell script starts with `&`.
        wrapped = [sys.executable, "-c", _END_WITH_PARENT, str(os.getpid()), *command]
        process = subprocess.Popen(
            wrapped,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self._running.add(process)
        if self.is_stopped:
            self.stop()
        try:
            return process.wait()
        finally:
            self._running.discard(process)

    def stop(self) -> None:
        """Interrupt all running commands as Ctrl-C does, so that DVC cleans up; start no others."""
        self.is_stopped = True
        for process in list(self._running):
            try:
                os.killpg(process.pid, signal.SIGINT)
            except ProcessLookupError:
                continue


_END_WITH_PARENT: Final = """
import os, signal, sys
from pointcover.runtime.signals import end_with_parent
signal.signal(signal.SIGINT, signal.SIG_DFL)
end_with_parent(signal.SIGINT, int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


def has_finished(log: Path, stage: str) -> bool:
    """Return whether a running experiment has finished a stage, so that its outputs are cached.

    Args:
        log: the output of DVC until now.
        stage: its name in dvc.yaml; not the last stage.
    """
    output = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    named = re.findall(r"\b[Ss]tage '([^']+)'", output)
    return stage in named and named[-1] != stage


def untracked_in(root: Path, folder: str) -> list[str]:
    """Return the files in a folder that git does not track, including ignored ones.

    A folder without any tracked file is returned itself: DVC copies folders that do not exist yet,
    and single files.
    """
    listed = _git(root, "ls-files", "--others", "--directory", "--", folder).splitlines()
    return [name.removesuffix("/") for name in listed]


def is_in_copy(root: Path, path: str) -> bool:
    """Return whether a path means the same in the copy of the tree in which DVC runs experiments.

    An absolute path does; a relative one if git tracks it, or it is `sources`, which is copied.
    """
    if Path(path).is_absolute() or Path(path).parts[:1] == ("sources",):
        return True
    inside = (root / path).resolve().is_relative_to(root.resolve())
    return inside and bool(_git(root, "ls-files", "--", path))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        env=os.environ | {"LC_ALL": "C"},  # its messages are compared
        check=False,
        capture_output=True,
        text=True,
    )
    if "dubious ownership" in done.stderr:
        raise ValueError(
            f"{root} belongs to another user, so git does not use it: run `git config --global "
            f"--add safe.directory {root.absolute()}`, or change its owner"
        )
    if done.returncode:
        raise ValueError(
            f"{root} is not a git repository, which experiments need "
            f"({done.stderr.strip()}): run `git init`, and commit the project"
        )
    return done.stdout
