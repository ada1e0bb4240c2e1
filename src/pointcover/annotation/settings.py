"""Settings of annotation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointcover.annotation.propagation.settings import (
    GeodesicSettings,
    LinkSettings,
    NearestSettings,
    RandomWalkerSettings,
    SuperpixelSettings,
)
from pointcover.validation import Count, Section, Share
from pointcover.vectors.settings import VectorSettings


class AnnotateSettings(Section):
    """Which simulated annotator clicks, and how clicks grow into areas."""

    sampler: Literal[
        "uniform",
        "equal",
        "proportional",
        "spread",
        "boundary",
        "interior",
        "scribbles",
        "positive",
        "dense",
        "none",
    ]
    unit: Literal["per_tile", "per_class", "percent", "total"]
    boundary_px: Annotated[float, Field(ge=1, le=4096)]
    scribble_px: Count
    positive_class: str | None
    position_noise_px: Annotated[float, Field(ge=0, le=4096)]
    label_noise_rate: Share
    propagator: Literal["none", "link", "nearest", "superpixel", "geodesic", "random_walker"]
    link: LinkSettings
    nearest: NearestSettings
    superpixel: SuperpixelSettings
    geodesic: GeodesicSettings
    random_walker: RandomWalkerSettings
    vectors: VectorSettings

    @model_validator(mode="after")
    def _sampler_has_what_it_needs(self) -> "AnnotateSettings":
        if self.sampler == "positive" and self.positive_class is None:
            raise ValueError("sampler 'positive' needs positive_class: name the class to click on")
        if self.sampler == "scribbles" and self.unit == "percent":
            raise ValueError(
                "sampler 'scribbles' does not go with unit 'percent', as a share of the pixels is "
                "no number of strokes: choose per_tile, per_class or total"
            )
        return self
