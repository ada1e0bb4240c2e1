"""Settings of prediction."""

from typing import Annotated

from pydantic import Field

from pointcover.networks.settings import NeighbourSettings
from pointcover.validation import Weight


class MeanFieldSettings(NeighbourSettings):
    """Mean-field CRF after prediction: neighbours of similar colour get the same class."""

    weight: Annotated[
        Weight,
        Field(
            description="What neighbours add to the log-probability of a class, if all of them "
            "have the same colour and that class."
        ),
    ]
    iterations: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=50,
            description="Iterations of mean-field inference, for example 5; 0 leaves predictions "
            "unchanged.",
        ),
    ]
