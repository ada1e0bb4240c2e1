"""Settings of vector annotations."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from pointcover.validation import Section


class VectorSettings(Section):
    """How classes are read from a vector file of annotations.

    The defaults are those of the command line, whose files are written by pointcover.
    """

    column: Annotated[str, Field(min_length=1)] = Field(
        default="class", description="The column that holds the class, as a name or an id."
    )
    layer: tuple[str, ...] | None = Field(
        default=None,
        description="The layer, or layers [a, b], to read; null: all that have geometries.",
    )
    all_touched: bool = Field(
        default=False,
        description="Whether a polygon labels every pixel that it touches; otherwise those whose "
        "centre lies in it.",
    )
    ignore: tuple[str | int, ...] = Field(
        default=("",),
        description='Values of features that are no annotation; "" is an empty value, as '
        "`pointcover suggest` leaves it.",
    )
    codes: dict[str | int, str] = Field(
        default={}, description="Class names by value, where the file has values of its own."
    )

    @field_validator("layer", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value
