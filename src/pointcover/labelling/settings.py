"""Settings of the page for labelling."""

import re
from typing import Final

from pydantic import Field, field_validator

from pointcover.active.settings import Acquisition
from pointcover.labels import parse_colour
from pointcover.validation import Count, Section

NAME: Final = re.compile(r"[\w.-]([\w .-]{0,58}[\w.-])?")
"""Names of classes that dataset cards allow, without blanks at their ends."""


class ClassSettings(Section):
    """A class of a project."""

    name: str
    colour: str = Field(description="Such as #3C1098.")

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"got the class name {name[:60]!r}, wanted up to 60 letters, digits, blanks and "
                f"the characters . - _"
            )
        return name

    @field_validator("colour")
    @classmethod
    def _is_colour(cls, colour: str) -> str:
        parse_colour(colour)
        return colour


class LabelSettings(Section):
    """How the map follows the clicks."""

    acquisition: Acquisition = Field(
        default="margin",
        description="Acquisition function that chooses the next point: a small margin between the "
        "two most probable classes, a high entropy, or the disagreement of the classifiers.",
    )
    distance_px: float = Field(
        default=32.0,
        gt=0,
        le=4096,
        description="Minimum distance of a suggested point from other points, in pixels of the "
        "screen's resolution.",
    )
    edge_px: int = Field(
        default=3,
        ge=0,
        le=64,
        description="Minimum distance of a suggested point from pixels of another predicted class, "
        "in pixels of the screen's resolution.",
    )
    top_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Suggested points are drawn at random from this fraction of the candidates, "
        "the most uncertain ones of each class; 0: the most uncertain ones.",
    )
    balanced_from: int = Field(
        default=5,
        ge=0,
        description="Labels a class, on average, from which suggested points are of all predicted "
        "classes alike; before, the classes that are predicted are often wrong.",
    )
    trees: Count = Field(default=24, description="Trees of the forest that follows the clicks.")
    encoder: bool = Field(
        default=True,
        description="Use a frozen ImageNet-pretrained encoder, too, if its weights are installed.",
    )
    debounce_ms: int = Field(
        default=60, ge=0, le=5000, description="Time to wait for further clicks before a new fit."
    )
    block_px: int = Field(
        default=512,
        ge=64,
        multiple_of=64,
        description="Side of the blocks by which features are computed and kept.",
    )
    cache_mib: Count = Field(
        default=1800, description="Memory for features of blocks, the longest unused leave first."
    )
    score_block_px: Count = Field(
        default=256,
        description="Side of the squares of an image that cross-validation leaves out as one.",
    )
    folds: int = Field(default=5, ge=2, le=20, description="Folds of the cross-validation.")
    seed: int = Field(default=1, ge=0, description="Seed of the forest and of the folds.")
