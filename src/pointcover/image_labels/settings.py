"""Settings of how labels on images are read, without the pipeline's tiles."""

from pydantic import Field

from pointcover.validation import Count, Section, Seed


class ImageLabelSettings(Section):
    """How images with labels are divided and read."""

    tile_px: Count = Field(
        default=256, description="Side of the tiles that images are divided into, pixels."
    )
    downsample: Count = Field(
        default=1,
        description="The factor by which the height and width of images are reduced first.",
    )
    seed: Seed = Field(default=1, description="Seed of the fits.")
