"""Arguments, options and checks that several commands share.

Only typer and settings are imported at the top. Commands import everything else when they run, so
that `pointcover --help` is fast.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from pointcover.maps.settings import ReadingSettings
from pointcover.prediction.settings import DeviceSettings
from pointcover.raster.addresses import parse_image
from pointcover.validation import OneOf, Section

if TYPE_CHECKING:
    from pointcover.api.model import Model
    from pointcover.maps.orthophotos import Orthophoto

    Raster = Path
else:

    class Raster:
        """A path or an address; for typer no `Path`, since it would turn addresses into paths."""


def setting(
    section: type[Section], name: str, *flags: str, text: str | None = None, **options: Any
) -> Any:
    """Return a command-line option for a setting, with its help, bounds and choices.

    Args:
        section: the settings class.
        name: of the field.
        flags: of the option; by default derived from the parameter's name.
        text: of the help; by default the field's description.
        options: further arguments of `typer.Option`.
    """
    field = section.model_fields[name]
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    for rule in field.metadata:
        if isinstance(rule, OneOf):
            choices = tuple(rule.names())
        for bound, argument in (("ge", "min"), ("le", "max")):
            if getattr(rule, bound, None) is not None:
                options[argument] = getattr(rule, bound)
    if choices:
        options |= {"metavar": "|".join(choices), "callback": _one_of(choices)}
    return typer.Option(*flags, help=text or field.description, **options)


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Return a callback that rejects other values of an option."""

    def check(value: str) -> str:
        if value not in choices:
            raise typer.BadParameter(f"got {value!r}, wanted one of {', '.join(choices)}")
        return value

    return check


def default(section: type[Section], name: str) -> Any:
    """Return the default of a setting."""
    return section.model_fields[name].default


# Arguments and options of several commands
ModelReference = Annotated[
    str,
    typer.Argument(
        help="A folder with model.pt and model.json, an exported model.onnx, an MLflow run "
        "(runs:/ID) or a registered model (models:/NAME@champion)."
    ),
]


def raster(text: str) -> Path:
    """Return the path of a raster, or an address, which only this function makes."""
    try:
        return parse_image(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Images = Annotated[
    list[Raster],
    typer.Argument(
        parser=raster,
        help="Orthophotos: GeoTIFF, PNG, JPEG, JPEG 2000; or addresses of cloud-optimised "
        "GeoTIFFs, https://… or s3://….",
    ),
]


def check_finite(value: float | None) -> float | None:
    """Reject infinity and NaN, which typer's own bounds allow."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"got {value}, wanted a finite number")
    return value


Resample = Annotated[bool, setting(ReadingSettings, "resample", "--resample")]
GsdM = Annotated[
    float | None,
    setting(ReadingSettings, "gsd_m", min=0.0001, max=100_000, callback=check_finite),
]
Bands = Annotated[str | None, setting(ReadingSettings, "bands")]
ValueRange = Annotated[str | None, setting(ReadingSettings, "value_range")]
Also = Annotated[
    list[str] | None,
    typer.Option(help="A further model; the probabilities of all are averaged. May be repeated."),
]
Device = Annotated[str, setting(DeviceSettings, "device")]
Precision = Annotated[str, setting(DeviceSettings, "precision")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


def without_maps(images: list[Path]) -> list[Path]:
    """Return images without the maps among them, and print a note on each map.

    Raises:
        ValueError: all files are maps.
    """
    from pointcover.maps.map_files import leave_out_maps

    given, maps = leave_out_maps(images)
    for path in maps:
        typer.echo(f"note: {path} is a map of pointcover, so it is skipped", err=True)
    return given


def print_remarks(orthophotos: "Sequence[Orthophoto]") -> None:
    """Print notes on checks of the images that were not possible, and on changes to them."""
    for remark in (remark for orthophoto in orthophotos for remark in orthophoto.remarks):
        typer.echo(f"note: {remark}", err=True)


def check_inputs(references: Sequence[str], images: Sequence[Path]) -> None:
    """Check that models and images exist. Torch is not imported, which would take seconds.

    Raises:
        FileNotFoundError: a model, the MLflow store or an image is missing.
        ValueError: a file is no raster.
    """
    from pointcover.models.references import check_reference
    from pointcover.tracking.store import project_root

    for reference in references:
        check_reference(reference, project_root())
    if images:
        from pointcover.raster.raster_io import check_raster_file

        for path in images:
            check_raster_file(path)


def open_models(references: Sequence[str], device: str, precision: str) -> "Model":
    """Load the models of an ensemble onto a device; print a note on each ONNX model.

    Args:
        references: of the models.
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `fp32` or `bf16`.

    Raises:
        ValueError: there is no such device, or a model is missing or does not match the first one.
    """
    from pointcover.api.model import open_model

    model = open_model(*references, device=device, precision=precision)
    for each in model.models:
        if each.engine != "torch":
            typer.echo(f"note: {each.reference} runs on {each.engine}, on the CPU", err=True)
    return model


def check_outputs(out: Path, *beside: str, force: bool) -> None:
    """Check that a file can be written, and make its folder.

    Args:
        out: the file.
        beside: endings of further files with the same stem.
        force: whether existing files may be replaced.

    Raises:
        OSError: a file cannot be written, or exists and may not be replaced.
    """
    if not out.name or out.is_dir():
        raise IsADirectoryError(f"{out} is a folder, wanted the name of a file to write")
    paths = [out, *(out.with_suffix(ending) for ending in beside)]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise FileExistsError(
            f"{' and '.join(str(path) for path in there)} {'exist' if there[1:] else 'exists'}: "
            f"choose another name, or add --force to replace"
        )
    for path in there:
        if path.is_dir():
            raise IsADirectoryError(
                f"{path} is a folder, but a file of this name is to be written: choose another name"
            )
    check_folder(out)


def check_folder(out: Path) -> None:
    """Make the folder of a file, and check that files can be written there.

    Raises:
        OSError: the folder cannot be made or written.
    """
    from pointcover.runtime.atomic_files import probe_folder

    try:
        probe_folder(out.parent)
    except OSError as error:
        is_file = isinstance(error, FileExistsError)
        reason = f"{out.parent} is not a folder" if is_file else error.strerror
        raise OSError(
            f"{out} cannot be written ({reason}): choose another name, in a folder with write "
            f"permission"
        ) from None
