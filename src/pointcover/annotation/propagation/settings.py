"""Settings of label propagation, one class a propagator that has any."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import ClassName, Fraction, Length, Section

CellPx = Annotated[int, Field(strict=True, ge=1, le=16)]


class LinkSettings(Section):
    """Propagation by straight lines between near clicks of one class."""

    distance_px: Length = Field(description="The greatest distance of two clicks that are linked.")


class NearestSettings(Section):
    """Propagation to the surroundings of each click."""

    radius_px: Length = Field(
        description="The distance from a click up to which pixels get its class."
    )
    class_radius_px: dict[ClassName, Annotated[float, Field(ge=0, le=4096)]] = Field(
        description="Other radii for single classes, by name, such as {road: 2.5}; 0 leaves a "
        "class's clicks as they are."
    )


class SuperpixelSettings(Section):
    """Propagation within superpixels."""

    side_px: Length = Field(description="The approximate side of a superpixel.")
    compactness: Annotated[float, Field(gt=0)] = Field(
        description="The weight of distance against colour, from 1 (superpixels follow every edge) "
        "to 100 (nearly squares)."
    )
    min_fraction: Fraction = Field(
        description="The fraction of the clicks in a superpixel that must agree on its class."
    )


class GeodesicSettings(Section):
    """Propagation by geodesic distance, in which differences of colour count as distance."""

    limit_px: Length = Field(description="The greatest geodesic distance from a click.")
    contrast_px: Annotated[float, Field(gt=0)] = Field(
        description="The distance in pixels that a step from black to white counts as."
    )
    cell_px: CellPx = Field(
        description="The side of the cells that are computed on; 2 halves the resolution."
    )


class RandomWalkerSettings(Section):
    """Propagation by random walks, which seldom cross edges."""

    beta: Annotated[float, Field(gt=0)] = Field(
        description="How much edges hinder a walk: a difference of colour of the tile's usual size "
        "is crossed exp(beta) times as seldom as none."
    )
    range_px: Length = Field(
        description="The distance on ground of one colour over which the probability that a walk "
        "reaches a click falls by a factor of e."
    )
    min_probability: Annotated[float, Field(gt=0.5, le=1)] = Field(
        description="A pixel gets the class that a walk reaches first with at least this "
        "probability."
    )
    cell_px: CellPx = Field(
        description="The side of the cells that are computed on; 2 halves the resolution."
    )
