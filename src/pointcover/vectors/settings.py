"""Settings of vector annotations."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from pointcover.validation import Section


class VectorSettings(Section):
    """How a file of real annotations says classes."""

    column: Annotated[str, Field(min_length=1)]
    layer: tuple[str, ...] | None
    all_touched: bool
    ignore: tuple[str | int, ...]
    codes: dict[str | int, str]

    @field_validator("layer", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value
