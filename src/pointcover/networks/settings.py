"""Settings of networks."""

from typing import Annotated

from pydantic import Field

from pointcover.networks.architectures import MODELS
from pointcover.validation import OneOf, Section


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
