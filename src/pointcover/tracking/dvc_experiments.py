"""DVC's experiments: which there are, how one is run in a copy of the tree, what it came to.

No other module knows DVC. Experiments are run by the command, as a user would, and read by
`dvc.api`, which finds an experiment's files in the cache without touching the working folder.
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

TILING: Final = "metrics/tile.json"
ANNOTATION: Final = "metrics/annotate.json"
TRAINING: Final = "metrics/train.json"
TEST: Final = "metrics/evaluate.json"
"""Where an experiment's numbers lie, by the stages that write them."""

LOCK_MESSAGES: Final = ("Unable to acquire lock", "is busy, it is being blocked by")
"""What DVC says where another DVC is in its way: trying again helps, and only then."""

LOCK_TRIES: Final = 20


class Experiment(NamedTuple):
    """A finished experiment: its git commit, and the one that it began from."""

    commit: str
    baseline: str


def list_experiments(root: Path) -> dict[str, Experiment]:
    """Return all finished experiments by name, of any baseline.

    Raises:
        ValueError: `root` is no git repository.
    """
    listed = _git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = {}
    for line in listed.splitlines():
        ref, commit = line.split()
        parts = ref.split("/")  # refs/exps/<2 digits>/<38 digits>/<name>
        if len(parts) == 5 and len(parts[2]) == 2 and len(parts[3]) == 38:
            found[parts[4]] = Experiment(commit, parts[2] + parts[3])
    return found


def read_files(root: Path, commit: str, paths: Sequence[str]) -> dict[str, str]:
    """Read texts that an experiment holds, out of git and DVC's cache.

    Args:
        root: the project's folder.
        commit: of the experiment.
        paths: of the files, from the root on.

    Raises:
        FileNotFoundError: the experiment has no such file, or the cache lacks it.
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
        f"{path} of experiment {commit[:8]} is not in DVC's cache: run that experiment again, or "
        f"`dvc pull` it from your remote"
    )


def fetch_folder(root: Path, commit: str, path: str, to: Path) -> None:
    """Copy a folder of an experiment's outputs, such as its model, out of DVC's cache.

    Raises:
        FileNotFoundError: the experiment has no such folder, or the cache lacks it.
    """
    from dvc.api import DVCFileSystem

    with publish_folder(to) as aside:
        try:
            aside.rmdir()  # into a folder that is there, `get` puts another one
            DVCFileSystem(str(root), rev=commit).get(path, str(aside), recursive=True)
        except FileNotFoundError:
            raise _not_cached(path, commit) from None


def read_outputs(root: Path, commit: str, paths: Sequence[str]) -> dict[str, Any]:
    """Read JSON files that an experiment wrote, as `read_files` reads texts."""
    return {path: json.loads(text) for path, text in read_files(root, commit, paths).items()}


def experiment_command(
    name: str, settings: Mapping[str, Any], copied: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs an experiment in a copy of the tree.

    Args:
        name: of the experiment.
        settings: by their names in params.yaml, with dots.
        copied: paths that git does not track, to copy too.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name]
    for path in copied:
        command += ["--copy-paths", path]
    for key, value in settings.items():
        command += ["--set-param", override(key, value)]
    return command


def override(key: str, value: object) -> str:
    """Say a setting in the grammar of `dvc exp run -S` (Hydra's).

    A table is added to what params.yaml says, since most of these are empty there.
    """
    sign = "++" if isinstance(value, dict) else ""
    return f"{sign}{key}={_literal(value)}"


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if value.isidentifier() else f"'{quoted}'"
    return json.dumps(value)


def _key(name: object) -> str:
    """Return a table's key: the grammar knows no quotes there, and escapes by a backslash."""
    return re.sub(r"([\\()\[\]{}:=,])", r"\\\1", str(name))


class Processes:
    """Commands that run side by side, and that end together."""

    def __init__(self) -> None:
        """Begin with none."""
        self._running: set[subprocess.Popen[bytes]] = set()
        self.is_stopped = False

    def run(
        self, command: Sequence[str], folder: Path, log: Path, extra: Mapping[str, str]
    ) -> None:
        """Run a command to its end, trying again where DVC's lock was in the way.

        Args:
            command: and its arguments.
            folder: where.
            log: gets its output; a new attempt begins it anew.
            extra: variables of its environment.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        bin_folder = str(Path(sys.executable).parent)  # stages are run as `python`
        environment = {**os.environ, **extra}
        environment["PATH"] = os.pathsep.join([bin_folder, environment.get("PATH", "")])
        for attempt in range(LOCK_TRIES):
            with log.open("wb") as out:
                code = self._run_once(command, folder, out, environment)
            said = log.read_text(encoding="utf-8", errors="replace")
            if code == 0 or self.is_stopped or not any(words in said for words in LOCK_MESSAGES):
                return
            time.sleep(min(30, 0.5 * 1.5**attempt) * random.uniform(0.5, 1))

    def _run_once(
        self, command: Sequence[str], folder: Path, out: Any, environment: Mapping[str, str]
    ) -> int:
        # Its own session: Ctrl-C reaches this process alone, which decides how the others end. And
        # a wrapper, since a function between fork and exec may hang where there are threads.
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
        """Interrupt all that run, as Ctrl-C would, and let none begin: DVC then tidies up."""
        self.is_stopped = True
        for process in list(self._running):
            try:
                os.killpg(process.pid, signal.SIGINT)
            except ProcessLookupError:
                continue


_END_WITH_PARENT: Final = """
import os, signal, sys
from pointcover.runtime.signals import end_with_parent
end_with_parent(signal.SIGINT, int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


def has_behind(log: Path, stage: str) -> bool:
    """Return whether a running experiment has finished a stage, so that the cache has its outputs.

    Args:
        log: what DVC has printed so far.
        stage: its name in dvc.yaml; another one follows it.
    """
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    named = re.findall(r"\b[Ss]tage '([^']+)'", said)
    return stage in named and named[-1] != stage


def untracked_in(root: Path, folder: str) -> list[str]:
    """List files below a folder that git does not track, ignored ones included."""
    return _git(root, "ls-files", "--others", "--", folder).splitlines()


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(
            f"{root} is no git repository that experiments can be kept in "
            f"({done.stderr.strip()}): run `git init`, and commit the project"
        )
    return done.stdout
