"""A search chooses trials by validation scores, the same ones after a stop, and reports them."""

import csv
import json
import math
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.study import searching, sync
from pointcover.study import trials as trials_of
from pointcover.study.conducting import StudyRun
from pointcover.study.plan import members_of_trial, params_of, read_study
from pointcover.study.records import Record
from pointcover.study.running import Ended, Job, JobPool, make_jobs
from pointcover.study.search_plan import Range, Search
from pointcover.study.search_report import SearchSummary, write_search_report
from pointcover.study.searching import TRIALS, Searched, _Plan, _run_trials, conduct_search
from pointcover.study.trials import Trial, ask, best_of, importances
from pointcover.tracking.store import StoreUnreachableError
from tests.clones import Clone, start_study
from tests.imagery import ROOT, change

PARAMS = {
    "train.lr": {"low": 1.0e-4, "high": 1.0e-1, "log": True},
    "train.classifier.random_forest.max_depth": {"low": 2, "high": 16, "step": 3},
    "train.class_weighting": ["none", "square_root", "balanced"],
    "train.classifier.scales": [[2], [2, 4]],
}
PLAN = {
    "title": "Which settings?",
    "settings": {"dataset": "synthetic", "train.model": "random_forest"},
    "points": [20],
    "seeds": [1, 2],
    "search": {"trials": 14, "params": PARAMS, "maximise": "val/miou"},
}


def write(folder: Path, plan=None, **search) -> Path:
    plan = plan or PLAN
    path = folder / "rates.yaml"
    path.write_text(yaml.safe_dump(plan | {"search": plan["search"] | search}, sort_keys=False))
    return path


def score(params) -> float:
    """A score that is highest at a rate of 0.01, and without class weights."""
    far = abs(math.log10(params["train.lr"]) + 2)
    return round(0.8 - 0.1 * far - 0.2 * (params["train.class_weighting"] != "none"), 4)


class Machine:
    """Runs experiments at once; the test score says the contrary of the validation score."""

    def __init__(self, broken=(), stop_after=None):
        self.members, self.broken, self.stop_after = [], broken, stop_after

    def run(self, members):
        for member in members:
            if self.stop_after is not None and len(self.members) >= self.stop_after:
                raise KeyboardInterrupt
            self.members.append(member)
            job = Job(member, member.slug, "")
            value = score(dict(member.settings)) + 0.001 * member.seed
            numbers = {"val_miou": value, "miou": 1 - value}
            who = member.method, (), member.points, member.seed, member.slug
            record = Record(*who, numbers)
            failed = member.method in self.broken
            yield Ended(job, None if failed else record, Path("x.log"))


def search(folder: Path, machine, path=None):
    """Run all trials on a machine."""
    path = path or write(folder)
    plan = _Plan.read(StudyRun(path), ROOT, folder / "out")
    searched, names = Searched(plan.search.trials), {}
    list(_run_trials(plan, machine.run, searched, names))
    return searched


# Choosing -----------------------------------------------------------------------------------------


def test_the_same_search_gives_the_same_trials(tmp_path):
    first = search(tmp_path, Machine())
    (tmp_path / "out" / TRIALS).unlink()
    again = search(tmp_path, Machine())
    assert first.trials == again.trials
    assert len({json.dumps(trial.params) for trial in first.trials}) > 10
    for trial in first.trials:
        assert 1e-4 <= trial.params["train.lr"] <= 1e-1
        assert len(f"{trial.params['train.lr']:.10g}".lstrip("0.").replace(".", "")) <= 7
        assert trial.params["train.classifier.random_forest.max_depth"] in (2, 5, 8, 11, 14)
        assert trial.params["train.classifier.scales"] in ([2], [2, 4])
        expected = score(trial.params) + 0.0015
        assert trial.score == pytest.approx(expected), "the mean over both seeds"
    (tmp_path / "out" / TRIALS).unlink()
    other = search(tmp_path, Machine(), write(tmp_path, seed=2))
    assert other.trials[0].params != first.trials[0].params


def test_the_best_trial_is_that_of_the_validation_score(tmp_path):
    searched = search(tmp_path, Machine())
    best = best_of(searched.trials)
    assert best.score == max(trial.score for trial in searched.trials)
    assert best.test == min(trial.test for trial in searched.trials)
    blind = [replace(trial, tests={}) for trial in searched.trials]
    settings = read_study(write(tmp_path)).search.model_copy(update={"trials": 15})
    assert ask(settings, blind, 14) == ask(settings, searched.trials, 14)


def test_later_trials_are_chosen_by_the_scores_of_those_before(tmp_path):
    searched = search(tmp_path, Machine(), write(tmp_path, trials=40))
    rates = [abs(math.log10(one.params["train.lr"]) + 2) for one in searched.trials]
    assert sum(rates[20:]) / 20 < 0.75 * sum(rates[:10]) / 10
    settings = read_study(write(tmp_path, trials=41)).search
    turned = [
        replace(one, scores={s: -v for s, v in one.scores.items()}) for one in searched.trials
    ]
    assert ask(settings, turned, 40) != ask(settings, searched.trials, 40)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, at_once):
    path = write(tmp_path, at_once=at_once)
    whole = search(tmp_path, Machine(), path)
    (tmp_path / "out" / TRIALS).unlink()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Machine(stop_after=9), path)
    kept = json.loads((tmp_path / "out" / TRIALS).read_text())["params"]
    assert 0 < len(kept) < 14
    assert search(tmp_path, Machine(), path).trials == whole.trials
    longer = search(tmp_path, Machine(), write(tmp_path, at_once=at_once, trials=20))
    assert longer.trials[:14] == whole.trials
    assert len(longer.trials) == 20


def test_a_trial_that_failed_is_repeated_and_the_later_ones_stay(tmp_path):
    broken = search(tmp_path, Machine(broken=("trial 3",)))
    assert [one.number for one in broken.trials if one.score is None] == [3]
    assert "failed, see x.log" in broken.trials[3].fault
    assert {ended.job.member.method for ended in broken.failed} == {"trial 3"}
    mended = search(tmp_path, Machine())
    assert [one.params for one in mended.trials] == [one.params for one in broken.trials]
    assert mended.trials[3].score is not None


def test_settings_that_do_not_go_together_are_trials_without_a_score(tmp_path):
    params = {"train.loss": ["cross_entropy", "focal"], "train.classifier.max_pixels": [10, 20]}
    machine = Machine()
    machine_score = {"train.lr": 0.01, "train.class_weighting": "none"}

    def run(members):
        return Machine().run(
            [replace(one, settings=(*one.settings, *machine_score.items())) for one in members]
        )

    machine.run = run
    searched = search(tmp_path, machine, write(tmp_path, params=params, trials=8))
    focal = [one for one in searched.trials if one.params["train.loss"] == "focal"]
    assert focal
    for trial in searched.trials:
        assert (trial.score is None) == (trial in focal)
    assert "no effect on model 'random_forest'" in focal[0].fault
    assert searched.failed == []


def test_another_search_does_not_use_the_trials_of_the_first(tmp_path):
    search(tmp_path, Machine())
    narrow = write(tmp_path, params={"train.lr": {"low": 0.001, "high": 0.002}})
    plan = _Plan.read(StudyRun(narrow), ROOT, tmp_path / "out")
    assert plan.kept.was_other
    assert plan.kept.params == ()
    same = StudyRun(write(tmp_path), settings={"machine.readers": 3})
    plan = _Plan.read(same, ROOT, tmp_path / "out")
    assert not plan.kept.was_other, "the same search on another machine"
    assert len(plan.kept.params) == 14
    (tmp_path / "out" / TRIALS).write_text('{"search": 3}')
    with pytest.raises(ValueError, match=r"trials\.json has .*fault"):
        _Plan.read(StudyRun(narrow), ROOT, tmp_path / "out")


def set_param(root: Path, name: str, value) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    (root / "params.yaml").write_text(yaml.safe_dump(change(values, {name: value})))


@pytest.mark.parametrize(
    ("act", "begins_anew"),
    [
        (lambda root: set_param(root, "machine.readers", 3), False),
        (lambda root: set_param(root, "train.lr", 0.3), False),  # trials set it
        (lambda root: set_param(root, "points", 77), False),  # the study sets it
        (lambda root: set_param(root, "train.patience", 7), True),
        (lambda root: set_param(root, "annotate.position_noise_px", 2), True),
        (lambda root: (root / "src" / "code.py").write_text("a = 2\n"), True),
        (lambda root: (root / "sources" / "clicks.geojson").write_text("{}"), True),
    ],
    ids=["machine", "searched", "of the study", "training", "labels", "code", "data"],
)
def test_another_state_of_settings_code_or_data_begins_a_new_search(
    tmp_path, project, act, begins_anew
):
    path = write(tmp_path)

    def read():
        return _Plan.read(StudyRun(path), project, tmp_path / "out")

    plan = read()
    plan.params([])
    plan.kept.keep_run("x")
    assert (read().kept.was_other, read().kept.run) == (False, "x")
    names = names_of(plan, project)
    act(project)
    assert read().kept.was_other == begins_anew
    assert read().kept.run == (None if begins_anew else "x")
    assert (names_of(read(), project) != names) == begins_anew, "as the names of experiments say"


def names_of(plan, root):
    params = {key: (v if isinstance(v, list) else [v["low"]])[0] for key, v in PARAMS.items()}
    members = plan.members(0, params)
    settings = [params_of(one, plan.base, plan.path) for one in members]
    return [job.name for job in make_jobs("x", members, settings, root)]


def conduct(folder: Path, root: Path, monkeypatch, shift=0.0) -> None:
    """Run a search whose experiments have a score at once."""

    def run_jobs(jobs, root, out, extra, pool):
        for ended in Machine().run([job.member for job in jobs]):
            numbers = ended.record.numbers
            record = replace(ended.record, numbers={k: v - shift for k, v in numbers.items()})
            yield replace(ended, record=record)

    monkeypatch.setattr(searching, "run_jobs", run_jobs)
    conduct_search(StudyRun(write(folder, trials=3)), root, folder / "out", JobPool())


@pytest.mark.slow
def test_a_search_that_begins_anew_is_a_new_run_with_the_new_scores(
    tmp_path, project, monkeypatch, capsys
):
    monkeypatch.setattr(searching, "sync_study", lambda *_: None)
    conduct(tmp_path, project, monkeypatch)
    first = json.loads((tmp_path / "out" / TRIALS).read_text())
    conduct(tmp_path, project, monkeypatch)
    assert json.loads((tmp_path / "out" / TRIALS).read_text()) == first
    assert "begun anew" not in capsys.readouterr().err
    (project / "src" / "code.py").write_text("a = 2\n")
    conduct(tmp_path, project, monkeypatch, shift=0.25)
    said = capsys.readouterr().err
    assert said.count("was of a search of other settings, code or data: begun anew") == 1
    second = json.loads((tmp_path / "out" / TRIALS).read_text())
    assert second["run"] != first["run"]
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    old, new = (
        [point.value for point in client.get_metric_history(one["run"], "search/val_miou")]
        for one in (first, second)
    )
    assert len(old) == 3
    assert new == pytest.approx([value - 0.25 for value in old])


@pytest.mark.slow
def test_a_store_that_is_away_at_the_end_loses_no_report(tmp_path, project, monkeypatch, caplog):
    def away(*_):
        raise StoreUnreachableError("no MLflow server answers")

    monkeypatch.setattr(sync, "sync", away)
    conduct(tmp_path, project, monkeypatch)
    (said,) = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    assert said.startswith("no MLflow server answers. Experiments whose results were in the cache")
    assert "`pointcover sync`" in said
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    run = client.get_run(json.loads((tmp_path / "out" / TRIALS).read_text())["run"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["best_trial"] in ("0", "1", "2")
    assert "test/miou" in run.data.metrics
    assert run.data.tags["mlflow.note.content"]
    files = {file.path for file in client.list_artifacts(run.info.run_id, "report")}
    assert "report/report.html" in files


# The study file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"params": {"train.lrr": [1, 2]}},
            r"search\.params\.train\.lrr.*lrr: this key is unknown",
        ),
        ({"params": {"points": [1, 2]}}, "got 'points', wanted settings of train"),
        ({"params": {"train.lr": [0.1]}}, "wanted two values or more"),
        ({"params": {"train.lr": [0.1, 0.1]}}, "wanted two values or more"),
        ({"params": {"train.lr": {"low": 2, "high": 1}}}, "wanted low below high"),
        ({"params": {"train.lr": {"low": 0, "high": 1, "log": True}}}, "a number above 0"),
        ({"params": {"train.lr": {"low": 0.5, "high": 30.0}}}, "got 30.0, wanted a number"),
        ({"params": {"train.lr": {"low": 0.1, "high": 1, "step": 0.1, "log": True}}}, "exclude"),
        ({"params": {"train.epochs": {"low": 1, "high": 9, "step": 0.5}}}, "wanted a whole number"),
        ({"params": {"train.lr": {"lo": 0.1, "high": 1}}}, "lo"),
        ({"params": {"train.model": ["random_forest", "unet"]}}, "both name train.model"),
        ({"params": {}}, "params"),
        ({"trials": 0}, "trials"),
        ({"maximise": "test/miou"}, "wanted val/miou: a search that sees test scores"),
        ({"maximise": "val/loss"}, "got 'val/loss', wanted val/miou"),
        ({"sampler": "cma"}, "'tpe' or 'random'"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_trial(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        _Plan.read(StudyRun(write(tmp_path, **change)), ROOT, tmp_path)


def test_the_search_of_the_guide_can_be_read(tmp_path):
    text = (ROOT / "docs" / "guides" / "sweeps-mlflow.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"`studies/rates\.yaml`:\n\n```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "rates.yaml").write_text(block)
    plan = _Plan.read(StudyRun(tmp_path / "rates.yaml"), ROOT, tmp_path)
    assert len(plan.params([])) == 1
    keys = set(re.findall(r"^\| `(\w+)` \|", text.partition("| key of `search`")[2], re.MULTILINE))
    assert keys == set(Search.model_fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": [10, 20]}, "wanted one budget"),
        ({"methods": {"a": {}}}, "a study with `search` has no methods"),
        ({"axes": {"train.lr": [0.1, 0.2]}}, "has no axes"),
        ({"search": None}, "methods: got none"),
    ],
)
def test_a_search_is_not_a_comparison_of_methods(tmp_path, change, message):
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump(PLAN | change))
    with pytest.raises(ValueError, match=message):
        read_study(path)


def test_a_trial_has_an_experiment_for_each_seed(tmp_path):
    study = read_study(write(tmp_path))
    members = members_of_trial(study, 7, {"train.lr": 0.003})
    assert [one.label for one in members] == [
        "trial 7 · points 20 · seed 1",
        "trial 7 · points 20 · seed 2",
    ]
    assert dict(members[1].settings) == {
        "dataset": "synthetic",
        "train.model": "random_forest",
        "train.lr": 0.003,
        "points": 20,
        "seed": 2,
    }


def test_without_optuna_one_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"needs the package optuna.*'pointcover\[search"):
        conduct_search(StudyRun(write(tmp_path)), ROOT, tmp_path / "out", JobPool())
    assert not (tmp_path / "out").exists()


def test_steps_of_fractions_end_at_whole_steps():
    space = Range(low=0.1, high=0.75, step=0.2)
    search = Search(trials=9, params={"train.lr": space}, sampler="random")
    found = [ask(search, [], number)[0]["train.lr"] for number in range(9)]
    assert {round(one, 6) for one in found} <= {0.1, 0.3, 0.5, 0.7}
    assert len(set(found)) > 1


# The report ---------------------------------------------------------------------------------------


def test_the_report_shows_trials_by_validation_and_the_test_score_of_the_best_alone(tmp_path):
    searched = search(tmp_path, Machine(broken=("trial 3",)))
    study = read_study(write(tmp_path))
    summary = SearchSummary(study, study.search, tuple(searched.trials))
    write_search_report(tmp_path / "out", summary, "pointcover study rates.yaml")
    best = summary.best
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"trial {best.number} with {best.score:.3f}" in text
    assert f"Its test mIoU is {best.test:.3f}" in text
    assert "Trials without a score: 1 of 14" in text
    assert "dvc exp run -S dataset=synthetic -S train.model=random_forest -S train.lr=" in text
    with (tmp_path / "out" / "tables" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val/miou"]) for row in rows[:13]] == sorted(
        (round(one.score, 3) for one in searched.trials if one.score is not None), reverse=True
    )
    assert rows[-1]["trial"] == "3"
    assert "failed" in rows[-1]["remark"]
    others = {f"{one.test:.3f}" for one in searched.trials if one.test is not None}
    others -= {f"{best.test:.3f}", *(row["val/miou"] for row in rows)}
    others -= {seed for row in rows for seed in row["by seed"].split()}
    assert others
    assert not any(one in text for one in others), "test scores of other trials are not shown"
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("<svg") == 2
    assert "src=" not in html
    write_search_report(tmp_path / "again", summary, "pointcover study rates.yaml")
    assert (tmp_path / "again" / "report.html").read_text() == html


def test_importances_find_the_settings_that_matter(tmp_path):
    searched = search(tmp_path, Machine(), write(tmp_path, sampler="random", trials=30))
    found = importances(read_study(write(tmp_path)).search, searched.trials)
    assert sum(found.values()) == pytest.approx(1)
    assert found["train.class_weighting"] + found["train.lr"] > 0.7
    assert importances(read_study(write(tmp_path)).search, searched.trials[:3]) == {}


def test_a_trial_without_all_seeds_has_no_score():
    assert Trial(0, {}, {1: 0.5}, seeds=2).score is None
    assert best_of([Trial(0, {}, {1: 0.5}, seeds=2)]) is None
    assert best_of([Trial(n, {}, {1: 0.5}) for n in range(3)]).number == 0
    assert trials_of.DIGITS == 4


def test_a_report_without_results_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = write(tmp_path)
    done = CliRunner().invoke(
        app, ["study", str(path), "--out", str(tmp_path / "none"), "--report-only"]
    )
    assert done.exit_code == 1
    assert "has no results" in done.stderr


# Through DVC and MLflow ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_is_killed_resumed_and_recorded_as_a_parent_with_children(tmp_path):
    clone = Clone(tmp_path)
    plan = {
        "title": "Which forest?",
        "settings": {
            "train.model": "random_forest",
            "train.encoder": "none",
            "train.weights": "none",
            "train.propagated_loss_fraction": None,
            "annotate.propagator": "none",
            "train.classifier.random_forest.trees": 8,
        },
        "points": [5],
        "seeds": [1],
        "search": {
            "trials": 3,
            "params": {
                "train.classifier.random_forest.max_depth": {"low": 1, "high": 12},
                "train.class_weighting": ["none", "balanced"],
            },
        },
    }
    (clone.folder / "studies" / "forest.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    command = ["pointcover", "study", "studies/forest.yaml"]
    out = clone.folder / "reports" / "forest"
    process = start_study(clone, "forest")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    kept = json.loads((out / TRIALS).read_text())
    assert len(kept["params"]) == 2
    said = clone.run(*command)
    assert "3 of 3 trials" in said
    assert "val/miou 0." in said
    after = json.loads((out / TRIALS).read_text())
    assert after["params"][:2] == kept["params"]
    assert after["run"] == kept["run"], "the run of the killed search is gone on with"

    runs = clone.runs()
    parent = runs["search forest"]
    assert parent.info.status == "FINISHED"
    children = [
        run for run in runs.values() if run.data.tags.get("mlflow.parentRunId") == after["run"]
    ]
    assert {run.data.tags["method"] for run in children} == {f"trial {n}" for n in range(3)}
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert len(finished) == 3
    scores = {run.data.tags["method"]: run.data.metrics["kept/val_miou"] for run in finished}
    assert parent.data.metrics["search/val_miou_best"] == pytest.approx(max(scores.values()))
    best = f"trial {parent.data.tags['best_trial']}"
    assert scores[best] == max(scores.values())
    assert f"trial {parent.data.tags['best_trial']} with" in parent.data.tags["mlflow.note.content"]
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    history = client.get_metric_history(parent.info.run_id, "search/val_miou")
    assert [metric.step for metric in history] == [0, 1, 2]
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/report.html", "report/trials.json", "report/forest.yaml"} <= files

    before = len(clone.runs())
    clone.run(*command)  # nothing is left to do
    assert len(clone.runs()) == before
    report = (out / "report.md").read_text()
    clone.run(*command, "--report-only")
    assert (out / "report.md").read_text() == report
