"""Settings of sampling strategies and of the simulated annotator's errors."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import ClassName, Count, Fraction, Section


class SamplerSettings(Section):
    """Settings of sampling strategies, and the noise of the simulated annotator."""

    boundary_px: Annotated[float, Field(ge=1, le=4096)] = Field(
        description="Sampler boundary: the greatest distance of a click to a pixel of another "
        "class."
    )
    scribble_px: Count = Field(
        description="Sampler scribbles: the greatest length of a stroke in pixels; points counts "
        "strokes."
    )
    positive_class: ClassName | None = Field(
        description="Sampler positive: the name of the one class that is clicked."
    )
    position_noise_px: Annotated[float, Field(ge=0, le=4096)] = Field(
        description="Position noise: the greatest distance by which a click is moved, pixels."
    )
    label_noise_rate: Fraction = Field(
        description="Label noise: the probability that a click gets the label of another class."
    )
