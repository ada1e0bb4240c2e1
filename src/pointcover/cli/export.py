"""`pointcover export`: write a model as ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import (
    Bands,
    Force,
    GsdM,
    ModelReference,
    Resample,
    ValueRange,
    check_inputs,
    check_outputs,
    print_remarks,
    without_maps,
)


def export(
    model: ModelReference,
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    deepness: Annotated[
        bool,
        typer.Option(
            "--deepness",
            help="Declare the height and width of a training tile, which the QGIS plugin "
            "Deepness needs; otherwise any multiples of 32 px. pointcover itself maps images of "
            "any size with both.",
        ),
    ] = False,
    int8: Annotated[
        list[Path] | None,
        typer.Option(
            help="Quantise the network to int8, with ranges measured on this image, which should "
            "be like those to be mapped. May be repeated."
        ),
    ] = None,
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    force: Force = False,
) -> None:
    """Write a model as one ONNX file, for QGIS, `pointcover predict`, and other readers of ONNX.

    The file is compared with PyTorch on noise of several sizes (with --int8, on the images), and
    not written if the predictions differ.
    """
    from pointcover.runtime.atomic_files import removing_empty_folder
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover export"), removing_empty_folder(out.parent):
        if out.suffix != ".onnx":
            raise ValueError(f"--out: got {out}, wanted a name that ends in .onnx")
        check_outputs(out, force=force)
        check_inputs([model], int8 or [])

        from pointcover.maps.orthophotos import open_orthophoto, parse_reading, spread_windows
        from pointcover.models.export import export_model, remarks_for_deepness
        from pointcover.models.load import load_model
        from pointcover.tracking.store import project_root

        named = load_model(model, project_root())
        reading = parse_reading(bands, value_range, gsd_m, resample)
        given = without_maps(int8 or [])
        orthophotos = [open_orthophoto(path, [named.tile_set], reading) for path in given]
        print_remarks(orthophotos)
        windows = spread_windows(orthophotos, named.tile_set.size_px) if orthophotos else []
        found = export_model(named, out, is_for_deepness=deepness, calibration=windows)
        what = f"of the pixels of {len(windows)} windows" if windows else "of the pixels of noise"
        typer.echo(
            f"{out}: {found.same:.2%} {what} have the same class as in PyTorch, probabilities "
            f"differ by {found.largest:.1e} at most ({', '.join(found.engines)})",
            err=True,
        )
        for remark in remarks_for_deepness(named.tile_set) if deepness else ():
            typer.echo(f"note: {remark}", err=True)
