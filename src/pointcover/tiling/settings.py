"""Settings of tiling."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Section, Seed


class TileSettings(Section):
    """How orthophotos are cut into tiles, and regions split into train, val and test."""

    size_px: Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=32)] = Field(
        description="Height and width of a tile, after downsampling; a multiple of 32."
    )
    downsample: Annotated[int, Field(strict=True, ge=1, le=32)] = Field(
        description="The factor by which the height and width of every orthophoto are reduced "
        "first; 1 keeps all pixels."
    )
    split_seed: Seed = Field(
        description="The seed of the random split of regions, where the card gives fractions."
    )
