"""Settings of evaluation."""

from typing import Annotated

from pydantic import Field, model_validator

from pointcover.prediction.settings import DeviceSettings, MeanFieldSettings, PriorSettings, Views
from pointcover.validation import ClassName, Count

Panels = Annotated[int, Field(strict=True, ge=0, le=64)]


class EvaluateSettings(DeviceSettings):
    """How the test split is scored, and which tiles are drawn."""

    batch_size: Count = Field(description="Tiles that are predicted at a time.")
    views: Views = Field(
        description="d4 averages eight rotated and flipped views of each tile, at eight times the "
        "cost; one predicts the tile once."
    )
    priors: dict[ClassName, Annotated[float, Field(gt=0, le=1)]] = Field(
        description="Fraction of the area that each class covers, {field: 0.6, forest: 0.4}, "
        "if it differs from that of the training labels; {} corrects nothing."
    )
    prior_strength: Annotated[float, Field(gt=0, le=10)] = Field(
        description="How strongly priors correct the predictions; 1 is Bayes' rule."
    )
    ensemble: Annotated[str, Field(min_length=1)] = Field(
        description="A folder of further models, whose probabilities are averaged with this "
        "one's; the folder `sources` means none."
    )
    crf: MeanFieldSettings = Field(
        description="A conditional random field on the predictions: neighbours of similar colour "
        "get the same class."
    )
    erode_px: Annotated[int, Field(strict=True, ge=0, le=64)] = Field(
        description="Pixels within this distance of another class are not scored (ISPRS: 3)."
    )
    leave_out: tuple[ClassName, ...] = Field(
        description="Names of classes that are not scored; their true pixels count as unlabelled."
    )
    oracle: bool = Field(
        description="Score dense masks of the validation split, too. They are not used to choose "
        "the model."
    )
    panels: Panels = Field(
        description="Number of test tiles drawn in metrics/panels; always the same tiles."
    )
    worst: Panels = Field(
        description="Number of further test tiles drawn: those of lowest accuracy."
    )
    train_panels: Panels = Field(description="Number of train tiles drawn, with sparse labels.")

    @property
    def known_priors(self) -> PriorSettings | None:
        """The priors with their strength; None if there are none."""
        if not self.priors:
            return None
        return PriorSettings(fractions=self.priors, strength=self.prior_strength)

    @model_validator(mode="after")
    def _strength_is_of_priors(self) -> "EvaluateSettings":
        if not self.priors and self.prior_strength != 1:
            raise ValueError(
                f"prior_strength is {self.prior_strength:g}, but there are no priors: set it to 1, "
                f"or add priors"
            )
        return self
