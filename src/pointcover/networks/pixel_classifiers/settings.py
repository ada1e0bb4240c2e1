"""Settings of pixel classifiers: enough to build a module that takes the weights of model.pt."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from pointcover.features.settings import (
    EncoderFeatureSettings,
    FilterBankSettings,
    LocalStatisticsSettings,
)
from pointcover.validation import Section

BlockName = Literal["filter_bank", "local_statistics", "encoder"]

LARGEST_RADIUS_PX: Final = 8
"""Of smoothing: each neighbour is some sixty nodes of an exported ONNX file."""


class EncoderBlockSettings(Section):
    """A frozen encoder as a block of features."""

    name: str = Field(
        default="tf_efficientnet_lite0", description="Name of the encoder, as timm has it."
    )
    bands: tuple[int, int, int] = Field(
        default=(1, 2, 3),
        description="Numbers of the bands that the encoder sees as red, green and blue.",
    )
    mean: tuple[float, float, float] = Field(
        default=(0.5, 0.5, 0.5), description="Of each band in 0..1, as the weights expect it."
    )
    std: tuple[float, float, float] = Field(
        default=(0.5, 0.5, 0.5), description="Of each band in 0..1, as the weights expect it."
    )
    blocks: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        description="Blocks of a vision transformer that are its levels, from 1; null for four, "
        "evenly spaced.",
    )
    features: EncoderFeatureSettings = EncoderFeatureSettings()


class PixelFeatureSettings(Section):
    """Blocks of features that heads can use."""

    filter_bank: FilterBankSettings | None = FilterBankSettings()
    local_statistics: LocalStatisticsSettings | None = None
    encoder: EncoderBlockSettings | None = None

    @property
    def blocks(self) -> tuple[BlockName, ...]:
        """Names of the blocks, in the order of their features."""
        names: tuple[BlockName, ...] = ("filter_bank", "local_statistics", "encoder")
        return tuple(name for name in names if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _has_features(self) -> "PixelFeatureSettings":
        """Refuse a classifier without features."""
        if not self.blocks:
            raise ValueError(
                "got no features, wanted a filter bank, local statistics or an encoder: add one"
            )
        return self


class _HeadSettings(Section):
    """What the settings of heads share."""

    inputs: tuple[BlockName, ...] = Field(
        min_length=1, description="Blocks of features, in the order that the features were fitted."
    )


class LinearHeadSettings(_HeadSettings):
    """A linear layer of standardised features, or a perceptron with one hidden layer."""

    kind: Literal["linear"] = "linear"
    hidden: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Units of the hidden layer; 0 for none."
    )
    clip: float = Field(
        default=6,
        gt=0,
        description="Standardised filters and local statistics are clipped at so many standard "
        "deviations. Those of an encoder are not, so that its levels can be projected before they "
        "are enlarged.",
    )


class TreesHeadSettings(_HeadSettings):
    """Decision trees; the numbers are sizes of tensors, known after the fit."""

    kind: Literal["trees"] = "trees"
    trees: Annotated[int, Field(ge=1)]
    nodes: Annotated[int, Field(ge=1)] = Field(description="Of the tree that has the most.")
    active: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        description="How many trees, the deepest first, have a node below the root, below its "
        "children, and so on."
    )
    output: Literal["probability", "score"] = Field(
        default="probability",
        description="Leaves hold parts of probabilities (a forest) or of scores (boosting).",
    )


class MeanHeadSettings(Section):
    """Several heads, whose probabilities are averaged."""

    kind: Literal["mean"] = "mean"
    heads: tuple[LinearHeadSettings | TreesHeadSettings, ...] = Field(min_length=1)
    average: Literal["geometric", "arithmetic"] = Field(
        default="geometric", description="Of log-probabilities, or of probabilities."
    )


HeadSettings = Annotated[
    LinearHeadSettings | TreesHeadSettings | MeanHeadSettings, Field(discriminator="kind")
]


class SmoothingSettings(Section):
    """How log-probabilities are averaged over neighbours of similar colour."""

    radius_px: Annotated[int, Field(ge=1, le=LARGEST_RADIUS_PX)] = Field(
        default=3, description="Distance of the farthest neighbours that count."
    )
    band_stds: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1,
        description="Standard deviation of each band of the train images, of values from 0 to 255.",
    )
    colour: float = Field(
        default=0.4,
        gt=0,
        description="From this distance of colours on, neighbours do not count: the root mean "
        "square over the bands, in standard deviations.",
    )


class PixelClassifierSettings(Section):
    """A pixel classifier without its weights."""

    bands: Annotated[int, Field(ge=1)]
    classes: Annotated[int, Field(ge=1)]
    features: PixelFeatureSettings
    margin_px: int = Field(
        ge=0, description="Pixels around a window on which its scores depend, or nearly."
    )
    alignment_px: int = Field(ge=1, description="Windows are read from multiples of this on.")
    head: HeadSettings
    smoothing: SmoothingSettings | None = None

    @model_validator(mode="after")
    def _has_stds(self) -> "PixelClassifierSettings":
        """Refuse standard deviations of other bands."""
        if self.smoothing and len(self.smoothing.band_stds) != self.bands:
            raise ValueError(
                f"got {len(self.smoothing.band_stds)} standard deviation(s) for smoothing, wanted "
                f"one for each of {self.bands} band(s): give those of the images"
            )
        return self

    @model_validator(mode="after")
    def _has_inputs(self) -> "PixelClassifierSettings":
        """Refuse heads that use features which there are not, and bands which there are not."""
        heads = self.head.heads if isinstance(self.head, MeanHeadSettings) else (self.head,)
        wanted = {name for head in heads for name in head.inputs}
        if missing := sorted(wanted - set(self.features.blocks)):
            raise ValueError(
                f"got a head with the inputs {missing}, wanted some of "
                f"{list(self.features.blocks)}: add these features, or take them from `inputs`"
            )
        encoder = self.features.encoder
        if encoder and not all(1 <= band <= self.bands for band in encoder.bands):
            raise ValueError(
                f"got encoder bands {list(encoder.bands)}, wanted numbers from 1 to {self.bands}: "
                "choose three bands of the images; the same one may come more than once"
            )
        return self
