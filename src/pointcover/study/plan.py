"""What a study asks: methods by label budgets by seeds, each one experiment, and a dense reference.

A study file is YAML. Settings are those of params.yaml, with dots: ``annotate.propagator: link``.
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
from pointcover.validation import Section, read_yaml, validate

DENSE = "dense"
"""The name of the reference in tables and among members."""

Scale = Literal["full", "small"]
Settings = dict[str, Any]
Points = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]


class Method(Section):
    """One way from clicks to a network: a row of the study."""

    settings: Settings = Field(default_factory=dict)
    points: tuple[Points, ...] | None = None
    """Budgets of this method alone, where it does not take part in all of them."""
    seeds: tuple[Seed, ...] | None = None
    only: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values of the axes with which this method is run, where not with all."""
    ensemble_of: str | None = None
    """A method whose networks of all seeds are averaged: no training, and one experiment a budget,
    under the first seed."""
    rounds: bool = False
    """Click as the settings say up to the smallest budget, and from there to each next one where
    the network of the budget before asks to (settings of `suggest` say how)."""


class Claim(Section):
    """A figure that somebody published, to stand beside ours."""

    method: str
    points: Points | None = None
    miou: float
    axes: Settings = Field(default_factory=dict)

    def is_of(self, axes: tuple[tuple[str, Any], ...]) -> bool:
        """Return whether the figure belongs to these values of the axes."""
        at = dict(axes)
        return all(at.get(key) == value for key, value in self.axes.items())


class Question(Section):
    """That one method is better than another, as a write-up says."""

    better: str
    than: str
    text: str = ""


class Study(Section):
    """A study file; `small` replaces what it names when the study is run small."""

    title: str
    about: str = ""
    seconds_per_click: Annotated[float, Field(gt=0)] = 3.0
    settings: Settings = Field(default_factory=dict)
    points: tuple[Points, ...]
    seeds: tuple[Seed, ...]
    axes: dict[str, tuple[Any, ...] | dict[str, Settings]] = Field(default_factory=dict)
    """What all methods are crossed with: values of a setting, or settings under names of their own
    (``network: {U-Net: {train.model: unet}, …}``)."""
    methods: dict[str, Method] = Field(min_length=1)
    dense: Settings | None = None
    baseline: str | None = None
    published: tuple[Claim, ...] = ()
    questions: tuple[Question, ...] = ()
    small: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> "Study":
        named = {
            "baseline": [self.baseline] if self.baseline else [],
            "published": [claim.method for claim in self.published],
            "questions": [name for asked in self.questions for name in (asked.better, asked.than)],
        }
        for key, names in named.items():
            for name in names:
                if name not in self.methods and not (name == DENSE and self.dense is not None):
                    known = ", ".join(self.methods)
                    raise ValueError(f"{key} names {name!r}, which is no method; known: {known}")
        if DENSE in self.methods:
            raise ValueError(f"methods: {DENSE!r} is the name of the reference, take another")
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
                raise ValueError(f"{name} has no value: give one at least")
        return self

    def _check_ensemble(self, name: str, method: Method, of: str) -> None:
        if of not in self.methods or self.methods[of].ensemble_of is not None:
            raise ValueError(
                f"methods.{name}.ensemble_of: got {of!r}, wanted a method that trains: "
                f"{', '.join(n for n, m in self.methods.items() if m.ensemble_of is None)}"
            )
        if method.seeds is not None or any(not k.startswith("evaluate.") for k in method.settings):
            raise ValueError(
                f"methods.{name}: an ensemble trains nothing, so it takes points, only, and "
                f"settings of evaluate alone"
            )
        if len(self.methods[of].seeds or self.seeds) < 2:
            raise ValueError(f"methods.{name}: {of!r} has one seed, which is no ensemble")
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
                f"methods.{name}.rounds: got points {list(budgets)}, wanted two or more, the "
                f"smaller first: each round goes on from the one before"
            )
        asked = method.settings.get(
            "suggest.acquisitions", self.settings.get("suggest.acquisitions")
        )
        if asked is not None and not (isinstance(asked, list) and len(asked) == 1):
            raise ValueError(
                f"methods.{name}: got suggest.acquisitions {asked!r}, wanted a list of one, such "
                f"as [margin]: rounds go on from the answers to one"
            )


@dataclass(frozen=True)
class Member:
    """One experiment of a study."""

    method: str
    axes: tuple[tuple[str, Any], ...]
    points: int
    seed: int
    settings: tuple[tuple[str, Any], ...]
    """What differs from params.yaml, points and seed included, in the order of their saying."""
    needs: tuple["Member", ...] = ()
    """Members whose models join this one's in an ensemble."""
    after: "Member | None" = None
    """The round before, whose clicks and questions this one begins with."""

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Return where in the study it stands: no two members share that."""
        return self.method, json.dumps(self.axes), self.points, self.seed

    @property
    def before(self) -> tuple["Member", ...]:
        """Members that have to be run before it."""
        return (*self.needs, *([self.after] if self.after else []))

    @property
    def depth(self) -> int:
        """Count the members that have to be run one after the other before it."""
        return max((member.depth + 1 for member in self.before), default=0)

    @property
    def label(self) -> str:
        """Return which it is in a few words: ``link · points 50 · seed 1``."""
        axes = [axis_text(key, value) for key, value in self.axes]
        budget = [] if self.method == DENSE else [f"points {self.points}"]
        return " · ".join([self.method, *axes, *budget, f"seed {self.seed}"])

    @property
    def slug(self) -> str:
        """Return the same shorter, as a git ref can hold it: ``link-50-s1``."""
        axes = [axis_text(key, value) for key, value in self.axes]
        budget = [] if self.method == DENSE else [str(self.points)]
        text = "-".join([self.method, *axes, *budget, f"s{self.seed}"]).replace("+", "p")
        return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.").lower()


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``source=/data/potsdam`` or ``train.epochs=40``: a setting's name and its value.

    Raises:
        ValueError: there is no ``=``, or no name before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"-S {text!r} says no setting: wanted KEY=VALUE, such as source=/data")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def read_study(
    path: Path, scale: Scale = "full", settings: Mapping[str, Any] | None = None
) -> Study:
    """Read a study file.

    Args:
        path: YAML.
        scale: ``small`` puts what the file's `small` says in place of the rest: settings one by
            one, methods by name, all other keys whole; its seeds are also those of methods with
            seeds of their own that it does not name.
        settings: take the place of those that the file gives to all experiments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no YAML, has no `small`, or has keys or values that cannot be; one
            message for all of them.
    """
    values = read_yaml(path)
    if scale == "small":
        if not isinstance(values.get("small"), dict):
            raise ValueError(f"{path} does not say what it is when it is small: add `small:`")
        values = _make_small(values, values["small"])
    if settings:
        values["settings"] = {**(values.get("settings") or {}), **settings}
    methods = values.get("methods")
    if isinstance(methods, dict):  # a method is its settings, and for which budgets, seeds, axes
        values["methods"] = {name: _method(entry) for name, entry in methods.items()}
    return validate(Study, values, path)


def _make_small(values: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a study's `small` says in place of the rest; see `read_study`."""
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
    """List a study's experiments: the reference first, then method by method.

    Each combination of the axes' values has its own dense reference, which all methods share.
    Settings of the study come first, then those of the axes, then of the method.
    """
    found: list[Member] = []
    combinations = [
        tuple(zip(study.axes, values, strict=True))
        for values in itertools.product(*study.axes.values())
    ]
    for axes in combinations:
        if study.dense is not None:
            for seed in study.seeds:
                # The dense sampler clicks on every pixel for any budget: one budget is enough.
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
    said = {**study.settings, **chosen, **settings, "points": points, "seed": seed}
    return Member(name, axes, points, seed, tuple(said.items()))


def _rounds(
    name: str, axes: tuple[tuple[str, Any], ...], seed: int, study: Study, method: Method
) -> list[Member]:
    """Return one seed's rounds: each but the last queries the clicks that the next one adds."""
    budgets = method.points or study.points
    rounds: list[Member] = []
    for budget, following in zip(budgets, [*budgets[1:], None], strict=True):
        asks: Settings = {"suggest.acquisitions": []}
        if following:
            asks = {"suggest.points": following - budget}
        settings = {"suggest.acquisitions": ["margin"], **study.settings, **method.settings, **asks}
        member = _member(study, name, axes, (budgets[0], seed), settings)
        before = rounds[-1] if rounds else None
        rounds.append(replace(member, points=budget, after=before))
    return rounds


def params_of(member: Member, base: Mapping[str, Any], path: Path) -> Params:
    """Return all settings of an experiment, validated.

    Args:
        member: which experiment.
        base: what params.yaml holds.
        path: the study file, for messages.

    Raises:
        ValueError: a setting is unknown or cannot be.
    """
    values = copy.deepcopy(dict(base))
    for key, value in member.settings:
        *steps, last = key.split(".")
        section = values
        for step in steps:
            section = section.get(step)  # type: ignore[assignment]
            if not isinstance(section, dict):
                raise ValueError(
                    f"{path}, {member.label}: {key} is no setting of params.yaml: {step!r} has no "
                    f"settings below it"
                )
        section[last] = value
    return validate(Params, values, Path(f"{path}, {member.label}:"))


def check_members(members: Sequence[Member], base: Mapping[str, Any], path: Path) -> list[Params]:
    """Validate the settings of all experiments before the first one is run.

    Raises:
        ValueError: some cannot be; the first of them is told.
    """
    return [params_of(member, base, path) for member in members]


def axis_text(key: str, value: Any) -> str:
    """Name a value of an axis: with the last word of its setting, or alone if it has a name."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{key.rsplit('.', 1)[-1]} {text}" if "." in key else text
