"""Settings of label propagation, one class a propagator."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Length, Section, Share


class LinkSettings(Section):
    """Growing by lines between near clicks of one class."""

    distance_px: Length


class NearestSettings(Section):
    """Growing into the surroundings of each click."""

    radius_px: Length
    class_radius_px: dict[str, Annotated[float, Field(ge=0, le=4096)]]


class SuperpixelSettings(Section):
    """Growing into the superpixels that clicks lie in."""

    side_px: Length
    compactness: Annotated[float, Field(gt=0)]
    min_fraction: Share


class GeodesicSettings(Section):
    """Growing along the shortest ways by colour and distance."""

    limit_px: Length
    contrast_px: Annotated[float, Field(gt=0)]
    cell_px: Annotated[int, Field(strict=True, ge=1, le=16)]


class RandomWalkerSettings(Section):
    """Growing to where random walkers meet a class first."""

    beta: Annotated[float, Field(gt=0)]
    range_px: Length
    min_probability: Annotated[float, Field(gt=0.5, le=1)]
    cell_px: Annotated[int, Field(strict=True, ge=1, le=16)]
