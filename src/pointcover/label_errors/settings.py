"""Settings of the search for wrong labels."""

from typing import Annotated, Final

from pydantic import Field

from pointcover.image_labels.settings import ImageLabelSettings
from pointcover.label_errors.filters import FILTERS
from pointcover.validation import Count, OneOf

GROUPS: Final = {"tile": "id", "region": "region"}
"""What cross-validation leaves out whole: the attribute of a tile that names it."""


class LabelErrorSettings(ImageLabelSettings):
    """How point labels are checked; the defaults are those of the command line."""

    filter_by: Annotated[str, OneOf(FILTERS)] = Field(
        default="both",
        description="Which labels are listed, by confident learning: noise_rate, class (as many as "
        "are estimated to be wrong, of each pair of classes or of each class), both (that both "
        "list), confident_joint (more of them), or prediction (all that are predicted otherwise).",
    )
    group_by: Annotated[str, OneOf(GROUPS)] = Field(
        default="tile",
        description="What cross-validation leaves out whole: tile, or region (a region of the "
        "card, or an image), which is stricter and needs several of them.",
    )
    folds: Annotated[int, Field(ge=2)] = Field(
        default=5, description="Folds of the cross-validation."
    )
    rounds: Count = Field(
        default=1,
        description="Rounds of cross-validation; from the second on, models are fitted without the "
        "labels that the round before doubted.",
    )
