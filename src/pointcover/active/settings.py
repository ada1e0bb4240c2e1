"""Settings of active learning."""

from typing import Annotated

from pydantic import Field, model_validator

from pointcover.active.acquisitions import ACQUISITIONS
from pointcover.prediction.settings import DeviceSettings, Views
from pointcover.validation import Count, OneOf, Section, Seed

Acquisition = Annotated[str, OneOf(ACQUISITIONS)]

Distance = Annotated[
    float, Field(ge=1, description="Minimum distance of two queries in one image, in pixels.")
]


class QuerySettings(Section):
    """How queries are chosen among the pixels of images, with any acquisition function."""

    distance_px: Distance
    edge_px: Annotated[int, Field(strict=True, ge=0, le=32)] = Field(
        default=0,
        description="Minimum distance of queries from pixels of another predicted class, in "
        "pixels, since labels near edges are uncertain for annotators, too.",
    )
    top_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Draw queries at random from this fraction of the candidates of all images, "
        "the most uncertain ones (with by-class, of each class); 0: choose them in order of "
        "uncertainty, the same number in each image.",
    )
    by_class: bool = Field(
        default=False,
        description="Choose the same number of queries from each predicted class.",
    )
    views: Views = Field(
        default="one",
        description="d4 predicts eight rotated and flipped views of each window, and uses the "
        "uncertainty of their mean, or their disagreement; one predicts the window once.",
    )


class ImageQuerySettings(QuerySettings):
    """How `pointcover suggest` chooses queries on images for an annotator."""

    distance_px: Distance = 32.0
    acquisition: Acquisition = Field(
        default="margin",
        description="Acquisition function: a small margin between the two most probable classes, "
        "a high entropy, the disagreement of several models (or views), or a high confidence.",
    )
    points: Count = Field(default=100, description="Number of queries, over all images.")
    seed: Seed = Field(
        default=1, description="Seed of random numbers, which break ties and draw queries."
    )
    batch_size: Count = Field(default=4, description="Windows that are predicted at a time.")


class SuggestSettings(QuerySettings, DeviceSettings):
    """A simulated round of active learning on train tiles; dense masks answer the queries."""

    acquisitions: tuple[Acquisition, ...] = Field(
        description="margin, entropy, disagreement, confidence. Each adds a stage that writes "
        "data/next/ACQUISITION, a folder for `annotations` with all old and new point labels."
    )
    points: Count = Field(
        description="Number of queries, in annotate.unit: per_tile (on average) or total."
    )

    error_fraction: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="Fraction of the queries where the model is wrong; the others are where it is "
        "right. An annotator sees that in the map, the simulated one in the dense masks. null: "
        "wherever the acquisition function leads. 1 with acquisition confidence: the confident "
        "errors."
    )

    @model_validator(mode="after")
    def _disagreement_has_views(self) -> "SuggestSettings":
        if "disagreement" in self.acquisitions and self.views == "one":
            raise ValueError(
                "acquisition 'disagreement' compares rotated and flipped views, and views is "
                "'one': set views to d4"
            )
        return self
