"""Settings of prediction."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Length, Section, Weight


class NeighbourSettings(Section):
    """How much neighbours count, which they are, and how alike in colour."""

    weight: Weight
    radius_px: Annotated[int, Field(strict=True, ge=1, le=32)]
    sigma_px: Length
    sigma_colour: Annotated[float, Field(gt=0, le=2)]


class MeanFieldSettings(NeighbourSettings):
    """Neighbours of like colour agree on a class, after prediction."""

    iterations: Annotated[int, Field(strict=True, ge=0, le=50)]
