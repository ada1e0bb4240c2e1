"""The section `search` of a study file: which settings are searched, and how."""

import json
from typing import Annotated, Any, Final

from pydantic import Field, field_validator, model_validator

from pointcover.study.samplers import SAMPLERS
from pointcover.validation import Count, OneOf, Section, Seed

OBJECTIVE: Final = "val/miou"
"""Mean over seeds of the sparse validation mIoU of the kept epoch."""

SEARCHED: Final = "train."
"""Names of settings that may be searched begin with this. All others change the labels or the
images of the validation split, so that scores of trials could not be compared."""


class Range(Section):
    """Numbers from `low` to `high`, both included; whole ones where both are."""

    low: Annotated[int | float, Field(description="The smallest value.")]
    high: Annotated[int | float, Field(description="The largest value.")]
    log: bool = Field(
        default=False, description="Whether values are drawn evenly on a logarithmic scale."
    )
    step: Annotated[int | float, Field(gt=0)] | None = Field(
        default=None, description="Distance between values; null for any, or 1 of whole numbers."
    )

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"got low {self.low} and high {self.high}, wanted low below high")
        if self.log and self.low <= 0:
            raise ValueError(f"got low {self.low} with log, wanted a number above 0")
        if self.log and self.step is not None:
            raise ValueError("got step and log, which exclude each other: leave out one of them")
        if self.is_whole and self.step is not None and not isinstance(self.step, int):
            raise ValueError(f"got step {self.step} between whole numbers, wanted a whole number")
        return self


Choices = tuple[Any, ...]


class Search(Section):
    """A search over settings, scored on the validation split."""

    trials: Count = Field(description="Number of trials; more of them continue a search.")
    params: Annotated[dict[str, Range | Choices], Field(min_length=1)] = Field(
        description="By the name of a setting: `{low: …, high: …, log: true}`, or a list of values."
    )
    maximise: str = Field(default=OBJECTIVE, description="The score, on the validation split.")
    sampler: Annotated[str, OneOf(SAMPLERS)] = Field(
        default="tpe",
        description="How trials are chosen: tpe (by the scores of those before), or random.",
    )
    at_once: Count = Field(
        default=1,
        description="Trials that are chosen at a time, without the scores of each other. It is a "
        "part of the search: another number gives other trials.",
    )
    seed: Seed = Field(default=1, description="Seed of the choice.")

    @field_validator("maximise")
    @classmethod
    def _is_on_validation(cls, name: str) -> str:
        if name != OBJECTIVE:
            because = (
                ": a search that sees test scores makes them too good"
                if name.startswith("test")
                else ""
            )
            raise ValueError(f"got {name!r}, wanted {OBJECTIVE}{because}")
        return name

    @model_validator(mode="after")
    def _params_can_be_searched(self) -> "Search":
        for name, values in self.params.items():
            if not name.startswith(SEARCHED):
                raise ValueError(
                    f"params: got {name!r}, wanted settings of train, such as train.lr: others "
                    f"change the labels or images that trials are scored on. For these, use axes "
                    f"or methods of a study"
                )
            if isinstance(values, tuple):
                texts = [json.dumps(value, sort_keys=True) for value in values]
                if len(set(texts)) < max(2, len(texts)):
                    raise ValueError(
                        f"params.{name}: got {list(values)}, wanted two values or more, each once"
                    )
        return self


Params = dict[str, Any]
"""Values of the searched settings by name."""
