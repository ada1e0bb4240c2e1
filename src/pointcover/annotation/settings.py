"""Settings of annotation."""

from typing import Annotated

from pydantic import Field, model_validator

from pointcover.annotation.propagation import PROPAGATORS
from pointcover.annotation.propagation.settings import (
    GeodesicSettings,
    LinkSettings,
    NearestSettings,
    RandomWalkerSettings,
    SuperpixelSettings,
)
from pointcover.annotation.samplers import SAMPLERS, UNITS
from pointcover.annotation.samplers.settings import SamplerSettings
from pointcover.validation import OneOf, Section
from pointcover.vectors.settings import VectorSettings


class SimulationSettings(Section):
    """Which clicks a simulated annotator makes."""

    sampler: Annotated[str, OneOf(SAMPLERS, "none")] = Field(
        description="Where simulated clicks fall: uniform, equal or proportional by class, spread, "
        "boundary, interior, scribbles, positive (one class alone), dense (every pixel), or none."
    )
    unit: Annotated[str, OneOf(UNITS)] = Field(
        description="What points counts: clicks per_tile, per_class (and tile), percent of the "
        "labelled pixels, or clicks in total."
    )


class AnnotateSettings(SamplerSettings, SimulationSettings):
    """How clicks are simulated and propagated, and how real annotations are read.

    The fields of the base classes come first, those of the last one before all.
    """

    propagator: Annotated[str, OneOf(PROPAGATORS)] = Field(
        description="How labels are propagated: none, link (lines between near clicks of a class), "
        "nearest, superpixel, geodesic, random_walker."
    )
    link: LinkSettings
    nearest: NearestSettings
    superpixel: SuperpixelSettings
    geodesic: GeodesicSettings
    random_walker: RandomWalkerSettings
    vectors: VectorSettings

    @property
    def of_propagator(self) -> Section | None:
        """The settings of the propagator that is chosen; None where it has none."""
        chosen: Section | None = getattr(self, self.propagator, None)
        return chosen

    @model_validator(mode="after")
    def _sampler_has_what_it_needs(self) -> "AnnotateSettings":
        if self.sampler == "positive" and self.positive_class is None:
            raise ValueError("sampler 'positive' needs positive_class: name the class to click on")
        if self.sampler == "scribbles" and self.unit == "percent":
            raise ValueError(
                "sampler 'scribbles' does not go with unit 'percent', as a percentage of the "
                "pixels is no number of strokes: choose per_tile, per_class or total"
            )
        return self
