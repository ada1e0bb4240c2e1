"""The command line: what one wants of a run that is no stage of the pipeline.

Only typer is imported here, each command imports what it needs: `pointcover --help` does not wait.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pointcover.maps.orthophotos import Orthophoto
    from pointcover.models.load import NamedModel


class Device(StrEnum):
    """Where a network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """What a network computes in."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


# What several commands take
ModelReference = Annotated[
    str,
    typer.Argument(
        help="A folder with model.pt and model.json, an exported model.onnx, an MLflow run "
        "(runs:/ID) or a registered model (models:/NAME@champion)."
    ),
]
Images = Annotated[list[Path], typer.Argument(help="Orthophotos: GeoTIFF, PNG, JPEG, JPEG 2000.")]
Resample = Annotated[
    bool,
    typer.Option(
        "--resample",
        help="Bring images of another GSD to that of training, and their maps.",
    ),
]


def check_finite(value: float | None) -> float | None:
    """Refuse numbers that are none, which typer's own bounds let pass."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"got {value}, wanted a number")
    return value


GsdM = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        max=100_000,
        callback=check_finite,
        help="GSD of images that do not tell it, in metres.",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        help="Which bands of the images the model's are, such as 3,2,1. By default as in training."
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        help="Which values of the images are black and white, such as 0,2047. By "
        "default as in training."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows at a time.")]
DeviceChoice = Annotated[Device, typer.Option(help="Where the network runs.")]
PrecisionChoice = Annotated[
    Precision, typer.Option(help="What it computes in; auto is bf16 where that is fast.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def without_maps(images: list[Path]) -> list[Path]:
    """Return images without the maps among them, and say which these are.

    Raises:
        ValueError: all are maps.
    """
    from pointcover.maps.map_files import leave_out_maps

    given, maps = leave_out_maps(images)
    for path in maps:
        typer.echo(f"note: {path} is a map of pointcover, and is left out", err=True)
    return given


def tell_remarks(orthophotos: "list[Orthophoto]") -> None:
    """Return what a user should know of the images."""
    for remark in (remark for orthophoto in orthophotos for remark in orthophoto.remarks):
        typer.echo(f"note: {remark}", err=True)


def tell_engines(models: "list[NamedModel]") -> None:
    """Return which models something else than torch runs."""
    for each in models:
        if each.engine != "torch":
            typer.echo(f"note: {each.reference} runs on {each.engine}, on the CPU", err=True)


def check_outputs(out: Path, *beside: str, force: bool) -> None:
    """Check before any work that a file can be written, and may be; its folder is made.

    Args:
        out: the file.
        beside: the endings of what lies beside it under its name.
        force: what is there may be replaced.

    Raises:
        OSError: one of them cannot be written, or is there.
    """
    if not out.name or out.is_dir():
        raise IsADirectoryError(f"{out} is a folder, wanted the name of a file to write")
    paths = [out, *(out.with_suffix(ending) for ending in beside)]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise FileExistsError(
            f"{' and '.join(str(path) for path in there)} {'exist' if there[1:] else 'exists'}: "
            f"choose another name, or say --force to replace"
        )
    for path in there:
        if path.is_dir():
            raise IsADirectoryError(
                f"{path} is a folder, but a file of this name is to be written: choose another name"
            )
    check_folder(out)


def check_folder(out: Path) -> None:
    """Make the folder of a file and check that a file can be written there.

    Raises:
        OSError: it cannot.
    """
    from pointcover.runtime.atomic_files import probe_folder

    try:
        probe_folder(out.parent)
    except OSError as error:
        is_file = isinstance(error, FileExistsError)
        reason = f"{out.parent} is no folder" if is_file else error.strerror
        raise OSError(
            f"{out} cannot be written ({reason}): choose another name, in a folder where "
            f"you may write"
        ) from None
