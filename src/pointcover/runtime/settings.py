"""Settings of the machine. No result depends on them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointcover.validation import Section


class MachineSettings(Section):
    """What the machine is: how much is done side by side, and where. No result depends on it."""

    workers: Annotated[int, Field(strict=True, ge=-1, le=256)]
    backend: Literal["loky", "threading", "dask"]
    readers: Literal["auto"] | Annotated[int, Field(strict=True, ge=0, le=256)]

    @model_validator(mode="after")
    def _somebody_works(self) -> "MachineSettings":
        if self.workers == 0:
            raise ValueError("workers is 0: wanted 1 or more, or -1 for one a core")
        return self
