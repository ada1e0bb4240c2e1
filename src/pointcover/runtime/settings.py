"""Settings of the machine. No result depends on them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointcover.runtime.parallel import BACKENDS
from pointcover.validation import OneOf, Section


class MachineSettings(Section):
    """How much is done at a time, and where. No result depends on it."""

    workers: Annotated[int, Field(strict=True, ge=-1, le=256)] = Field(
        description="Orthophotos that tile and annotate process at a time; -1: one per core."
    )
    backend: Annotated[str, OneOf(BACKENDS)] = Field(
        description="loky (processes), threading, or dask (the cluster of DASK_SCHEDULER_ADDRESS)."
    )
    readers: Literal["auto"] | Annotated[int, Field(strict=True, ge=0, le=256)] = Field(
        description="Processes that read tiles for the network; auto: 0 on a CPU, with a GPU all "
        "cores but one."
    )

    @model_validator(mode="after")
    def _has_workers(self) -> "MachineSettings":
        if self.workers == 0:
            raise ValueError("workers is 0: wanted 1 or more, or -1 for one per core")
        return self
