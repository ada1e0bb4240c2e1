"""Each experiment of a study is run once, beside others, whatever becomes of those.

DVC is played by a script: tests/test_study_pipeline.py has the real one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import yaml

from pointcover.config.params import Params
from pointcover.study import running
from pointcover.study.plan import Member, check_members, members_of, read_study
from pointcover.study.running import Ended, Job, JobPool, make_jobs, run_jobs
from pointcover.tracking import dvc_experiments as experiments
from pointcover.tracking.dvc_experiments import Experiment
from pointcover.yaml_files import read_yaml
from tests.imagery import ROOT

FAKE_DVC = """
import os, sys, time
from pathlib import Path
name, root = sys.argv[1], Path(sys.argv[2])
wish = (root / "wishes" / name).read_text() if (root / "wishes" / name).exists() else ""
with (root / "calls.txt").open("a") as calls:
    print(name, "begins", os.environ.get("CUDA_VISIBLE_DEVICES", "-"), file=calls)
if wish == "lock once":
    (root / "wishes" / name).unlink()
    sys.exit("ERROR: Unable to acquire lock. Most likely another DVC process is running")
if (root / "exps" / name).exists():
    sys.exit(f"ERROR: Experiment conflicts with existing experiment '{name}'.")
if wish == "lock at the end":
    (root / "exps" / name).touch()
    sys.exit("ERROR: Unable to acquire lock. Most likely another DVC process is running")
if wish == "fail":
    sys.exit("train: the disk is full")
if wish == "cut and wait":
    print("Running stage 'tile':", flush=True)
    time.sleep(0.5)
    print("Running stage 'annotate':", flush=True)
    while not list((root / "exps").iterdir()):
        time.sleep(0.05)
    wish = "0"
time.sleep(float(wish or 0))
(root / "exps" / name).touch()
with (root / "calls.txt").open("a") as calls:
    print(name, "ends", file=calls)
"""
OUTPUTS = {
    "metrics/tile.json": {"train": {"km2": 0.25}},
    "metrics/annotate.json": {
        "train": {
            "clicks": 40,
            "tiles": 4,
            "clicks_per_tile": 10,
            "labelled_fraction": 0.1,
            "error": None,
        }
    },
    "metrics/train.json": {"val_miou": 0.4},
    "metrics/evaluate.json": {"miou": 0.5, "accuracy": 0.8, "by_class": {"field": {"iou": 0.5}}},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose DVC is a script that does what `wishes/NAME` says."""
    for folder in ("exps", "wishes", "sources", "src", "stages"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "code.py").write_text("a = 1\n")
    stages = {"train": {"deps": ["src/code.py", "data/tiles"]}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "dvc.py").write_text(FAKE_DVC)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    def command(name: str, settings: dict, copied: list) -> list[str]:
        return [sys.executable, str(tmp_path / "dvc.py"), name, str(tmp_path)]

    monkeypatch.setattr(running, "experiment_command", command)
    monkeypatch.setattr(
        running,
        "list_experiments",
        lambda root: {f.name: Experiment("commit", "base") for f in (root / "exps").iterdir()},
    )
    monkeypatch.setattr(running, "read_outputs", lambda *_: OUTPUTS)
    return tmp_path


def make_job(name: str, data: str = "d") -> Job:
    return Job(Member("links", (), 10, 1, (("points", 10),)), name, data)


def run(root: Path, *jobs: Job, **options) -> list[Ended]:
    return list(run_jobs(jobs, root, root / "out", lambda job: {}, JobPool(**options)))


def calls(root: Path) -> list[str]:
    path = root / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_an_experiment_is_run_once_and_its_record_kept(root):
    (first,) = run(root, make_job("a"))
    assert first.record.numbers["miou"] == 0.5
    assert first.record.numbers["area_km2"] == 0.25
    assert first.record.numbers["seconds"] > 0
    assert not first.was_known
    (again,) = run(root, make_job("a"))
    assert again.was_known
    assert again.record == first.record
    assert calls(root) == ["a begins -", "a ends"]


def test_an_experiment_that_dvc_has_already_is_read_and_not_run(root):
    (root / "exps" / "a").touch()
    (ended,) = run(root, make_job("a"))
    assert ended.was_known
    assert ended.record.numbers["seconds"] is None
    assert calls(root) == []


def test_an_experiment_without_its_files_is_an_error_with_a_remedy(root, monkeypatch):
    def lost(*_: object) -> None:
        raise FileNotFoundError("metrics/train.json of experiment 1234 is not in DVC's cache")

    monkeypatch.setattr(running, "read_outputs", lost)
    (root / "exps" / "a").touch()
    with pytest.raises(FileNotFoundError, match="or remove it with `dvc exp remove a`"):
        run(root, make_job("a"))


def test_a_failed_experiment_stops_no_other_and_only_it_is_repeated(root):
    (root / "wishes" / "a").write_text("fail")
    ended = {each.job.name: each for each in run(root, make_job("a"), make_job("b"))}
    assert ended["a"].record is None
    assert "the disk is full" in ended["a"].log.read_text()
    assert ended["b"].record is not None
    (root / "wishes" / "a").unlink()
    again = run(root, make_job("a"), make_job("b"))
    assert all(each.record for each in again)
    assert [line for line in calls(root) if "begins" in line] == [
        "a begins -",
        "b begins -",
        "a begins -",
    ]


def test_dvcs_lock_is_waited_for_and_nothing_else(root):
    (root / "wishes" / "a").write_text("lock once")
    (ended,) = run(root, make_job("a"))
    assert ended.record is not None
    assert calls(root) == ["a begins -", "a begins -", "a ends"]


def test_an_experiment_that_dvc_saved_despite_an_error_is_no_failure(root):
    (root / "wishes" / "one").write_text("lock at the end")
    (ended,) = run(root, make_job("one"))
    assert ended.record is not None
    assert "conflicts" in ended.log.read_text()
    assert run(root, make_job("one"))[0].was_known


@pytest.mark.slow
def test_only_one_of_the_experiments_with_equal_tiles_makes_them(root):
    for name in "abcd":
        (root / "wishes" / name).write_text("0.3")
    jobs = [make_job("a", "one"), make_job("b", "one"), make_job("c", "one"), make_job("d", "two")]
    run(root, *jobs, at_once=3)
    said = calls(root)
    assert {line.split()[0] for line in said[:2]} == {"a", "d"}
    assert said.index("a ends") < said.index("b begins -")
    # Once they are cut, the others go side by side.
    assert said.index("c begins -") < said.index("b ends")


def test_the_others_start_as_soon_as_tiles_exist(root, monkeypatch):
    monkeypatch.setattr(running, "POLL_S", 0.05)
    (root / "wishes" / "a").write_text("cut and wait")  # for another one's end
    run(root, make_job("a"), make_job("b"), at_once=2)
    said = calls(root)
    assert said.index("b begins -") < said.index("b ends") < said.index("a ends")


@pytest.mark.parametrize(
    ("said", "is_behind"),
    [
        ("", False),
        ("Running stage 'tile':\n", False),
        ("Running stage 'tile':\n> python\nUpdating lock file 'dvc.lock'\n", False),
        ("Running stage 'tile':\n\nRunning stage 'annotate':\n", True),
        ("Stage 'tile' is cached - skipping run\nStage 'annotate' didn't change\n", True),
        ("Running stage 'annotate':\n", False),
    ],
)
def test_a_stage_has_finished_once_another_is_named(said, is_behind, tmp_path):
    (tmp_path / "log").write_text(said)
    assert experiments.has_finished(tmp_path / "log", "tile") is is_behind
    assert not experiments.has_finished(tmp_path / "none", "tile")


def test_each_place_has_a_gpu_of_its_own_where_there_are_several(root):
    for name in "abc":
        (root / "wishes" / name).write_text("0.3")
    run(root, *(make_job(name, name) for name in "abc"), at_once=2, gpus=2)
    begun = [line.split() for line in calls(root) if "begins" in line]
    assert {words[2] for words in begun[:2]} == {"0", "1"}
    assert all(words[2] in "01" for words in begun)


def test_an_ensemble_waits_for_its_models_and_gets_each_in_a_folder(root, monkeypatch):
    said: dict[str, dict] = {}
    monkeypatch.setattr(
        running, "fetch_folder", lambda root, commit, path, to: to.mkdir(parents=True)
    )
    command = running.experiment_command
    monkeypatch.setattr(
        running,
        "experiment_command",
        lambda name, settings, copied: said.update({name: settings}) or command(name, {}, []),
    )
    ensemble = replace(make_job("e", "other"), needs=("a", "b"))
    (root / "wishes" / "b").write_text("0.5")
    ended = run(root, ensemble, make_job("a"), make_job("b"), at_once=3)
    assert [each.job.name for each in ended] == ["a", "b", "e"]
    folder = Path(said["e"]["evaluate.ensemble"])
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert "evaluate.ensemble" not in said["a"]


def test_an_ensemble_whose_models_failed_fails_with_their_names(root):
    (root / "wishes" / "a").write_text("fail")
    _, ended = run(root, make_job("a"), replace(make_job("e"), needs=("a",)))
    assert ended.record is None
    assert "needs the models of a, which failed" in ended.log.read_text()


def two_rounds() -> tuple[Job, Job]:
    first = Member("m", (), 10, 1, (("points", 10), ("suggest.acquisitions", ["entropy"])))
    second = replace(first, points=20, after=first)
    return Job(first, "a", "d"), Job(second, "b", "d", after="a")


def test_a_round_waits_for_the_previous_one_and_gets_its_labels(root, monkeypatch):
    fetched, said = [], {}
    monkeypatch.setattr(running, "fetch_folder", lambda *given: fetched.append(given))
    command = running.experiment_command
    monkeypatch.setattr(
        running,
        "experiment_command",
        lambda name, settings, copied: said.update({name: settings}) or command(name, {}, []),
    )
    (root / "wishes" / "a").write_text("0.5")
    first, second = two_rounds()
    ended = run(root, second, first, at_once=2)
    assert [each.job.name for each in ended] == ["a", "b"]
    assert "annotations" not in said["a"]
    folder = root / ".pointcover" / "rounds" / "b"
    assert said["b"]["annotations"] == str(folder)
    assert fetched == [(root, "commit", "data/next/entropy", folder)]


def test_a_round_after_a_failed_one_fails_with_its_name(root):
    (root / "wishes" / "a").write_text("fail")
    _, ended = run(root, *two_rounds())
    assert ended.record is None
    assert "needs the labels of a, which failed" in ended.log.read_text()


def test_a_rounds_name_depends_on_the_rounds_before(root, make_params: Callable[..., Params]):
    def names(epochs: int) -> list[str]:
        members = [job.member for job in two_rounds()]
        params = [make_params({"train.epochs": epochs}), make_params()]
        return [job.name for job in make_jobs("study", members, params, root)]

    (first, second), (other, after_other) = names(3), names(4)
    assert first != other
    assert second != after_other


@pytest.mark.slow
@pytest.mark.parametrize("at_start", [signal.default_int_handler, signal.SIG_IGN])
def test_closing_the_generator_stops_running_jobs(root, request, at_start):
    """Also where interrupts are ignored: a shell script does so for what it starts with `&`."""
    request.addfinalizer(
        partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, at_start))
    )
    for name in "ab":
        (root / "wishes" / name).write_text("0" if name == "a" else "60")
    ended = run_jobs([make_job("a"), make_job("b")], root, root / "out", lambda job: {}, JobPool(1))
    assert next(ended).job.name == "a"
    deadline = time.monotonic() + 30
    # The generator hands out `a` before it begins `b`: ask for more in a process that is stopped.
    before = set(psutil.Process().children(recursive=True))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2)
    with pytest.raises(KeyboardInterrupt):
        next(ended)
    assert time.monotonic() < deadline
    assert not [child for child in psutil.Process().children(recursive=True) if child not in before]
    assert "b ends" not in calls(root)
    assert not (root / "out" / "records" / "b.json").exists()


def test_a_name_changes_with_settings_code_and_data_and_with_nothing_else(
    root, make_params: Callable[..., Params]
):
    member = make_job("a").member

    def name(changes: dict | None = None) -> str:
        (job,) = make_jobs("study", [member], [make_params(changes)], root)
        return job.name

    first = name()
    assert first.startswith("study-links-10-s1-")
    assert name() == first
    assert name({"machine.workers": 3}) == first
    assert name({"train.epochs": 3}) != first
    (root / "sources" / "clicks.gpkg").write_text("x")
    assert (second := name()) != first
    (root / "src" / "code.py").write_text("a = 2\n")
    assert name() not in (first, second)


@pytest.mark.parametrize("scale", ["full", "small"])
@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_here_has_a_name_for_each_of_its_experiments(path, scale):
    members = members_of(read_study(path, scale))
    params = check_members(members, read_yaml(ROOT / "params.yaml"), path)
    jobs = make_jobs(path.stem, members, params, ROOT)
    names = {job.name for job in jobs}
    assert len(names) == len(jobs) == len(members)
    assert {name for job in jobs for name in job.needs} <= names


def test_jobs_with_other_tiles_have_another_digest(root, make_params: Callable[..., Params]):
    member = make_job("a").member
    params = [make_params(c) for c in ({}, {"train.epochs": 3}, {"tile.downsample": 3})]
    one, same, other = make_jobs("study", [member] * 3, params, root)
    assert one.data == same.data != other.data


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "k=3"),
        (0.001, "k=0.001"),
        (None, "k=null"),
        (True, "k=true"),
        ("link", "k=link"),
        ("tu-hrnet_w18", "k=tu-hrnet_w18"),
        ("/data/a.tif", "k='/data/a.tif'"),
        ("null", "k='null'"),
        ("True", "k='True'"),
        ("it's", "k='it\\'s'"),
        ("", "k=''"),
        ([1, "a b"], "k=[1,'a b']"),
        ({"low veg": 0.5}, "++k={low veg: 0.5}"),
        ({"a (b)": 1}, "++k={a \\(b\\): 1}"),
    ],
)
def test_a_setting_is_written_in_the_grammar_of_dvc(value, said):
    assert experiments.override("k", value) == said
    overrides = pytest.importorskip("hydra.core.override_parser.overrides_parser")
    (parsed,) = overrides.OverridesParser.create().parse_overrides([said])
    assert parsed.value() == value


def test_relative_inputs_that_the_copy_lacks_are_made_absolute(
    root, make_params: Callable[..., Params], monkeypatch
):
    seen = []
    command = running.experiment_command

    def record(name: str, settings: dict, copied: list) -> list[str]:
        seen.append(settings)
        return command(name, settings, copied)

    monkeypatch.setattr(running, "experiment_command", record)
    for name in ("untracked", "tracked"):
        (root / name).mkdir()
        (root / name / "a.txt").touch()
    subprocess.run(["git", "add", "tracked"], cwd=root, check=True)
    member = make_job("a").member
    for source, annotations in (("../data", "untracked"), ("tracked", "sources")):
        params = make_params({"source": source, "annotations": annotations})
        run(root, *make_jobs("study", [member], [params], root))
    assert seen == [
        {
            "points": 10,
            "source": str(root.parent / "data"),
            "annotations": str(root / "untracked"),
        },
        {"points": 10},
    ]


def test_a_folder_without_git_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="not a git repository"):
        experiments.list_experiments(tmp_path)


def test_experiments_are_distinguished_from_other_refs(tmp_path):
    def git(*arguments: str) -> str:
        who = {
            f"GIT_{role}_{key}": "t"
            for role in ("AUTHOR", "COMMITTER")
            for key in ("NAME", "EMAIL")
        }
        return subprocess.run(
            ["git", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | who,
        ).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "x")
    commit = git("rev-parse", "HEAD")
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/mine", commit)
    git("update-ref", "refs/exps/stash", commit)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", commit)
    assert experiments.list_experiments(tmp_path) == {"mine": (commit, commit)}


def test_a_kept_record_is_json(root):
    run(root, make_job("a"))
    kept = json.loads((root / "out" / "records" / "a.json").read_text())
    assert kept["numbers"]["clicks_per_tile"] == 10
