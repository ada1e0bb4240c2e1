"""Settings of active learning."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointcover.validation import Count, Section


class SuggestSettings(Section):
    """The next clicks, which the model chooses on train tiles and the dense masks answer."""

    acquisitions: tuple[Literal["margin", "entropy", "disagreement"], ...]
    points: Count
    distance_px: Annotated[float, Field(ge=1, le=4096)]
    edge_px: Annotated[int, Field(strict=True, ge=0, le=32)]
    top_fraction: Annotated[float, Field(ge=0, le=1)]
    by_class: bool
    views: Literal["one", "d4"]
    precision: Literal["auto", "fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]

    @model_validator(mode="after")
    def _one_view_disagrees_with_none(self) -> "SuggestSettings":
        if "disagreement" in self.acquisitions and self.views == "one":
            raise ValueError(
                "acquisition 'disagreement' compares turned and flipped views, and views is "
                "'one': set views to d4"
            )
        return self
