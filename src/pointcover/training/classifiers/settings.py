"""Settings of pixel classifiers: which features they use, and how each head is fitted."""

from typing import Annotated, Literal

from pydantic import Field

from pointcover.features.settings import Scale
from pointcover.networks.pixel_classifiers.settings import BlockName
from pointcover.training.classifiers.heads import HEADS
from pointcover.validation import Count, OneOf, Section

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


class PerceptronSettings(Section):
    """A perceptron with one hidden layer on standardised features."""

    inputs: Inputs
    hidden: Annotated[Count, Field(description="Units of the hidden layer.")]
    steps: Annotated[Count, Field(description="Steps of its fit, of 128 pixels each.")]


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
    max_pixels: Annotated[
        Count,
        Field(description="Labelled pixels that are used at most, drawn at random."),
    ]
    logistic_regression: LogisticRegressionSettings
    perceptron: PerceptronSettings
    random_forest: TreesSettings
    extra_trees: TreesSettings
    gradient_boosting: BoostingSettings
