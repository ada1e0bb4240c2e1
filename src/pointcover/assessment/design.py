"""The design of a sample: all that its estimators need, kept in the sample's file."""

from typing import Literal

from pointcover.validation import Section


class SampledMap(Section):
    """A map that points were drawn from."""

    name: str
    digest: str
    """Of its pixels and place."""
    height: int
    width: int
    crs: str
    """As WKT."""


class DesignStratum(Section):
    """A stratum and its size."""

    name: str
    units: int
    area_m2: float
    points: int


class DesignPoint(Section):
    """A point and the unit that it stands for."""

    id: int
    map: int
    """Number of its map."""
    row: int
    """Of the unit: of the pixel, or of the block."""
    col: int
    stratum: int
    area_m2: float
    x: float
    """Where the point was written, in the CRS of its map."""
    y: float


class Design(Section):
    """How a sample was drawn."""

    format: Literal[1] = 1
    maps: tuple[SampledMap, ...]
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    block_px: int
    strata_are: Literal["classes", "file", "none"]
    strata: tuple[DesignStratum, ...]
    allocation: str
    seed: int
    assumed: tuple[str, ...]
    """What was assumed of the map for the size and allocation."""
    points: tuple[DesignPoint, ...]
