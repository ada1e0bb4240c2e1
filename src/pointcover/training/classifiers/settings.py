"""Settings of pixel classifiers."""

from typing import Annotated, Literal

from pydantic import Field

from pointcover.features.settings import EncoderViews, Scale
from pointcover.networks.pixel_classifiers.settings import LARGEST_RADIUS_PX
from pointcover.training.classifiers.head_settings import (
    BoostingSettings,
    LinearDiscriminantSettings,
    LogisticRegressionSettings,
    PerceptronSettings,
    TreesSettings,
)
from pointcover.training.classifiers.heads import HEADS
from pointcover.validation import Count, OneOf, Section


class ClassifierSettings(Section):
    """Classifiers of pixel features, from model logistic_regression to classifier_mean."""

    mean_of: Annotated[
        tuple[Annotated[str, OneOf(HEADS)], ...],
        Field(min_length=1, description="The classifiers that model classifier_mean averages."),
    ]
    average: Annotated[
        Literal["geometric", "arithmetic"],
        Field(description="Mean of their log-probabilities, or of their probabilities."),
    ]
    scales: Annotated[
        tuple[Scale, ...],
        Field(
            min_length=1,
            description="The encoder sees images enlarged by each of these factors (powers of 2).",
        ),
    ]
    encoder_views: Annotated[
        EncoderViews,
        Field(
            description="The encoder sees images 1, 2 (also rotated by 180 degrees), 4 (also "
            "flipped) or 8 times (also rotated by 90 degrees), and its features are averaged: more "
            "accurate, at as many times the cost of the encoder.",
        ),
    ]
    blocks: Annotated[
        tuple[Count, ...] | None,
        Field(
            min_length=1,
            description="Blocks of a vision transformer whose features are used, such as [12]; "
            "null for four, evenly spaced.",
        ),
    ]
    smoothing_px: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=LARGEST_RADIUS_PX,
            description="Log-probabilities are averaged over neighbours of similar colour within "
            "this distance: more accurate with one view, except for objects of a few pixels; 0 is "
            "off.",
        ),
    ]
    max_pixels: Annotated[
        Count,
        Field(description="Labelled pixels of a split that are used at most, drawn at random."),
    ]
    logistic_regression: LogisticRegressionSettings
    linear_discriminant: LinearDiscriminantSettings
    perceptron: PerceptronSettings
    random_forest: TreesSettings
    extra_trees: TreesSettings
    gradient_boosting: BoostingSettings
