"""Settings of evaluation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointcover.prediction.settings import MeanFieldSettings
from pointcover.validation import Count, Section

Panels = Annotated[int, Field(strict=True, ge=0, le=64)]


class EvaluateSettings(Section):
    """How the test split is scored and shown."""

    batch_size: Count
    views: Literal["one", "d4"]
    priors: dict[str, Annotated[float, Field(gt=0, le=1)]]
    prior_strength: Annotated[float, Field(gt=0, le=10)]
    ensemble: Annotated[str, Field(min_length=1)]
    crf: MeanFieldSettings
    erode_px: Annotated[int, Field(strict=True, ge=0, le=64)]
    leave_out: tuple[str, ...]
    oracle: bool
    panels: Panels
    worst: Panels
    train_panels: Panels
    precision: Literal["auto", "fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]

    @model_validator(mode="after")
    def _strength_is_of_priors(self) -> "EvaluateSettings":
        if not self.priors and self.prior_strength != 1:
            raise ValueError(
                f"prior_strength is {self.prior_strength:g}, but there are no priors: set it to 1, "
                f"or give priors"
            )
        return self
