"""Settings of sampling strategies and of the simulated annotator's errors."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Count, Section, Share


class SamplerSettings(Section):
    """What sampling strategies read, and how often and how far a simulated annotator errs."""

    boundary_px: Annotated[float, Field(ge=1, le=4096)] = Field(
        description="Sampler boundary: the greatest distance of a click to a pixel of another "
        "class."
    )
    scribble_px: Count = Field(
        description="Sampler scribbles: the greatest length of a stroke in pixels; points counts "
        "strokes."
    )
    positive_class: str | None = Field(
        description="Sampler positive: the name of the one class that is clicked."
    )
    position_noise_px: Annotated[float, Field(ge=0, le=4096)] = Field(
        description="A click lands anywhere up to this far from where it was meant."
    )
    label_noise_rate: Share = Field(
        description="The probability that a click gets the label of another class."
    )
