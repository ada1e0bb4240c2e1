"""Read a study file, and list its experiments: methods × label budgets × seeds, and a reference.

A study file is YAML. Settings have their names of params.yaml, with dots, such as
``annotate.propagator: link``.
"""

import copy
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pointcover.config.params import Params
from pointcover.study.search_plan import Search
from pointcover.validation import Section, validate
from pointcover.yaml_files import read_yaml

DENSE = "dense"
"""Name of the dense reference as a method."""

Scale = Literal["full", "small"]
Settings = dict[str, Any]
Points = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]


class Method(Section):
    """A method that the study compares, such as a propagator or a loss."""

    settings: Settings = Field(default_factory=dict)
    points: tuple[Points, ...] | None = None
    """Budgets of this method; by default those of the study."""
    seeds: tuple[Seed, ...] | None = None
    """Seeds of this method; by default those of the study."""
    only: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values of the axes with which this method is run; by default all."""
    ensemble_of: str | None = None
    """A method of which the networks of all seeds are averaged. Nothing is trained, and there is
    one experiment a budget, under the first seed."""
    rounds: bool = False
    """Active learning: draw the smallest budget as the settings say, and label for each larger one
    the queries of the network of the previous budget (see the settings of `suggest`)."""


class Claim(Section):
    """A published result, to compare with."""

    method: str
    points: Points | None = None
    miou: float
    axes: Settings = Field(default_factory=dict)

    def is_of(self, axes: tuple[tuple[str, Any], ...]) -> bool:
        """Return whether the result belongs to these values of the axes."""
        at = dict(axes)
        return all(at.get(key) == value for key, value in self.axes.items())


class Question(Section):
    """A claim that one method is better than another, which the study tests."""

    better: str
    than: str
    text: str = ""


class Study(Section):
    """A study file; `small` holds the values that replace others with `--scale small`."""

    title: str
    about: str = ""
    seconds_per_click: Annotated[float, Field(gt=0)] = 3.0
    settings: Settings = Field(default_factory=dict)
    points: tuple[Points, ...]
    seeds: tuple[Seed, ...]
    axes: dict[str, tuple[Any, ...] | dict[str, Settings]] = Field(default_factory=dict)
    """Further factors, with which all methods are crossed: values of a setting, or settings by name
    (``network: {U-Net: {train.model: unet}, …}``)."""
    methods: dict[str, Method] = Field(default_factory=dict)
    dense: Settings | None = None
    baseline: str | None = None
    published: tuple[Claim, ...] = ()
    questions: tuple[Question, ...] = ()
    search: Search | None = None
    """A search over settings instead of methods, scored on the validation split."""
    small: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_methods_or_a_search(self) -> "Study":
        if self.search is None:
            if not self.methods:
                raise ValueError(
                    "methods: got none, wanted one at least; or a section `search` with the "
                    "settings to search"
                )
            return self
        others = ("methods", "axes", "dense", "baseline", "published", "questions")
        if there := [key for key in others if getattr(self, key)]:
            raise ValueError(
                f"a study with `search` has no {', '.join(there)}: compare methods in a study of "
                f"their own"
            )
        if len(self.points) != 1:
            raise ValueError(
                f"points: got {list(self.points)}, wanted one budget, since scores on sparse "
                f"validation labels are not comparable between budgets"
            )
        if twice := sorted(set(self.search.params) & set(self.settings)):
            raise ValueError(
                f"settings and search.params both name {', '.join(twice)}: leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> "Study":
        named = {
            "baseline": [self.baseline] if self.baseline else [],
            "published": [claim.method for claim in self.published],
            "questions": [name for one in self.questions for name in (one.better, one.than)],
        }
        for key, names in named.items():
            for name in names:
                if name not in self.methods and not (name == DENSE and self.dense is not None):
                    known = ", ".join(self.methods)
                    raise ValueError(f"{key} names {name!r}, which is not a method; known: {known}")
        if DENSE in self.methods:
            raise ValueError(f"methods: {DENSE!r} is the name of the reference, choose another")
        for name, method in self.methods.items():
            if method.ensemble_of is not None:
                self._check_ensemble(name, method, method.ensemble_of)
            if method.rounds:
                self._check_rounds(name, method)
            for axis, chosen in method.only.items():
                there = list(self.axes.get(axis, ()))
                if not set(chosen) <= set(there):
                    raise ValueError(
                        f"methods.{name}.only.{axis}: got {list(chosen)}, wanted some of {there}"
                    )
        for name, values in (("points", self.points), ("seeds", self.seeds), *self.axes.items()):
            if len({json.dumps(value) for value in values}) < len(values):
                raise ValueError(f"{name} has the same value twice: {list(values)}")
            if not len(values):
                raise ValueError(f"{name} has no value: add at least one")
        return self

    def _check_ensemble(self, name: str, method: Method, of: str) -> None:
        if of not in self.methods or self.methods[of].ensemble_of is not None:
            raise ValueError(
                f"methods.{name}.ensemble_of: got {of!r}, wanted a method that trains: "
                f"{', '.join(n for n, m in self.methods.items() if m.ensemble_of is None)}"
            )
        if method.seeds is not None or any(not k.startswith("evaluate.") for k in method.settings):
            raise ValueError(
                f"methods.{name}: an ensemble trains nothing, so it may only have points, only, "
                f"and settings of evaluate"
            )
        if len(self.methods[of].seeds or self.seeds) < 2:
            raise ValueError(f"methods.{name}: {of!r} has one seed, an ensemble needs two or more")
        budgets = self.methods[of].points or self.points
        if not set(method.points or self.points) <= set(budgets):
            raise ValueError(
                f"methods.{name}.points: got {list(method.points or self.points)}, wanted some of "
                f"those of {of!r}: {list(budgets)}"
            )

    def _check_rounds(self, name: str, method: Method) -> None:
        budgets = method.points or self.points
        if method.ensemble_of is not None:
            raise ValueError(f"methods.{name}: an ensemble trains nothing, so it has no rounds")
        if len(budgets) < 2 or list(budgets) != sorted(budgets):
            raise ValueError(
                f"methods.{name}.rounds: got points {list(budgets)}, wanted two or more in "
                f"ascending order: each round adds points to those of the previous one"
            )
        functions = method.settings.get(
            "suggest.acquisitions", self.settings.get("suggest.acquisitions")
        )
        if functions is not None and not (isinstance(functions, list) and len(functions) == 1):
            raise ValueError(
                f"methods.{name}: got suggest.acquisitions {functions!r}, wanted a list of one, "
                f"such as [margin]: a round continues with the labels of one acquisition function"
            )


@dataclass(frozen=True)
class Member:
    """One experiment of a study."""

    method: str
    axes: tuple[tuple[str, Any], ...]
    points: int
    seed: int
    settings: tuple[tuple[str, Any], ...]
    """Settings that override params.yaml, including points and seed, in the order of the file."""
    needs: tuple["Member", ...] = ()
    """The other members of an ensemble, of which the models are needed."""
    after: "Member | None" = None
    """The previous round, with whose point labels and answered queries this one begins."""

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """Method, axes, points and seed, which identify a member in its study."""
        return self.method, json.dumps(self.axes), self.points, self.seed

    @property
    def before(self) -> tuple["Member", ...]:
        """Members that must be run before this one."""
        return (*self.needs, *([self.after] if self.after else []))

    @property
    def depth(self) -> int:
        """Length of the longest chain of members that must be run before this one."""
        return max((member.depth + 1 for member in self.before), default=0)

    @property
    def label(self) -> str:
        """Description for messages: ``link · points 50 · seed 1``."""
        axes = [axis_text(key, value) for key, value in self.axes]
        budget = [] if self.method == DENSE else [f"points {self.points}"]
        return " · ".join([self.method, *axes, *budget, f"seed {self.seed}"])

    @property
    def slug(self) -> str:
        """Short form of the label that is valid in a git ref: ``link-50-s1``."""
        axes = [axis_text(key, value) for key, value in self.axes]
        budget = [] if self.method == DENSE else [str(self.points)]
        text = "-".join([self.method, *axes, *budget, f"s{self.seed}"]).replace("+", "p")
        return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.").lower()


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse ``source=/data/potsdam`` or ``train.epochs=40``: a setting's name and its value.

    Raises:
        ValueError: there is no ``=``, or no name before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"-S: got {text!r}, wanted KEY=VALUE, such as source=/data")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def read_study(
    path: Path, scale: Scale = "full", settings: Mapping[str, Any] | None = None
) -> Study:
    """Read a study file.

    Args:
        path: of the YAML file.
        scale: ``small`` applies the section `small` of the file. It overrides single settings,
            methods by name, and all other keys as a whole. Its seeds also replace the seeds of
            methods that it does not name.
        settings: override the file's settings of all experiments, by dotted names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not YAML, has no `small`, or has invalid keys or values, which are
            all in one message.
    """
    values = read_yaml(path)
    if scale == "small":
        if not isinstance(values.get("small"), dict):
            raise ValueError(f"{path} has no section `small`, which --scale small needs: add it")
        values = _make_small(values, values["small"])
    if settings:
        values["settings"] = {**(values.get("settings") or {}), **settings}
    methods = values.get("methods")
    if isinstance(methods, dict):  # keys of a method are its settings, and the fields of Method
        values["methods"] = {name: _method(entry) for name, entry in methods.items()}
    return validate(Study, values, path)


def _make_small(values: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's values with its section `small` applied; see `read_study`."""
    methods = values.get("methods")
    if "seeds" in small and isinstance(methods, dict):
        methods = {name: _without_seeds(entry) for name, entry in methods.items()}
    made = {**values, **small}
    for key, whole in (("settings", values.get("settings")), ("methods", methods)):
        parts = whole or {}, small.get(key) or {}
        if all(isinstance(part, dict) for part in parts):
            made[key] = {**parts[0], **parts[1]}
    return made


def _without_seeds(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: value for key, value in entry.items() if key != "seeds"}


def _method(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return {} if entry is None else entry
    keys = set(Method.model_fields) - {"settings"}
    own = {key: entry[key] for key in entry if key in keys}
    return own | {"settings": {key: entry[key] for key in entry if key not in own}}


def members_of(study: Study) -> list[Member]:
    """Return a study's experiments: the dense reference first, then method by method.

    Each combination of the axes' values has one dense reference for all methods. Settings of the
    axes override those of the study, and settings of a method override both.
    """
    found: list[Member] = []
    combinations = [
        tuple(zip(study.axes, values, strict=True))
        for values in itertools.product(*study.axes.values())
    ]
    for axes in combinations:
        if study.dense is not None:
            for seed in study.seeds:
                # The dense sampler labels every pixel whatever the budget, so one is enough.
                found.append(_member(study, DENSE, axes, (study.points[0], seed), study.dense))
        for name, method in study.methods.items():
            if any(value not in method.only.get(key, (value,)) for key, value in axes):
                continue
            if method.rounds:
                for seed in method.seeds or study.seeds:
                    found += _rounds(name, axes, seed, study, method)
                continue
            trained = study.methods[method.ensemble_of] if method.ensemble_of else method
            for points in method.points or study.points:
                seeds = trained.seeds or study.seeds
                if method.ensemble_of:
                    first, *others = (
                        _member(study, method.ensemble_of, axes, (points, seed), trained.settings)
                        for seed in seeds
                    )
                    settings = tuple({**dict(first.settings), **method.settings}.items())
                    found.append(Member(name, axes, points, seeds[0], settings, tuple(others)))
                else:
                    found += [
                        _member(study, name, axes, (points, seed), method.settings)
                        for seed in seeds
                    ]
    return found


def members_of_trial(study: Study, number: int, params: Mapping[str, Any]) -> list[Member]:
    """Return the experiments of a trial of a search, one for each seed."""
    return [
        _member(study, f"trial {number}", (), (study.points[0], seed), params)
        for seed in study.seeds
    ]


Draw = tuple[int, int]
"""Label budget and seed of an experiment."""


def _member(
    study: Study,
    name: str,
    axes: tuple[tuple[str, Any], ...],
    draw: Draw,
    settings: Mapping[str, Any],
) -> Member:
    points, seed = draw
    chosen: Settings = {}
    for key, value in axes:
        values = study.axes[key]
        chosen |= values[value] if isinstance(values, dict) else {key: value}
    merged = {**study.settings, **chosen, **settings, "points": points, "seed": seed}
    return Member(name, axes, points, seed, tuple(merged.items()))


def _rounds(
    name: str, axes: tuple[tuple[str, Any], ...], seed: int, study: Study, method: Method
) -> list[Member]:
    """Return one seed's rounds; each but the last one queries the points that the next one adds."""
    budgets = method.points or study.points
    rounds: list[Member] = []
    for budget, following in zip(budgets, [*budgets[1:], None], strict=True):
        query: Settings = {"suggest.acquisitions": []}
        if following:
            query = {"suggest.points": following - budget}
        settings = {
            "suggest.acquisitions": ["margin"],
            **study.settings,
            **method.settings,
            **query,
        }
        member = _member(study, name, axes, (budgets[0], seed), settings)
        before = rounds[-1] if rounds else None
        rounds.append(replace(member, points=budget, after=before))
    return rounds


def params_of(member: Member, base: Mapping[str, Any], path: Path) -> Params:
    """Return all settings of an experiment, validated.

    Args:
        member: the experiment.
        base: contents of params.yaml.
        path: of the study file, for messages.

    Raises:
        ValueError: a setting is unknown or invalid.
    """
    values = override(member, base, path)
    return validate(Params, values, Path(f"{path}, {member.label}:"))


def override(member: Member, base: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the contents of params.yaml with the settings of an experiment, not validated.

    Args:
        member: the experiment.
        base: contents of params.yaml.
        path: of the study file, for messages.

    Raises:
        ValueError: a setting is in a section that there is not.
    """
    values = copy.deepcopy(dict(base))
    for key, value in member.settings:
        *steps, last = key.split(".")
        section = values
        for step in steps:
            section = section.get(step)  # type: ignore[assignment]
            if not isinstance(section, dict):
                raise ValueError(
                    f"{path}, {member.label}: {key} is not a setting of params.yaml: {step!r} is "
                    f"not a section"
                )
        section[last] = value
    return values


def warnings_of_data(members: Sequence[Member], dataset: str, what: str) -> list[str]:
    """Return a warning if an experiment is on the synthetic dataset.

    Args:
        members: the experiments.
        dataset: of params.yaml, which experiments have that set none.
        what: is run: `study` or `search`.
    """
    if all(dict(one.settings).get("dataset", dataset) != "synthetic" for one in members):
        return []
    return [
        f"On the synthetic dataset: this only shows that the {what} runs; its numbers are not "
        f"results."
    ]


def check_members(members: Sequence[Member], base: Mapping[str, Any], path: Path) -> list[Params]:
    """Validate the settings of all experiments before the first one is run.

    Raises:
        ValueError: settings of an experiment are invalid; the error names the first one.
    """
    return [params_of(member, base, path) for member in members]


def axis_text(key: str, value: Any) -> str:
    """Return a value of an axis as text, after the last part of its setting's name, if any."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{key.rsplit('.', 1)[-1]} {text}" if "." in key else text
