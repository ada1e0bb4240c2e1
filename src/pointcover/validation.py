"""Validation of settings: the base class, types of fields, and error messages for files."""

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from pointcover.text import compose

Count = Annotated[int, Field(strict=True, ge=1)]


Seed = Annotated[int, Field(strict=True, ge=0)]


ClassName = Annotated[str, AfterValidator(compose)]
"""The name of a class, which compares equal however its letters are composed."""


Fraction = Annotated[float, Field(ge=0, le=1)]


ModelT = TypeVar("ModelT", bound=BaseModel)


class Section(BaseModel):
    """Base of all sections of settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


class OneOf:
    """A setting that names an entry of a registry, as `Annotated[str, OneOf(SAMPLERS)]`.

    The registry is read at each validation, so that entries added later are allowed.
    """

    def __init__(self, registry: Mapping[str, Any], *others: str) -> None:
        """Store the registry, and further names that are allowed."""
        self.registry, self.others = registry, others

    def names(self) -> list[str]:
        """Return all names that are allowed."""
        return [*self.registry, *self.others]

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the schema of a string that must be one of the names."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON schema with the names, for editors."""
        return {**handler(schema), "enum": self.names()}

    def _check(self, value: str) -> str:
        if value not in self.names():
            *first, last = map(repr, self.names())
            expected = f"{', '.join(first)} or {last}" if first else last
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value


Length = Annotated[float, Field(gt=0, le=4096)]


Weight = Annotated[float, Field(ge=0, le=100)]


def missing_keys(model: type[BaseModel], values: dict[str, Any], place: str = "") -> list[str]:
    """Return the dotted keys of a model's fields that a file lacks, defaults or not."""
    missing = []
    for name, field in model.model_fields.items():
        section = section_in(field.annotation)
        if name not in values:
            missing.append(place + name)
        elif section is not None and isinstance(values[name], dict):
            missing += missing_keys(section, values[name], f"{place}{name}.")
    return missing


def validate(model: type[ModelT], values: dict[str, Any], path: Path) -> ModelT:
    """Validate values that were read from a file, and return them as a model.

    Raises:
        ValueError: one message lists every error: the key, the value, what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [_describe(fault, model) for fault in _causes(error.errors())]
        count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ValueError("\n  - ".join([f"{path} has {count}:", *faults])) from None


UNION_MEMBERS: Final = ("float", "int", "str")
"""Names by which pydantic adds the faults of each type that a value may have."""


def _causes(faults: Sequence[Any]) -> list[Any]:
    """Leave out faults that follow from faults of the items of the same list."""
    places = [fault["loc"] for fault in faults]

    def follows(fault: Any) -> bool:
        loc = fault["loc"]
        is_member = bool(loc) and loc[-1] in UNION_MEMBERS and isinstance(fault["input"], list)
        parent = loc[:-1] if is_member else loc
        return (is_member or fault["type"] == "too_short") and any(
            len(place) > len(loc) and place[: len(parent)] == parent for place in places
        )

    return [fault for fault in faults if not follows(fault)]


def _describe(fault: Any, model: type[BaseModel]) -> str:
    """Describe one of pydantic's errors: the key, the value, what is allowed."""
    steps = list(fault["loc"])
    key = ".".join(str(step) for step in steps if not str(step).startswith("tuple["))
    got = repr(fault["input"])
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        known = sorted(_section_at(model, steps[:-1]).model_fields)
        near = difflib.get_close_matches(str(steps[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{key}: this key is unknown; {hint}"
    if kind == "missing":
        return f"{key}: this key is missing; add it"
    if kind in ("model_type", "model_attributes_type"):
        keys = ", ".join(_section_at(model, steps).model_fields)
        return f"{key}: got {got}, wanted a section with the keys {keys}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        near = difflib.get_close_matches(str(fault["input"]), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{key}: got {got}, allowed: {context['expected']}{hint}"
    if kind == "value_error":
        return f"{key}: {context['error']}" if key else str(context["error"])
    field = _section_at(model, steps[:-1]).model_fields.get(str(steps[-1])) if steps else None
    wanted = _allowed(field) if field else ""
    wanted = wanted or fault["msg"].removeprefix("Input should be ")
    hint = ""
    if kind == "string_type" and isinstance(fault["input"], bool | int | float | date | None):
        hint = ": write it in quotes, as YAML reads no, numbers, dates and # in another way"
    return f"{key}: got {got}, wanted {wanted}{hint}"


def _allowed(field: FieldInfo) -> str:
    """Return the type and bounds of a field as text; empty for other than plain types."""
    kinds: dict[Any, str] = {int: "a whole number", float: "a number", str: "text"}
    if field.annotation not in kinds:
        return ""
    words = [kinds[field.annotation]]
    for rule in field.metadata:
        for name, phrase in _BOUNDS.items():
            bound = getattr(rule, name, None)
            if bound is not None:
                words.append(f"{phrase} {bound}")
    return ", ".join(words)


_BOUNDS = {
    "gt": "more than",
    "ge": "at least",
    "lt": "less than",
    "le": "at most",
    "multiple_of": "a multiple of",
    "min_length": "length at least",
    "pattern": "that matches",
}


def _section_at(model: type[BaseModel], steps: list[Any]) -> type[BaseModel]:
    """Find the section of a model that contains an error."""
    for step in steps:
        field = model.model_fields.get(str(step))
        model = (section_in(field.annotation) if field else None) or model
    return model


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Find the section in a type: the type itself, or an argument of a union or list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)
