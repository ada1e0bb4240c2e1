"""Settings of networks, and of pairs of neighbouring pixels."""

from typing import Annotated

from pydantic import Field

from pointcover.networks.architectures import MODELS
from pointcover.validation import Length, OneOf, Section, Weight


class NetworkSettings(Section):
    """Which network is built. A checkpoint's model.json holds these too."""

    model: Annotated[
        str,
        OneOf(MODELS),
        Field(
            description="Architecture. unet, unetplusplus, fpn, deeplabv3, deeplabv3plus and "
            "segformer need an encoder; unet_scratch and unetplusplus_scratch follow their papers "
            "and want encoder none."
        ),
    ]
    encoder: Annotated[
        str,
        Field(
            min_length=1,
            description="Encoder: a name of segmentation-models-pytorch, a name of timm with the "
            "prefix tu-, or none.",
        ),
    ]
    width: Annotated[
        float,
        Field(
            ge=0.25,
            le=2,
            multiple_of=0.25,
            description="Number of channels as a multiple of the usual one, in steps of 0.25: of "
            "the decoder, or of the whole network where there is no encoder.",
        ),
    ]


class NeighbourSettings(Section):
    """Pairs of neighbouring pixels, weighted by distance and colour."""

    weight: Annotated[Weight, Field(description="Weight of the pairwise term.")]
    radius_px: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=32,
            description="Largest distance between neighbours along each axis, pixels.",
        ),
    ]
    sigma_px: Annotated[
        Length, Field(description="Standard deviation of the Gaussian of distance, pixels.")
    ]
    sigma_colour: Annotated[
        float,
        Field(
            gt=0,
            le=2,
            description="Standard deviation of the Gaussian of colour difference; 1 is the "
            "difference between black and white.",
        ),
    ]
