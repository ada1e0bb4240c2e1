"""Settings of prediction."""

from typing import Annotated, Literal

from pydantic import Field

from pointcover.validation import ClassName, Length, Section, Weight


class DeviceSettings(Section):
    """Device and precision of a network."""

    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Precision of the model: fp32, bf16, or auto: bf16 if the processor "
        "supports it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Device of the model: cpu, cuda, or auto: a GPU if there is one.",
    )


Views = Literal["one", "d4"]
"""Views of an image that are predicted: one, or the eight symmetries of the square (D4)."""


class MeanFieldSettings(Section):
    """A conditional random field on predictions: similar neighbours get the same class."""

    iterations: Annotated[int, Field(strict=True, ge=0, le=50)] = Field(
        default=0,
        description="Mean-field iterations of a conditional random field on the predictions, by "
        "which neighbours of similar colour get the same class: 5 are usual, 0 is off.",
    )
    weight: Weight = Field(
        default=10.0,
        description="Added to a class's log-probability if all neighbours have that class and "
        "the same colour.",
    )
    radius_px: Annotated[int, Field(strict=True, ge=1, le=32)] = Field(
        default=3, description="Largest distance of neighbours along each axis."
    )
    sigma_px: Length = Field(
        default=3.0, description="Standard deviation of the spatial kernel, in pixels."
    )
    sigma_colour: Annotated[float, Field(gt=0, le=2)] = Field(
        default=0.1, description="Standard deviation of the colour kernel; white is 1."
    )


class PriorSettings(Section):
    """Class priors of the area that is mapped."""

    fractions: dict[ClassName, float] = Field(
        description="Fraction of the area that each class covers, such as "
        "{field: 0.6, forest: 0.4}, if it differs from that of the training labels.",
    )
    strength: Annotated[float, Field(ge=0, le=10)] = Field(
        default=1.0,
        description="How strongly the priors correct the predictions: 1 is Bayes' rule, "
        "0 changes nothing.",
    )


class LayerSettings(Section):
    """Optional layers of a map, after class and confidence."""

    entropy: bool = Field(default=False, description="Write the entropy, too.")
    probabilities: bool = Field(
        default=False, description="Write the probability of each class, too."
    )
