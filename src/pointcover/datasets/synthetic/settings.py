"""Settings of the synthetic dataset."""

from typing import Annotated

from pydantic import Field

from pointcover.validation import Section, Seed


class SyntheticSettings(Section):
    """The embedded dataset: how many orthophotos are drawn, how large, from which seed."""

    orthophotos: Annotated[int, Field(strict=True, ge=3)]
    size_px: Annotated[int, Field(strict=True, ge=128, le=20_000)]
    seed: Seed
