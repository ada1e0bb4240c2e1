"""A study file says which experiments there are; what cannot be is refused before the first."""

from pathlib import Path

import pytest
import yaml

from pointcover.study.plan import DENSE, check_members, members_of, parse_setting, read_study
from pointcover.yaml_files import read_yaml
from tests.imagery import ROOT

PLAN = {
    "title": "Links",
    "settings": {"dataset": "synthetic", "train.epochs": 2},
    "points": [10, 50],
    "seeds": [1, 2],
    "axes": {"train.lr": [0.001, 0.01]},
    "methods": {
        "clicks": {"annotate.propagator": "none"},
        "link": {"annotate.propagator": "link", "points": [50]},
    },
    "dense": {"annotate.sampler": "dense", "annotate.propagator": "none"},
    "small": {
        "settings": {"train.epochs": 1},
        "methods": {"link": {"annotate.propagator": "link", "points": [10]}},
        "points": [10],
        "seeds": [1],
        "axes": {},
    },
}


def write(folder: Path, **changes) -> Path:
    path = folder / "links.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
    return path


def test_members_are_methods_by_budgets_by_seeds_by_axes_and_a_dense_model_for_each_axis(tmp_path):
    members = members_of(read_study(write(tmp_path)))
    assert len(members) == 2 * (2 + 2 * 2 + 1 * 2)  # rates × (dense + clicks + link)
    assert len({member.slug for member in members}) == len(members)
    dense = [member for member in members if member.method == DENSE]
    assert {dict(member.settings)["points"] for member in dense} == {10}
    assert {dict(member.settings)["train.lr"] for member in dense} == {0.001, 0.01}
    link = [member for member in members if member.method == "link"]
    assert {member.points for member in link} == {50}
    assert dict(link[0].settings)["annotate.propagator"] == "link"


def test_an_axis_may_have_named_settings_and_a_method_only_some(tmp_path):
    networks = {"U-Net": {"train.model": "unet"}, "FPN": {"train.model": "fpn", "train.width": 0.5}}
    methods = {"a": {}, "b": {"only": {"network": ["FPN"]}, "train.epochs": 9}}
    path = write(tmp_path, axes={"network": networks}, methods=methods, seeds=[1], points=[10])
    members = members_of(read_study(path))
    assert [member.label for member in members] == [
        "dense · U-Net · seed 1",
        "a · U-Net · points 10 · seed 1",
        "dense · FPN · seed 1",
        "a · FPN · points 10 · seed 1",
        "b · FPN · points 10 · seed 1",
    ]
    settings = dict(members[-1].settings)
    assert settings["train.model"] == "fpn"
    assert settings["train.width"] == 0.5
    assert settings["train.epochs"] == 9


def test_an_ensemble_is_one_member_a_budget_that_needs_those_of_the_other_seeds(tmp_path):
    methods = {"a": {}, "all": {"ensemble_of": "a", "points": [50], "evaluate.views": "d4"}}
    members = members_of(read_study(write(tmp_path, axes={}, methods=methods, seeds=[3, 4, 5])))
    (ensemble,) = [member for member in members if member.method == "all"]
    assert ensemble.seed == 3
    assert [other.label for other in ensemble.needs] == [
        "a · points 50 · seed 4",
        "a · points 50 · seed 5",
    ]
    assert dict(ensemble.settings)["evaluate.views"] == "d4"
    assert set(ensemble.needs) <= set(members)


def test_rounds_continue_each_other_from_the_smallest_budget(tmp_path):
    methods = {"plain": {}, "asked": {"rounds": True, "suggest.distance_px": 9}}
    points = [10, 20, 50]
    study = read_study(write(tmp_path, axes={}, methods=methods, points=points, seeds=[3, 4]))
    members = members_of(study)
    rounds = [m for m in members if m.method == "asked" and m.seed == 4]
    assert [member.points for member in rounds] == points
    assert [member.after for member in rounds] == [None, *rounds[:2]]
    assert [member.depth for member in rounds] == [0, 1, 2]
    said = [dict(member.settings) for member in rounds]
    assert [each["points"] for each in said] == [10, 10, 10]
    assert [each["suggest.acquisitions"] for each in said] == [["margin"], ["margin"], []]
    assert [each.get("suggest.points") for each in said] == [10, 30, None]
    assert {each["suggest.distance_px"] for each in said} == {9}
    # The first round is the plain method's smallest budget: DVC finds the same stages in its cache.
    plain = dict(next(m for m in members if m.method == "plain" and m.seed == 4).settings)
    assert {key: said[0][key] for key in plain} == plain
    check_members(members, read_yaml(ROOT / "params.yaml"), tmp_path / "links.yaml")


def test_small_overrides_settings_and_methods_one_by_one(tmp_path):
    members = members_of(read_study(write(tmp_path), "small"))
    assert [member.label for member in members] == [
        "dense · seed 1",
        "clicks · points 10 · seed 1",
        "link · points 10 · seed 1",
    ]
    assert dict(members[0].settings)["dataset"] == "synthetic"
    assert dict(members[0].settings)["train.epochs"] == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("source=/data/a b", ("source", "/data/a b")),
        ("train.epochs=40", ("train.epochs", 40)),
        ("train.weights=none", ("train.weights", "none")),
        ("x=[1, 2]", ("x", [1, 2])),
        ("x=", ("x", "")),
        ("x=a=b", ("x", "a=b")),
    ],
)
def test_a_setting_of_the_command_line_is_parsed(text, read):
    assert parse_setting(text) == read


@pytest.mark.parametrize("text", ["source", "=3", ""])
def test_a_text_that_is_not_a_setting_is_refused(text):
    with pytest.raises(ValueError, match="wanted KEY=VALUE"):
        parse_setting(text)


def test_settings_of_the_command_line_override_those_of_the_file(tmp_path):
    study = read_study(write(tmp_path), "small", {"train.epochs": 7, "source": "/data"})
    settings = dict(members_of(study)[0].settings)
    assert settings["train.epochs"] == 7
    assert settings["source"] == "/data"


def test_seeds_of_small_are_those_of_all_methods_that_it_does_not_name(tmp_path):
    methods = {"clicks": {"seeds": [1, 2, 3]}, "link": {"seeds": [1, 2, 3]}}
    small = {"seeds": [4], "methods": {"link": {"seeds": [5, 6]}}}
    members = members_of(read_study(write(tmp_path, methods=methods, small=small), "small"))
    seeds = {name: {one.seed for one in members if one.method == name} for name in methods}
    assert seeds == {"clicks": {4}, "link": {5, 6}}
    whole = members_of(read_study(write(tmp_path, methods=methods, small={"points": [9]}), "small"))
    assert {one.seed for one in whole if one.method == "clicks"} == {1, 2, 3}


def test_a_file_without_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no section `small`"):
        read_study(write(tmp_path, small=None), "small")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"baseline": "nobody"}, "baseline names 'nobody', which is not a method; known: clicks"),
        ({"questions": [{"better": "x", "than": "clicks"}]}, "questions names 'x'"),
        ({"published": [{"method": "y", "miou": 0.5}]}, "published names 'y'"),
        ({"methods": {"dense": {}}}, "is the name of the reference"),
        ({"seeds": [1, 1]}, "seeds has the same value twice"),
        ({"axes": {"train.lr": []}}, "train.lr has no value"),
        ({"points": [0]}, "points.0: got 0"),
        ({"points": []}, "points has no value"),
        ({"methods": {"a": {"only": {"train.lr": [3]}}}}, "methods.a.only.train.lr: got [3]"),
        (
            {"methods": {"a": {}, "b": {"ensemble_of": "c"}}},
            "ensemble_of: got 'c', wanted a method",
        ),
        ({"methods": {"a": {}, "b": {"ensemble_of": "a", "train.epochs": 2}}}, "trains nothing"),
        ({"methods": {"a": {"rounds": True, "points": [10]}}}, "got points [10], wanted two or"),
        ({"methods": {"a": {"rounds": True}}, "points": [50, 10]}, "ascending order"),
        (
            {"methods": {"a": {"rounds": True, "suggest.acquisitions": ["margin", "entropy"]}}},
            "wanted a list of one",
        ),
        ({"methods": {"a": {}, "b": {"rounds": True, "ensemble_of": "a"}}}, "it has no rounds"),
        ({"methods": {"a": {"seeds": [1]}, "b": {"ensemble_of": "a"}}}, "has one seed"),
        ({"methods": {"a": {"points": [10]}, "b": {"ensemble_of": "a"}}}, "methods.b.points: got"),
        ({"metods": {}}, "did you mean 'methods'"),
        ({"methods": {"a": 3}}, "methods.a"),
    ],
)
def test_an_invalid_file_is_refused_with_the_reason(tmp_path, changes, said):
    with pytest.raises(ValueError, match="has one fault") as refused:
        read_study(write(tmp_path, **changes))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train.epoch": 3}, "did you mean 'epochs'"),
        ({"trane.epochs": 3}, "not a setting of params.yaml"),
        ({"train.epochs": 0}, "train.epochs: got 0"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_member(tmp_path, settings, said):
    path = write(tmp_path, methods={"clicks": settings})
    members = members_of(read_study(path))
    with pytest.raises(ValueError, match=r"clicks · lr 0\.001 · points 10 · seed 1") as refused:
        check_members(members, read_yaml(ROOT / "params.yaml"), path)
    assert said in str(refused.value)


@pytest.mark.parametrize("scale", ["full", "small"])
@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_settings_of_every_study_here_are_valid(path, scale):
    study = read_study(path, scale)
    members = members_of(study)
    assert check_members(members, read_yaml(ROOT / "params.yaml"), path)
    assert study.dense is not None
    assert len({member.slug for member in members}) == len(members)
    if scale == "small":
        assert len(members) <= 25, "small is a matter of minutes"
        assert dict(members[0].settings)["dataset"] == "synthetic"
