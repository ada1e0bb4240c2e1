"""Settings of the machine. No result depends on them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pointcover.runtime.parallel import BACKENDS
from pointcover.validation import OneOf, Section


class MachineSettings(Section):
    """Processes and cached features on this machine. No result depends on it."""

    workers: Annotated[int, Field(strict=True, ge=-1, le=256)] = Field(
        description="Orthophotos that tile and annotate process at a time; -1 for one per core."
    )
    backend: Annotated[str, OneOf(BACKENDS)] = Field(
        description="loky (processes), threading, or dask (the cluster of DASK_SCHEDULER_ADDRESS)."
    )
    readers: Literal["auto"] | Annotated[int, Field(strict=True, ge=0, le=256)] = Field(
        description="Processes that read tiles for the network; auto is 0 on a CPU, and all cores "
        "but one with a GPU."
    )

    feature_cache: str | None = Field(
        description="Folder that keeps the features of encoders for further experiments on the "
        "same tiles, such as ~/.cache/pointcover; null keeps none. It pays where "
        "train.classifier.encoder_views is high."
    )
    feature_cache_gb: Annotated[float, Field(gt=0)] = Field(
        description="The folder's largest size, in 10^9 bytes: those that were not used for "
        "longest are removed. A megapixel takes about 0.25 at scale 2, and 1.2 at scales 2 and 4."
    )

    @field_validator("feature_cache")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).expanduser().is_absolute():
            raise ValueError(
                f"got {value!r}, wanted null or an absolute path: DVC runs experiments in "
                f"temporary folders. Try ~/.cache/pointcover"
            )
        return value

    @model_validator(mode="after")
    def _has_workers(self) -> "MachineSettings":
        if self.workers == 0:
            raise ValueError("workers is 0: wanted 1 or more, or -1 for one per core")
        return self
