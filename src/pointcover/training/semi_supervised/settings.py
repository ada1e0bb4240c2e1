"""Settings of semi-supervised learning."""

from typing import Annotated, Literal

from pydantic import Field

from pointcover.validation import Length, Section, Share, Weight


class ConsistencySettings(Section):
    """Consistency with the EMA teacher on unlabelled pixels, after the warm-up."""

    weight: Annotated[
        Weight,
        Field(
            description="Weight beside the loss on labelled pixels; 0 switches the term off and "
            "saves its second forward pass."
        ),
    ]
    threshold: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The teacher's smallest probability for its class to be the student's "
            "target.",
        ),
    ]
    colour_jitter: Annotated[
        Share,
        Field(
            description="Strong augmentation of the student's images: largest relative change of "
            "brightness, contrast and saturation."
        ),
    ]
    blur_px: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="Strong augmentation: largest standard deviation of the Gaussian blur, "
            "pixels.",
        ),
    ]
    cutout: Annotated[
        Share,
        Field(
            description="Strong augmentation: largest side of the square that is cut out, as a "
            "fraction of the crop's sides."
        ),
    ]


class GatedCrfSettings(Section):
    """Gated CRF loss after the warm-up: neighbours of similar colour get the same class."""

    weight: Annotated[
        Weight,
        Field(
            description="Weight beside the loss on labelled pixels, such as 0.01; 0 switches the "
            "term off."
        ),
    ]
    radius_px: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=32,
            description="Largest distance between neighbours along each axis, in squares of "
            "scale × scale pixels.",
        ),
    ]
    sigma_px: Annotated[
        Length, Field(description="Standard deviation of the kernel of distance, in such squares.")
    ]
    sigma_colour: Annotated[
        float,
        Field(
            gt=0,
            le=2,
            description="Standard deviation of the kernel of colour difference; white is 1.",
        ),
    ]
    scale: Annotated[
        Literal[1, 2, 4, 8],
        Field(
            description="Side of the squares over which images and logits are averaged first, "
            "pixels; larger is faster."
        ),
    ]


class SelfTrainingSettings(Section):
    """Self-training: a fitted network makes pseudo-labels, on which a new one is fitted."""

    rounds: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=10,
            description="Rounds after the first fit, each of as many epochs as that; 0 for none.",
        ),
    ]
    threshold: Annotated[
        Share, Field(description="Smallest probability of a pixel that gets a pseudo-label.")
    ]
    top_fraction: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(
            description="Largest fraction of the pixels predicted as a class that get "
            "pseudo-labels, the most confident ones; null for all."
        ),
    ]
