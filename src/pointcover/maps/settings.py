"""Settings of maps."""

from pydantic import Field

from pointcover.prediction.settings import LayerSettings, MeanFieldSettings, PriorSettings
from pointcover.validation import Count, Section


class MapSettings(Section):
    """How images are mapped."""

    window_px: int = Field(
        description="Height and width of the windows that the model sees. By default that of a "
        "training tile, but at least 512."
    )
    overlap: float = Field(
        default=0.25, description="Fraction of a window that overlaps with the next one."
    )
    blend: bool = Field(
        default=False,
        description="Average probabilities where windows overlap, instead of keeping the centre "
        "of each.",
    )
    average_views: bool = Field(
        default=False,
        description="Average eight rotated and flipped views of each window, at eight times the "
        "cost.",
    )
    crf: MeanFieldSettings | None = None
    priors: PriorSettings | None = None
    layers: LayerSettings = LayerSettings()
    polygons: bool = Field(default=False, description="Write the areas as polygons, too.")
    least_m2: float | None = Field(
        default=None,
        description="Area of the smallest polygon in m²; smaller ones are merged into their "
        "largest neighbour. By default that of 50 pixels.",
    )
    batch_size: Count = Field(default=4, description="Windows that are predicted at a time.")


class ReadingSettings(Section):
    """How images are read, if their files lack metadata or differ from those of training."""

    bands: tuple[int, ...] | None = Field(
        default=None,
        description="Band numbers of the images, from 1, in the order of the model's bands, such "
        "as 3,2,1. By default as in training.",
    )
    value_range: tuple[float, float] | None = Field(
        default=None,
        description="Values of the images that become 0 and 255, such as 0,2047. By default as in "
        "training.",
    )
    gsd_m: float | None = Field(
        default=None,
        description="Ground sample distance in metres of images without a CRS.",
    )
    resample: bool = Field(
        default=False,
        description="Resample images of another GSD to that of training, which the maps have, too.",
    )
