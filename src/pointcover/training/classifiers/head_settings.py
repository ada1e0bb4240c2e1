"""Settings of the heads of pixel classifiers: which features they use, how they are fitted."""

from typing import Annotated

from pydantic import Field

from pointcover.networks.pixel_classifiers.settings import BlockName
from pointcover.validation import Count, Section

Inputs = Annotated[
    tuple[BlockName, ...],
    Field(
        min_length=1,
        description="Features: filter_bank, local_statistics, encoder (left out where there is no "
        "encoder).",
    ),
]


class LogisticRegressionSettings(Section):
    """Multinomial logistic regression on standardised features."""

    inputs: Inputs
    inverse_penalties: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(
            min_length=1,
            description="Values of scikit-learn's C, the inverse of the penalty, one of which is "
            "chosen by cross-validation over tiles.",
        ),
    ]
    folds: Annotated[int, Field(ge=2, description="Folds of the cross-validation.")]


class LinearDiscriminantSettings(Section):
    """Linear discriminant analysis of standardised features."""

    inputs: Inputs
    shrinkages: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(
            min_length=1,
            description="Fractions of the covariance that are replaced by a multiple of the "
            "identity, one of which is chosen by cross-validation over tiles.",
        ),
    ]
    folds: Annotated[int, Field(ge=2, description="Folds of the cross-validation.")]


class PerceptronSettings(Section):
    """A perceptron with one hidden layer on standardised features."""

    inputs: Inputs
    hidden: Annotated[Count, Field(description="Units of the hidden layer.")]
    steps: Annotated[Count, Field(description="Steps of its fit, of 128 pixels each.")]
    unlabelled_pixels: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            description="It is fitted a second time, also on about so many unlabelled pixels of "
            "the labelled train tiles, drawn at random, with the probabilities that the fitted "
            "classifiers give them; 0 is off.",
        ),
    ]


class TreesSettings(Section):
    """Decision trees that are averaged."""

    inputs: Inputs
    trees: Annotated[Count, Field(description="Number of trees.")]
    max_depth: Annotated[
        Annotated[int, Field(ge=1, le=64)] | None,
        Field(description="Largest depth of a tree; null for none."),
    ]
    min_samples_leaf: Annotated[Count, Field(description="Fewest labelled pixels of a leaf.")]


class BoostingSettings(Section):
    """Gradient boosting of decision trees, on histograms of the features."""

    inputs: Inputs
    rounds: Annotated[Count, Field(description="Rounds, with one tree for each class.")]
    learning_rate: Annotated[float, Field(gt=0, le=1, description="Factor of each round's trees.")]
    max_leaves: Annotated[int, Field(ge=2, description="Most leaves of a tree.")]
    min_samples_leaf: Annotated[Count, Field(description="Fewest labelled pixels of a leaf.")]
