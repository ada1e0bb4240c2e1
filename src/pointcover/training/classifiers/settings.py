"""How pixel classifiers are fitted."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pointcover.networks.pixel_classifiers.settings import BlockName

Power = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LinearFitSettings(_Settings):
    """Multinomial logistic regression."""

    kind: Literal["linear"] = "linear"
    inputs: tuple[BlockName, ...] = ("filter_bank", "encoder")
    class_balance: Power = Field(
        default=0.5,
        description="Labels are weighted by 1 / frequency ** this of their class: 0 not at all, 1 "
        "so that all classes count the same.",
    )
    inverse_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(3e-4, 1e-3, 3e-3, 1e-2),
        min_length=1,
        description="Chosen among by cross-validation over groups (scikit-learn's C).",
    )
    folds: Annotated[int, Field(ge=2)] = 3
    clip: Annotated[float, Field(gt=0)] = 6
    max_iterations: Annotated[int, Field(ge=1)] = 300


class PerceptronFitSettings(_Settings):
    """A perceptron with one hidden layer."""

    kind: Literal["perceptron"] = "perceptron"
    inputs: tuple[BlockName, ...] = ("filter_bank", "encoder")
    class_balance: Power = Field(default=0.5, description="As of the linear fit.")
    hidden: Annotated[int, Field(ge=1)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, description="Of the hidden units, while it is fitted."
    )
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.2, description="Of the features, while it is fitted."
    )
    steps: Annotated[int, Field(ge=1)] = 1500
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.3
    clip: Annotated[float, Field(gt=0)] = 6


class TreesFitSettings(_Settings):
    """A forest or gradient boosting."""

    kind: Literal["random_forest", "extra_trees", "gradient_boosting"] = "random_forest"
    inputs: tuple[BlockName, ...] = ("filter_bank",)
    class_balance: Power = Field(default=1, description="As of the linear fit.")
    trees: Annotated[int, Field(ge=1)] = Field(
        default=100, description="Of a forest; rounds of boosting, with a tree for each class."
    )
    max_depth: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=12, description="Deeper trees are slower and, on other land, worse."
    )
    min_samples_leaf: Annotated[int, Field(ge=1)] = 3
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="Of gradient boosting."
    )
    max_leaves: Annotated[int, Field(ge=2)] = Field(
        default=8, description="Leaves of a tree of gradient boosting."
    )


FitSettings = Annotated[
    LinearFitSettings | PerceptronFitSettings | TreesFitSettings, Field(discriminator="kind")
]


class ClassifierFitSettings(_Settings):
    """One head, or several whose probabilities are averaged."""

    heads: tuple[FitSettings, ...] = Field(min_length=1)
    average: Literal["geometric", "arithmetic"] = "geometric"
    max_pixels: Annotated[int, Field(ge=1)] = Field(
        default=200_000, description="Labelled pixels that are used at most, drawn at random."
    )
