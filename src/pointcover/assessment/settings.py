"""Settings of samples for accuracy assessment."""

from typing import Annotated

from pydantic import Field

from pointcover.assessment.allocation import ALLOCATIONS
from pointcover.validation import OneOf, Section, Seed


class SampleSettings(Section):
    """How a probability sample of maps is drawn."""

    allocation: Annotated[str, OneOf(ALLOCATIONS)] = Field(
        default="proportional",
        description="How points are allocated to strata: by area (proportional), alike (equal), "
        "for the shortest interval under the expected accuracy (neyman); simple has no strata.",
    )
    minimum: Annotated[int, Field(strict=True, ge=2)] = Field(
        default=10, description="Fewest points of a stratum, so that rare classes have an interval."
    )
    block_px: Annotated[int, Field(strict=True, ge=1, le=1024)] = Field(
        default=1, description="Side of a sampled unit in pixels of the map; 1 samples pixels."
    )
    expected_accuracy: Annotated[float, Field(ge=0.01, le=0.99)] = Field(
        default=0.8,
        description="User's accuracy that is expected of classes, for neyman and for half-widths.",
    )
    seed: Seed = Field(default=1, description="Seed of the generators that draw the points.")
