"""Settings of the synthetic dataset."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Section, Seed


class SyntheticSettings(Section):
    """The synthetic dataset, for first runs and tests, not for results."""

    orthophotos: Annotated[int, Field(strict=True, ge=3)] = Field(
        description="The number of orthophotos."
    )
    size_px: Annotated[int, Field(strict=True, ge=128, le=20_000)] = Field(
        description="Height and width of an orthophoto, at 0.25 m a pixel."
    )
    seed: Seed = Field(description="The seed of the images and masks.")
