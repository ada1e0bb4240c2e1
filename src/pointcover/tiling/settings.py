"""Settings of tiling."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Section, Seed


class TileSettings(Section):
    """How orthophotos are cut and regions divided among train, val and test."""

    size_px: Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=32)]
    downsample: Annotated[int, Field(strict=True, ge=1, le=32)]
    split_seed: Seed
